//! The risk of every portfolio, computed again from what its row names.
//!
//! | the row names | what is done with it |
//! | --- | --- |
//! | portfolio and price position | holdings, prices and rates are looked up there: they give the exposures |
//! | cut, window, seed, ν, paths | closes up to the cut are gathered by the reference: they give the model and its hash |
//! | engine version | must be this program's |
//!
//! Exposures and model then give the figures, which must be the row's to the bit. The engine is the program's own: it is
//! proved elsewhere, what is judged here is whether a row is a function of what it names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{Days, NaiveDate};
use ethnum::U256;
use futures::TryStreamExt;
use serde_json::{Value, json};

use super::checkpoints::Checkpoints;
use super::ledger::Ledger;
use super::market::{Asset, Market};
use super::reference::{Portfolio, Reference};
use super::report::Report;
use super::rows::{Cell, Row, Rows, Scope, Table, all};
use super::units::Units;
use crate::analysis::{
    AssetCloses, ColumnId, Exposure, MarketModel, ModelInputs, Pool, RateCloses, Settings, portfolio_figures,
};

const RISKS: Table = Table { name: "risk.portfolio_risks", keys: &["portfolio_id"] };
pub(super) const TABLES: [&Table; 1] = [&RISKS];
/// Portfolios that are computed before their rows are compared.
const BATCH: usize = 256;

/// What a stored row says it was made from.
#[derive(Debug)]
struct Named {
    portfolio_id: String,
    portfolio_position: i64,
    price_position: i64,
    request_position: i64,
    model_cut: i64,
    window: usize,
    seed: u64,
    degrees_of_freedom: f64,
    paths: usize,
    assets: BTreeSet<String>,
}

/// The rows there are, the prices that they name, and what is to be computed again.
#[derive(Debug, Default)]
pub(super) struct Risks {
    rows: Vec<Named>,
    by_portfolio: BTreeMap<String, usize>,
    /// Rows that do not say what they were made from.
    unreadable: BTreeSet<String>,
    /// Rows by price position, until the log has been read that far.
    waiting: BTreeMap<i64, Vec<usize>>,
    /// Of each row: the assets it names and the rates, as of its price position.
    prices: BTreeMap<usize, Market>,
    /// Assets as they were when they were last kept.
    kept: BTreeMap<String, Arc<Asset>>,
    jobs: Vec<Job>,
    /// By shard, where it was asked for that everything be computed anew.
    requests: BTreeMap<i16, BTreeSet<i64>>,
}

/// A row to be computed again, once the model that it names is there.
#[derive(Debug)]
struct Job {
    portfolio_id: String,
    portfolio_position: i64,
    model: ModelKey,
    shard: i16,
    base_currency: String,
    parts: Vec<Part>,
    price_position: i64,
    request_position: i64,
}

/// What a model is made from: cut, window, seed, the bits of ν, paths.
type ModelKey = (i64, usize, u64, u64, usize);

impl Risks {
    /// Reads what the rows name.
    pub(super) async fn load(rows: &mut Rows<'_>) -> Result<Self, sqlx::Error> {
        let mut risks = Self::default();
        if rows.broken.contains(RISKS.name) {
            return Ok(risks);
        }
        let mut rows = all(rows.conn, &RISKS, &Scope::All);
        while let Some(row) = rows.try_next().await? {
            match Named::read(&row) {
                Some(named) => {
                    risks.waiting.entry(named.price_position).or_default().push(risks.rows.len());
                    risks.by_portfolio.insert(named.portfolio_id.clone(), risks.rows.len());
                    risks.rows.push(named);
                }
                None => risks.unreadable.extend(row.get("portfolio_id").cloned().flatten()),
            }
        }
        Ok(risks)
    }

    /// Positions up to which closes are in a model.
    pub(super) fn cuts(&self) -> impl Iterator<Item = i64> {
        self.rows.iter().map(|row| row.model_cut)
    }

    /// Keeps the prices that rows name, once the next event is beyond them.
    pub(super) fn pass(&mut self, next: i64, market: &Market) {
        while let Some(entry) = self.waiting.first_entry().filter(|entry| *entry.key() < next) {
            for row in entry.remove() {
                self.prices.insert(row, market.prices_of(&self.rows[row].assets, &mut self.kept));
            }
        }
    }

    /// Takes over what was asked of shards.
    pub(super) fn requested(&mut self, reference: &Reference) {
        self.requests.clone_from(&reference.requests);
    }

    /// Looks up what the rows of these portfolios were made from.
    pub(super) fn prepare(&mut self, checkpoints: &Checkpoints, reference: &Reference, report: &mut Report) {
        for (id, portfolio) in &reference.portfolios {
            let Some(row) = self.by_portfolio.get(id).copied() else {
                let opened = portfolio.happenings.first().map_or(0, |it| it.position);
                if self.unreadable.contains(id) {
                    report.differs(format_args!("{} {id}", RISKS.name), "does not say what it was made from");
                } else if opened <= checkpoints.position(portfolio.shard) {
                    report.differs(format_args!("{} {id}", RISKS.name), "is missing");
                }
                continue;
            };
            let named = &self.rows[row];
            if !portfolio.happenings.iter().any(|it| it.position == named.portfolio_position) {
                let found = format!("made from position {}, which is not its own", named.portfolio_position);
                report.differs(format_args!("{} {id}, portfolio_position", RISKS.name), found);
                continue;
            }
            let Some(prices) = self.prices.remove(&row) else { continue };
            let (parts, price_position) = parts(portfolio, named.portfolio_position, &prices);
            let Named { model_cut, window, seed, degrees_of_freedom, paths, .. } = *named;
            self.jobs.push(Job {
                portfolio_id: id.clone(),
                portfolio_position: named.portfolio_position,
                model: (model_cut, window, seed, degrees_of_freedom.to_bits(), paths),
                shard: portfolio.shard,
                base_currency: portfolio.settings_at(named.portfolio_position).base_currency.clone(),
                parts,
                price_position,
                request_position: obeyed(&self.requests, portfolio.shard, named.request_position),
            });
        }
    }

    /// Compares the rows with their recomputation, one model at a time. `progress` is told how many are done of all.
    pub(super) async fn check(
        self,
        rows: &mut Rows<'_>,
        markets: &BTreeMap<i64, Market>,
        progress: &mut (dyn FnMut(usize, usize) + Send),
    ) -> Result<(), sqlx::Error> {
        let mut jobs: BTreeMap<ModelKey, Vec<Job>> = BTreeMap::new();
        let count = self.jobs.len();
        for job in self.jobs {
            jobs.entry(job.model).or_default().push(job);
        }
        let mut done = 0;
        for (key, jobs) in jobs {
            let market = markets.get(&key.0).cloned();
            let built = blocking(move || model(key, &market?)).await;
            let model = built.map(Arc::new);
            let mut jobs = jobs.into_iter();
            loop {
                let batch: Vec<Job> = jobs.by_ref().take(BATCH).collect();
                if batch.is_empty() {
                    break;
                }
                done += batch.len();
                compare(rows, batch, model.as_ref()).await?;
                progress(done, count);
            }
        }
        Ok(())
    }
}

async fn compare(
    rows: &mut Rows<'_>,
    batch: Vec<Job>,
    model: Option<&Arc<MarketModel>>,
) -> Result<(), sqlx::Error> {
    let scope = Scope::of(batch.iter().map(|job| &job.portfolio_id));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = batch.len().div_ceil(threads);
    let mut batch = batch.into_iter().peekable();
    let mut computing = Vec::new();
    while batch.peek().is_some() {
        let (share, model): (Vec<Job>, _) = (batch.by_ref().take(share).collect(), model.cloned());
        computing.push(blocking(move || {
            let row = |job: Job| (job.row(model.as_deref()).into_iter().collect(), job.portfolio_id);
            share.into_iter().map(row).collect::<Vec<(Vec<Row>, String)>>()
        }));
    }
    let computed = futures::future::join_all(computing).await;
    let groups: BTreeMap<String, Vec<Row>> =
        computed.into_iter().flatten().map(|(rows, id)| (id, rows)).collect();
    rows.compare(&RISKS, &scope, groups.into_iter()).await
}

/// The request that a row has obeyed: the one that it names, if it is one. Whether all rows have come to the last one is asked by who
/// asked for it, since that takes its time.
fn obeyed(requests: &BTreeMap<i16, BTreeSet<i64>>, shard: i16, named: i64) -> i64 {
    let Some(requests) = requests.get(&shard) else { return 0 };
    requests.range(..=named).next_back().copied().unwrap_or(0)
}

/// The engine takes its time: not on a thread that others wait for.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn model((cut, window, seed, degrees_of_freedom, paths): ModelKey, market: &Market) -> Option<MarketModel> {
    let settings = Settings { seed, degrees_of_freedom: f64::from_bits(degrees_of_freedom), paths };
    MarketModel::build(inputs(market, cut, window, settings)?, &Pool::new(0).ok()?).ok()
}

impl Job {
    /// The row as it should be; `None` where not even a model can be made of what it names.
    fn row(&self, model: Option<&MarketModel>) -> Option<Row> {
        let Self { parts, base_currency: base, .. } = self;
        let exposures: Vec<Exposure> = parts.iter().filter_map(Part::exposure).collect();
        let model = model?;
        let figures = portfolio_figures(model, base, &exposures).ok()?;
        let (bytes, figures) = (serde_json::to_string(&figures).ok()?, json!(figures));

        let gross: Units = parts.iter().filter_map(|part| part.value_base).map(Units::abs).sum();
        let is_incomplete =
            figures["incomplete"] == json!(true) || parts.iter().any(|it| it.unpriced.is_some());
        let headline =
            figures["methods"].as_array()?.iter().find(|it| it["method"] == figures["headline"])?;
        let value = |name: &str| headline[name]["value"].as_f64();
        let gross_number = number(gross).filter(|gross| *gross > 0.0);
        let volatility = figures["volatility_annualized"].as_f64();
        let band = |volatility: f64| match volatility {
            v if v < 0.15 => "low",
            v if v < 0.25 => "medium",
            _ => "high",
        };
        let exposures: Value = parts.iter().map(Part::to_json).collect();
        Some(vec![
            ("portfolio_id", (&self.portfolio_id).into()),
            ("shard", self.shard.into()),
            ("portfolio_position", self.portfolio_position.into()),
            ("price_position", self.price_position.into()),
            ("request_position", self.request_position.into()),
            ("model_cut", self.model.0.into()),
            ("model_hash", model.hash().into()),
            ("engine_version", (&figures["engine_version"].to_string()).into()),
            ("base_currency", base.into()),
            ("gross_exposure", gross.into()),
            ("coverage", Cell::Float(figures["coverage"].as_f64().unwrap_or(0.0))),
            ("incomplete", is_incomplete.into()),
            ("value_at_risk_95", value("var_95").map(Cell::Float).into()),
            ("value_at_risk_99", value("var_99").map(Cell::Float).into()),
            ("expected_shortfall_975", value("es_975").map(Cell::Float).into()),
            (
                "risk_share",
                value("var_99").zip(gross_number).map(|(it, gross)| Cell::Float(it / gross)).into(),
            ),
            ("risk_band", volatility.map(band).into()),
            ("volatility", volatility.map(Cell::Float).into()),
            ("sharpe", figures["sharpe"].as_f64().map(Cell::Float).into()),
            ("figures", (&bytes).into()),
            ("exposures", (&exposures.to_string()).into()),
        ])
    }
}

impl Named {
    fn read(row: &BTreeMap<String, Option<String>>) -> Option<Self> {
        let text = |name: &str| row.get(name)?.as_deref();
        let figures: Value = serde_json::from_str(text("figures")?).ok()?;
        let exposures: Vec<Value> = serde_json::from_str(text("exposures")?).ok()?;
        let simulated = figures["methods"].as_array()?.iter().find(|it| it["method"] == "monte_carlo")?;
        let number = |name: &str| usize::try_from(simulated[name].as_u64()?).ok();
        let assets = exposures.iter().filter_map(|part| part["asset_id"].as_str().map(ToOwned::to_owned));
        Some(Self {
            portfolio_id: text("portfolio_id")?.to_owned(),
            portfolio_position: text("portfolio_position")?.parse().ok()?,
            price_position: text("price_position")?.parse().ok()?,
            request_position: text("request_position")?.parse().ok()?,
            model_cut: text("model_cut")?.parse().ok()?,
            window: number("window")?,
            seed: simulated["seed"].as_u64()?,
            degrees_of_freedom: simulated["degrees_of_freedom"].as_f64()?,
            paths: number("scenarios")?,
            assets: assets.collect(),
        })
    }
}

/// A holding or a balance, valued.
#[derive(Debug)]
struct Part {
    column: ColumnId,
    quantity: Units,
    price: Option<Units>,
    rate: Option<Units>,
    value_base: Option<Units>,
    unpriced: Option<&'static str>,
}

/// Every holding and balance of a portfolio, and the last event that their prices and rates lean on.
fn parts(portfolio: &Portfolio, position: i64, market: &Market) -> (Vec<Part>, i64) {
    let ledger = Ledger::as_of(portfolio, position);
    let settings = portfolio.settings_at(position);
    let mut used = 0;
    let mut parts = Vec::new();
    let mut part = |column, quantity, price, local: Option<Option<Units>>, currency: &str| {
        let rate = market.rate(currency, &settings.base_currency);
        used = used.max(rate.as_ref().map_or(0, |rate| rate.position));
        let value_base = local.flatten().zip(rate.as_ref()).and_then(|(local, rate)| local.times(rate.rate));
        let unpriced = match (local, &rate, value_base) {
            (None, _, _) => Some("no_price"),
            (_, None, _) => Some("no_rate"),
            (_, _, None) => Some("too_large"),
            _ => None,
        };
        parts.push(Part { column, quantity, price, rate: rate.map(|rate| rate.rate), value_base, unpriced });
    };
    let mut last_price = 0;
    for (asset_id, holding) in ledger.holdings.iter().filter(|(_, it)| !it.quantity().is_zero()) {
        let asset = market.assets.get(asset_id);
        let live = asset.and_then(|asset| asset.live());
        let of_price = asset.zip(live.as_ref()).map(|(asset, live)| {
            last_price = last_price.max(asset.live_position);
            holding.quantity().times(live.price)?.times(asset.quote_unit)
        });
        let Ok(id) = asset_id.parse() else { continue };
        let price = live.map(|live| live.price);
        part(ColumnId::Asset(id), holding.quantity(), price, of_price, &holding.currency);
    }
    let is_kept = |balance: &Units| settings.cash == "tracked" && !balance.is_zero();
    for (currency, balance) in ledger.cash.iter().filter(|(_, balance)| is_kept(balance)) {
        part(ColumnId::Currency(currency.clone()), *balance, None, Some(Some(*balance)), currency);
    }
    (parts, used.max(last_price))
}

impl Part {
    fn exposure(&self) -> Option<Exposure> {
        Some(Exposure { column: self.column.clone(), value_base: number(self.value_base?)? })
    }

    fn to_json(&self) -> Value {
        let text = |units: Option<Units>| units.map(|units| units.to_string());
        let (rate, value_base, unpriced) = (text(self.rate), text(self.value_base), self.unpriced);
        let quantity = self.quantity.to_string();
        match &self.column {
            ColumnId::Asset(id) => json!({"asset_id": id, "quantity": quantity, "price": text(self.price),
                "rate": rate, "value_base": value_base, "unpriced": unpriced}),
            ColumnId::Currency(currency) => json!({"currency": currency, "balance": quantity, "rate": rate,
                "value_base": value_base, "unpriced": unpriced}),
        }
    }
}

/// The float nearest to a decimal.
fn number(units: Units) -> Option<f64> {
    units.to_string().parse().ok()
}

/// What a model of these closes is made of: of every asset the best source that has closes, of every currency its dollars.
fn inputs(market: &Market, cut: i64, window: usize, settings: Settings) -> Option<ModelInputs> {
    let held = || market.assets.values().filter(|asset| asset.class != "fx");
    let newest =
        held().flat_map(|asset| asset.sources.values()).filter_map(|source| source.close_day.as_ref());
    let span = Days::new(u64::try_from(window * 8 / 5 + 60).ok()?);
    let first = newest.max().and_then(|day| day.parse::<NaiveDate>().ok()?.checked_sub_days(span));
    let mut assets = Vec::new();
    let mut rates: BTreeMap<String, (bool, Vec<(NaiveDate, f64)>)> = BTreeMap::new();
    for (id, asset) in &market.assets {
        let closes = closes(asset, first);
        if asset.class != "fx" {
            let (asset_id, currency) = (id.parse().ok()?, asset.currency.clone());
            let crypto = asset.class == "crypto";
            assets.push(AssetCloses { asset_id, currency, crypto, delisted_on: None, closes });
            continue;
        }
        let Some(base) = asset.symbol.strip_suffix(&asset.currency) else { continue };
        if asset.currency == "USD" {
            rates.insert(base.to_owned(), (true, closes));
        } else if base == "USD" && !rates.get(&asset.currency).is_some_and(|(is_direct, _)| *is_direct) {
            let back = closes.into_iter().map(|(day, close)| (day, 1.0 / close)).collect();
            rates.insert(asset.currency.clone(), (false, back));
        }
    }
    let rates = rates.into_iter().map(|(currency, (_, closes))| RateCloses { currency, closes }).collect();
    Some(ModelInputs { cut: u64::try_from(cut).ok()?, window, settings, assets, rates })
}

/// Closes after a day, in whole units of the asset's currency.
fn closes(asset: &Asset, after: Option<NaiveDate>) -> Vec<(NaiveDate, f64)> {
    let source =
        asset.believed().into_iter().map(|name| &asset.sources[name]).find(|it| it.close_day.is_some());
    let days = source.into_iter().flat_map(|source| &source.closes);
    days.filter_map(|(day, close)| {
        let day: NaiveDate = day.parse().ok()?;
        let whole = close.price.exact_product(asset.quote_unit).parse().ok()?;
        (Some(day) > after).then_some((day, whole))
    })
    .collect()
}

impl Units {
    /// `self × other` with all its twenty decimals; both positive.
    fn exact_product(self, other: Self) -> String {
        let product = U256::from(self.magnitude()) * U256::from(other.magnitude());
        let digits = format!("{:0>21}", product.to_string());
        let (whole, fraction) = digits.split_at(digits.len() - 20);
        format!("{whole}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_names_a_request_of_its_shard_or_none() {
        let requests = BTreeMap::from([(3, BTreeSet::from([5, 9]))]);
        let named = |shard, named| obeyed(&requests, shard, named);
        assert_eq!([named(3, 0), named(3, 5), named(3, 9)], [0, 5, 9], "the last one takes its time");
        assert_eq!([named(3, 7), named(3, 12), named(4, 5)], [5, 9, 0], "there is none at these places");
    }
}
