//! What was seen of prices: the price table as rows, and every close.
//!
//! Memory is the [`PriceTable`] that valuations and risk hold too; rows are what it was at the last flush, so that a
//! reader who loads them and follows the market from their checkpoint has the same table. Closes pass through: of days
//! before a source's latest, memory knows nothing, and the statement decides whether one is news.

mod copying;
mod held;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

use super::copy::Written;
use super::{Checkpoint, Error, Fact, FromLog, Poison, ReadModel, column, stored};
use crate::domain::asset::{AssetEvent, RankedSource};
use crate::domain::ids::{AssetId, MARKET_SHARD, Position, Shard};
use crate::domain::money::{Price, Quantity, Rate};
use crate::domain::price::PriceEvent;
use crate::domain::price_table::{AssetPrices, LastClose, LastTick, PriceTable, SourcePrices};
use crate::events::Event;
use crate::feed::Topics;

/// The projector of `prices`.
#[derive(Debug, Default)]
pub struct Prices {
    table: PriceTable,
    /// What the next flush writes.
    touched_assets: BTreeSet<AssetId>,
    touched_sources: BTreeSet<(AssetId, Arc<str>)>,
    closes: BTreeMap<CloseKey, CloseChange>,
    held: held::Held,
}

type CloseKey = (AssetId, Arc<str>, NaiveDate);

/// What a batch makes of one close.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CloseChange {
    /// What it is at the end; none if it was taken back.
    last: Option<NewClose>,
    /// It was another, or none, in between: what the row says now does not matter.
    overwrites: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct NewClose {
    price: Price,
    volume: Option<Quantity>,
    position: Position,
}

impl ReadModel for Prices {
    const NAME: &'static str = "prices";
    const TOPICS: Topics = Topics::Market;

    async fn assigned(&mut self, conn: &mut PgConnection, checkpoints: &[Checkpoint]) -> Result<(), Error> {
        if checkpoints.iter().any(|mine| mine.shard == MARKET_SHARD) {
            self.table = load_table(conn).await?;
        }
        Ok(())
    }

    fn apply(&mut self, fact: &Fact) -> Result<(), Poison> {
        let position = fact.envelope.position;
        match &fact.event {
            Event::Asset(event) => self.asset(position, event),
            Event::Price(event) => self.prices(position, event),
            Event::Held(event) => self.held.apply(position, fact.envelope.recorded_at, event),
            Event::Investor(_) | Event::Portfolio(_) | Event::Job(_) | Event::Shard(_) => {}
        }
        Ok(())
    }

    async fn flush(&mut self, conn: &mut PgConnection) -> Result<(), Error> {
        let assets: Vec<&AssetPrices> =
            std::mem::take(&mut self.touched_assets).iter().filter_map(|id| self.table.asset(*id)).collect();
        upsert_quotes(conn, &assets).await?;
        let touched = std::mem::take(&mut self.touched_sources);
        let sources: Vec<(AssetId, &SourcePrices)> = touched
            .iter()
            .filter_map(|(id, source)| Some((*id, self.table.asset(*id)?.source(source)?)))
            .collect();
        upsert_sources(conn, &sources).await?;
        write_closes(conn, &std::mem::take(&mut self.closes)).await?;
        self.held.flush(conn).await?;
        Ok(())
    }

    fn forget(&mut self, _shards: &[Shard]) {
        *self = Self::default();
    }
}

impl FromLog for Prices {
    fn from_nothing() -> Self {
        Self::default()
    }

    fn held_bytes(&self) -> usize {
        // Of ticks only the last is held.
        self.closes.len() * (size_of::<CloseKey>() + size_of::<CloseChange>() + 64)
    }

    async fn copy(&mut self, conn: &mut PgConnection) -> Result<Vec<Written>, Error> {
        let batch = std::mem::take(self);
        let assets: Vec<&AssetPrices> = batch.table.assets().collect();
        Ok(vec![
            copying::quotes(conn, &assets).await?,
            copying::sources(conn, &assets).await?,
            copying::closes(conn, &batch.closes).await?,
            batch.held.copy(conn).await?,
        ])
    }
}

impl Prices {
    fn asset(&mut self, position: Position, event: &AssetEvent) {
        self.table.apply_asset(position, event);
        match event {
            AssetEvent::AssetListed(it) => self.touched_assets.insert(it.asset_id),
            AssetEvent::AssetRenamed(it) => self.touched_assets.insert(it.asset_id),
            AssetEvent::PriceSourcesRanked(it) => self.touched_assets.insert(it.asset_id),
            AssetEvent::SymbolClaimed(_)
            | AssetEvent::AssetDelisted(_)
            | AssetEvent::SplitDeclared(_)
            | AssetEvent::EarningsReported(_) => false,
        };
    }

    fn prices(&mut self, position: Position, event: &PriceEvent) {
        let asset_id = event.asset_id();
        let changed = self.table.apply_prices(position, event);
        let source: Arc<str> = match event {
            PriceEvent::PricesObserved(it) => it.source.as_str().into(),
            PriceEvent::ClosesObserved(it) => it.source.as_str().into(),
            PriceEvent::PriceVoided(it) => it.source.as_str().into(),
        };
        if changed.live {
            self.touched_assets.insert(asset_id);
        }
        for close in changed.closes {
            let new = NewClose { price: close.price, volume: close.volume, position };
            self.change_close((asset_id, Arc::clone(&source), close.day), Some(new));
        }
        if let PriceEvent::PriceVoided(voided) = event
            && let Some(day) = voided.day
        {
            self.change_close((asset_id, Arc::clone(&source), day), None);
        }
        self.touched_sources.insert((asset_id, source));
    }

    fn change_close(&mut self, key: CloseKey, new: Option<NewClose>) {
        let Some(before) = self.closes.get_mut(&key) else {
            self.closes.insert(key, CloseChange { last: new, overwrites: false });
            return;
        };
        match (&mut before.last, &new) {
            (Some(last), Some(new)) if last.price == new.price => last.volume = new.volume.or(last.volume),
            (None, None) => {}
            _ => *before = CloseChange { last: new, overwrites: true },
        }
    }
}

/// The price table as it was last flushed. The connection's `search_path` is the schema of `prices`.
pub(super) async fn load_table(conn: &mut PgConnection) -> Result<PriceTable, sqlx::Error> {
    let mut sources: HashMap<Uuid, Vec<SourcePrices>> = HashMap::new();
    for row in sqlx::query_file!("projections/prices/load_sources.sql").fetch_all(&mut *conn).await? {
        let tick = row.tick_at.zip(row.tick_price).zip(row.tick_position);
        let close = row.close_day.zip(row.close_price).zip(row.close_position);
        sources.entry(row.asset_id).or_default().push(SourcePrices {
            source: row.source.into(),
            first_used: Position(row.first_used),
            tick: tick.map(|((at, price), position)| LastTick {
                at,
                price: Price::from_decimal(price),
                position: Position(position),
            }),
            close: close.map(|((day, price), position)| LastClose {
                day,
                price: Price::from_decimal(price),
                position: Position(position),
            }),
        });
    }
    let mut assets = Vec::new();
    for row in sqlx::query_file!("projections/prices/load_quotes.sql").fetch_all(conn).await? {
        let ranked = row.ranked_sources.into_iter().zip(&row.ranked_adjustments);
        let ranking = ranked
            .map(|(source, adjustment)| Ok(RankedSource { source, adjustment: stored::parse(adjustment)? }))
            .collect::<Result<_, sqlx::Error>>()?;
        assets.push(AssetPrices {
            asset_id: AssetId(row.asset_id),
            symbol: stored::from_text(&row.symbol)?,
            class: stored::parse(&row.class)?,
            currency: stored::from_text(&row.currency)?,
            quote_unit: Rate::from_decimal(row.quote_unit),
            ranking,
            sources: sources.remove(&row.asset_id).unwrap_or_default(),
            position: Position(row.position),
        });
    }
    Ok(PriceTable::restore(assets))
}

async fn upsert_quotes(conn: &mut PgConnection, rows: &[&AssetPrices]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let live = column(rows, |row| row.live());
    let names = |row: &AssetPrices| serde_json::json!(column(&row.ranking, |ranked| &ranked.source));
    let adjustments = |row: &AssetPrices| serde_json::json!(column(&row.ranking, |ranked| ranked.adjustment));
    sqlx::query_file!(
        "projections/prices/upsert_quotes.sql",
        &column(rows, |row| row.asset_id.0),
        &column(rows, |row| row.symbol.to_string()),
        &column(rows, |row| stored::name(&row.class)),
        &column(rows, |row| row.currency.to_string()),
        &column(rows, |row| row.quote_unit.decimal()),
        &column(rows, |row| names(row)),
        &column(rows, |row| adjustments(row)),
        &column(&live, |live| live.as_ref().map(|live| live.price.decimal())) as _,
        &column(&live, |live| live.as_ref().map(|live| live.at)) as _,
        &column(&live, |live| live.as_ref().map(|live| live.source.to_string())) as _,
        &column(&live, |live| live.as_ref().map(|live| live.kind.as_str())) as _,
        &column(rows, |row| row.position.0),
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn upsert_sources(
    conn: &mut PgConnection,
    rows: &[(AssetId, &SourcePrices)],
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query_file!(
        "projections/prices/upsert_sources.sql",
        &column(rows, |(id, _)| id.0),
        &column(rows, |(_, row)| row.source.to_string()),
        &column(rows, |(_, row)| row.first_used.0),
        &column(rows, |(_, row)| row.tick.map(|tick| tick.at)) as _,
        &column(rows, |(_, row)| row.tick.map(|tick| tick.price.decimal())) as _,
        &column(rows, |(_, row)| row.tick.map(|tick| tick.position.0)) as _,
        &column(rows, |(_, row)| row.close.map(|close| close.day)) as _,
        &column(rows, |(_, row)| row.close.map(|close| close.price.decimal())) as _,
        &column(rows, |(_, row)| row.close.map(|close| close.position.0)) as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn write_closes(
    conn: &mut PgConnection,
    changes: &BTreeMap<CloseKey, CloseChange>,
) -> Result<(), sqlx::Error> {
    let gone: Vec<&CloseKey> =
        changes.iter().filter(|(_, it)| it.overwrites || it.last.is_none()).map(|(key, _)| key).collect();
    if !gone.is_empty() {
        sqlx::query_file!(
            "projections/prices/delete_closes.sql",
            &column(&gone, |(id, _, _)| id.0),
            &column(&gone, |(_, source, _)| source.to_string()),
            &column(&gone, |(_, _, day)| *day),
        )
        .execute(&mut *conn)
        .await?;
    }
    let new: Vec<(&CloseKey, &NewClose)> =
        changes.iter().filter_map(|(key, it)| Some((key, it.last.as_ref()?))).collect();
    if new.is_empty() {
        return Ok(());
    }
    let volume = |close: &NewClose| -> Option<Decimal> { close.volume.map(Quantity::decimal) };
    sqlx::query_file!(
        "projections/prices/upsert_closes.sql",
        &column(&new, |((id, _, _), _)| id.0),
        &column(&new, |((_, source, _), _)| source.to_string()),
        &column(&new, |((_, _, day), _)| *day),
        &column(&new, |(_, close)| close.price.decimal()),
        &column(&new, |(_, close)| volume(close)) as _,
        &column(&new, |(_, close)| close.position.0),
    )
    .execute(conn)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(price: &str, position: i64) -> Option<NewClose> {
        Some(NewClose { price: price.parse().unwrap(), volume: None, position: Position(position) })
    }

    /// What a batch of changes of one close becomes.
    fn after(changes: &[Option<NewClose>]) -> CloseChange {
        let key: CloseKey = (AssetId(Uuid::nil()), "exchange".into(), NaiveDate::default());
        let mut prices = Prices::default();
        changes.iter().for_each(|change| prices.change_close(key.clone(), change.clone()));
        prices.closes[&key].clone()
    }

    #[test]
    fn a_close_sent_twice_in_a_batch_is_the_first_one() {
        assert_eq!(
            after(&[close("5", 1), close("5", 2)]),
            CloseChange { last: close("5", 1), overwrites: false }
        );
    }

    #[test]
    fn a_volume_that_is_told_later_joins_its_close() {
        let of = |price: &str, volume: Option<&str>, position: i64| {
            Some(NewClose {
                volume: volume.map(|volume| volume.parse().unwrap()),
                ..close(price, position).unwrap()
            })
        };
        let told = after(&[of("5", None, 1), of("5", Some("20"), 2), of("5", None, 3)]);
        assert_eq!(told, CloseChange { last: of("5", Some("20"), 1), overwrites: false });
        let another = after(&[of("5", Some("20"), 1), of("6", None, 2)]);
        assert_eq!(another, CloseChange { last: of("6", None, 2), overwrites: true });
    }

    #[test]
    fn a_close_that_was_another_in_between_overwrites_an_equal_row() {
        assert_eq!(
            after(&[close("6", 1), close("5", 2)]),
            CloseChange { last: close("5", 2), overwrites: true }
        );
        assert_eq!(after(&[None, close("5", 2)]), CloseChange { last: close("5", 2), overwrites: true });
        assert_eq!(after(&[close("5", 1), None]), CloseChange { last: None, overwrites: true });
    }
}
