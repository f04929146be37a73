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

use chrono::{Days, NaiveDate};
use ethnum::U256;
use futures::TryStreamExt;
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::checkpoints::Checkpoints;
use super::ledger::Ledger;
use super::market::{Asset, Market};
use super::reference::{Portfolio, Reference};
use super::report::Report;
use super::rows::{Cell, Row, all, compare};
use super::units::Units;
use crate::analysis::{
    AssetCloses, ColumnId, Exposure, MarketModel, ModelInputs, Pool, RateCloses, Settings, portfolio_figures,
};

/// What a stored row says it was made from.
#[derive(Debug)]
struct Named {
    portfolio_id: String,
    portfolio_position: i64,
    price_position: i64,
    model_cut: i64,
    window: usize,
    seed: u64,
    degrees_of_freedom: f64,
    paths: usize,
    assets: BTreeSet<String>,
}

/// The rows there are, and the prices that they name.
#[derive(Debug, Default)]
pub(super) struct Risks {
    rows: Vec<Named>,
    /// Rows by price position, until the log has been read that far.
    waiting: BTreeMap<i64, Vec<usize>>,
    /// Of each row: the assets it names and the rates, as of its price position.
    prices: BTreeMap<usize, Market>,
}

impl Risks {
    /// Reads what the rows name.
    pub(super) async fn load(conn: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let mut risks = Self::default();
        let mut rows = all(conn, "risk.portfolio_risks");
        while let Some(row) = rows.try_next().await? {
            // What does not name what it should is found when it is compared.
            if let Some(named) = Named::read(&row) {
                risks.waiting.entry(named.price_position).or_default().push(risks.rows.len());
                risks.rows.push(named);
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
                self.prices.insert(row, market.prices_of(&self.rows[row].assets));
            }
        }
    }

    /// Compares the rows with their recomputation.
    pub(super) async fn check(
        &self,
        conn: &mut PgConnection,
        checkpoints: &Checkpoints,
        reference: &Reference,
        markets: &BTreeMap<i64, Market>,
        report: &mut Report,
    ) -> Result<u64, sqlx::Error> {
        let mut models = Models { markets, pool: Pool::new(0).ok(), made: BTreeMap::new() };
        let mut expected = Vec::new();
        for (row, named) in self.rows.iter().enumerate() {
            let portfolio = reference.portfolios.get(&named.portfolio_id);
            let (Some(portfolio), Some(prices)) = (portfolio, self.prices.get(&row)) else { continue };
            let is_event = portfolio.happenings.iter().any(|it| it.position == named.portfolio_position);
            if !is_event {
                let found = format!("made from position {}, which is not its own", named.portfolio_position);
                report.differs(format_args!("risk of {}", named.portfolio_id), found);
                continue;
            }
            expected.extend(models.row(named, portfolio, prices));
        }
        let known: BTreeSet<&String> = self.rows.iter().map(|row| &row.portfolio_id).collect();
        for (id, portfolio) in &reference.portfolios {
            let opened = portfolio.happenings.first().map_or(0, |it| it.position);
            if opened <= checkpoints.position(portfolio.shard) && !known.contains(id) {
                report.differs(format_args!("risk of {id}"), "is missing");
            }
        }
        compare(conn, "risk.portfolio_risks", 1, expected, report).await
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
            model_cut: text("model_cut")?.parse().ok()?,
            window: number("window")?,
            seed: simulated["seed"].as_u64()?,
            degrees_of_freedom: simulated["degrees_of_freedom"].as_f64()?,
            paths: number("scenarios")?,
            assets: assets.collect(),
        })
    }
}

/// Models by what they were made from.
struct Models<'a> {
    markets: &'a BTreeMap<i64, Market>,
    pool: Option<Pool>,
    made: BTreeMap<(i64, usize, u64, u64, usize), Option<MarketModel>>,
}

impl Models<'_> {
    /// The row as it should be; `None` where not even a model can be made of what it names.
    fn row(&mut self, named: &Named, portfolio: &Portfolio, prices: &Market) -> Option<Row> {
        let settings = portfolio.settings_at(named.portfolio_position);
        let base = &settings.base_currency;
        let (parts, price_position) = parts(portfolio, named.portfolio_position, prices);
        let exposures: Vec<Exposure> = parts.iter().filter_map(Part::exposure).collect();
        let model = self.model(named)?;
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
            ("portfolio_id", (&named.portfolio_id).into()),
            ("shard", portfolio.shard.into()),
            ("portfolio_position", named.portfolio_position.into()),
            ("price_position", price_position.into()),
            ("model_cut", named.model_cut.into()),
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

    fn model(&mut self, named: &Named) -> Option<&MarketModel> {
        let Named { model_cut, window, seed, degrees_of_freedom, paths, .. } = *named;
        let key = (model_cut, window, seed, degrees_of_freedom.to_bits(), paths);
        let (markets, pool) = (self.markets, self.pool.as_ref());
        let made = self.made.entry(key).or_insert_with(|| {
            let settings = Settings { seed, degrees_of_freedom, paths };
            let inputs = inputs(markets.get(&model_cut)?, model_cut, window, settings)?;
            MarketModel::build(inputs, pool?).ok()
        });
        made.as_ref()
    }
}

/// A holding or a balance, valued.
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
        let live = asset.and_then(Asset::live);
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
