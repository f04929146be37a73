//! What the log tells in order: its promises, its seals, what checkpoints say of it, investors and the market.

use std::collections::{BTreeMap, BTreeSet};

use super::log::LogCheck;
use super::reference::Reference;
use super::risks::Risks;
use super::rows::Rows;
use super::sealed::SealCheck;
use super::valuations::Markets;
use super::{Error, Progress, ReadModel, ReadModels, unread};
use crate::domain::ids::Position;
use crate::event_store::{ChunkSize, read};
use crate::events::Envelope;

const SLICE_EVENTS: usize = 5_000;
const SLICE_BYTES: usize = 8 << 20;

/// What was told.
pub(super) struct Told {
    /// Investors and the market. Of a sample: closes and ticks only of what it needs.
    pub reference: Reference,
    /// Every portfolio and its shard.
    pub portfolios: BTreeMap<String, i16>,
    /// The market as of each place at which a checkpoint stands or a model was cut.
    pub markets: Markets,
    /// What rows of risk name.
    pub risks: Risks,
    /// Whether figures of risk are computed again.
    pub has_risk: bool,
    /// The last position of each shard.
    pub ends: BTreeMap<i16, i64>,
}

/// Reads the log once, and judges it.
pub(super) async fn tell(
    rows: &mut Rows<'_>,
    read_models: &mut ReadModels,
    ends: BTreeMap<i16, i64>,
    needed: Option<&BTreeSet<String>>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Told, Error> {
    // A model is made of the closes of all assets, which a sample does not have.
    let has_risk = read_models.contains_key("risk") && needed.is_none();
    let risks = if has_risk { Risks::load(rows).await? } else { Risks::default() };
    let mut places: BTreeSet<i64> =
        read_models.values().flat_map(|it| it.checkpoints.price_positions()).collect();
    places.extend(risks.cuts());
    let mut told = Told {
        reference: Reference::default(),
        portfolios: BTreeMap::new(),
        markets: Markets::new(),
        risks,
        has_risk,
        ends,
    };
    let mut log = LogCheck::default();
    let mut seals = SealCheck::start(rows.conn, Vec::new()).await?;
    let mut size = ChunkSize::new(SLICE_EVENTS, SLICE_BYTES);
    let (mut position, mut seen) = (Position(0), 0);
    let total = u64::try_from(rows.report.head).unwrap_or_default();
    loop {
        let limit = i64::try_from(size.events()).unwrap_or(i64::MAX);
        let slice = read::after(&mut *rows.conn, position, limit).await?;
        let Some(last) = slice.events.last() else { break };
        position = last.position;
        size.observe(&slice.events);
        seen += slice.events.len() as i64;
        for event in &slice.events {
            while let Some(place) = places.first().copied().filter(|place| *place < event.position.0) {
                told.markets.insert(place, told.reference.market.clone());
                places.pop_first();
            }
            told.risks.pass(event.position.0, &told.reference.market);
            told.take(event, needed, rows);
            log.take(event, rows.report);
            seals.take(rows.conn, event, rows.report).await?;
            for read_model in read_models.values_mut() {
                read_model.take(event, &told, needed, rows);
            }
        }
        progress(Progress { stage: "log", done: u64::try_from(position.0).unwrap_or_default(), total });
    }
    for place in places {
        told.markets.insert(place, told.reference.market.clone());
    }
    told.risks.pass(i64::MAX, &told.reference.market);
    told.risks.requested(&told.reference);
    seals.finish(rows.report);
    unread::check(rows.conn, seen, rows.report).await?;
    log.finish(rows.conn, &told.reference, rows.report).await?;
    Ok(told)
}

impl Told {
    fn take(&mut self, event: &Envelope, needed: Option<&BTreeSet<String>>, rows: &mut Rows<'_>) {
        if let Some(id) = event.stream_id.as_str().strip_prefix("portfolio-") {
            self.portfolios.entry(id.to_owned()).or_insert(event.shard.0);
        } else if self.is_needed(event, needed)
            && let Err(error) = self.reference.take(event)
        {
            rows.report.differs(format_args!("position {}", event.position), error);
        }
    }

    /// Prices of what a sample does not hold are passed over.
    fn is_needed(&self, event: &Envelope, needed: Option<&BTreeSet<String>>) -> bool {
        let (Some(needed), Some(id)) = (needed, event.stream_id.as_str().strip_prefix("price-")) else {
            return true;
        };
        needed.contains(id) || self.reference.market.pairs.contains(id)
    }
}

impl ReadModel {
    fn take(
        &mut self,
        event: &Envelope,
        told: &Told,
        needed: Option<&BTreeSet<String>>,
        rows: &mut Rows<'_>,
    ) {
        self.checkpoints.meet(event, rows.report);
        let is_portfolio = event.stream_id.as_str().starts_with("portfolio-");
        if let Some(reference) = &mut self.behind
            && !is_portfolio
            && self.checkpoints.holds(event)
            && told.is_needed(event, needed)
        {
            // What cannot be read was reported with the log.
            let _ = reference.take(event);
        }
    }
}
