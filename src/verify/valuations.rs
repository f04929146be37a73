//! What holdings are worth, compared.
//!
//! A row names the portfolio's position it was made from, which may be later than the checkpoint; prices are those at the
//! checkpoint's price position, whatever position the row's figures lean on. Both are looked up, and everything else is
//! computed again:
//!
//! | figure | rule |
//! | --- | --- |
//! | market value | quantity × price, rounded, × quote unit, rounded |
//! | in base | × the live rate, rounded; cost lot by lot × the rate stated, else that of the day it was opened |
//! | unrealised gain | market value − cost, in each currency |
//! | totals | sums; weights are shares of the sum without signs |
//! | price position | the greatest of the live price's, the live rate's and the day rates' |

use std::collections::BTreeMap;

use futures::TryStreamExt;

use super::checkpoints::Checkpoints;
use super::ledger::{Holding, Ledger};
use super::market::{Live, Market, Rate};
use super::reference::{Portfolio, Reference};
use super::rows::{Row, Rows, Scope, Table, all};
use super::units::Units;

const PORTFOLIOS: Table = Table { name: "valuations.valued_portfolios", keys: &["portfolio_id"] };
const HOLDINGS: Table = Table { name: "valuations.valued_holdings", keys: &["portfolio_id", "asset_id"] };
const CASH: Table = Table { name: "valuations.valued_cash", keys: &["portfolio_id", "currency"] };
pub(super) const TABLES: [&Table; 3] = [&PORTFOLIOS, &HOLDINGS, &CASH];

/// The market at every position that a checkpoint names.
pub(super) type Markets = BTreeMap<i64, Market>;

pub(super) async fn check(
    rows: &mut Rows<'_>,
    scope: &Scope,
    checkpoints: &Checkpoints,
    reference: &Reference,
    markets: &Markets,
) -> Result<(), sqlx::Error> {
    let made_from = positions(rows, scope).await?;
    let (mut portfolios, mut holdings, mut cash) = (vec![], vec![], vec![]);
    for (id, portfolio) in &reference.portfolios {
        let place = checkpoints.position(portfolio.shard);
        let first = portfolio.happenings.first().map_or(0, |happening| happening.position);
        let position = match made_from.get(id) {
            Some(position) => *position,
            None if first <= place => place,
            None => continue,
        };
        let last =
            portfolio.happenings.iter().map(|it| it.position).filter(|it| *it <= position.max(place)).max();
        let market = checkpoints.price_position(portfolio.shard).and_then(|place| markets.get(&place));
        let (Some(last), Some(market)) = (last, market) else { continue };
        let value = Value::of(id, portfolio, last, market);
        portfolios.push((id.clone(), vec![value.portfolio]));
        holdings.push((id.clone(), value.holdings));
        cash.push((id.clone(), value.cash));
    }
    rows.compare(&PORTFOLIOS, scope, portfolios.into_iter()).await?;
    rows.compare(&HOLDINGS, scope, holdings.into_iter()).await?;
    rows.compare(&CASH, scope, cash.into_iter()).await
}

/// The position that each portfolio's rows were made from.
async fn positions(rows: &mut Rows<'_>, scope: &Scope) -> Result<BTreeMap<String, i64>, sqlx::Error> {
    let mut positions = BTreeMap::new();
    if rows.broken.contains(PORTFOLIOS.name) {
        return Ok(positions);
    }
    let mut rows = all(rows.conn, &PORTFOLIOS, scope);
    while let Some(mut row) = rows.try_next().await? {
        let position = row.remove("portfolio_position").flatten().and_then(|text| text.parse().ok());
        if let (Some(Some(id)), Some(position)) = (row.remove("portfolio_id"), position) {
            positions.insert(id, position);
        }
    }
    Ok(positions)
}

/// The rows of one portfolio.
struct Value {
    portfolio: Row,
    holdings: Vec<Row>,
    cash: Vec<Row>,
}

/// What is added up.
#[derive(Default)]
struct Totals {
    market_value: Units,
    cash: Units,
    cost: Units,
    unrealized_gain: Units,
    unpriced: i64,
    asset_count: i64,
    cost_incomplete: bool,
    price_position: i64,
}

impl Value {
    fn of(id: &String, portfolio: &Portfolio, position: i64, market: &Market) -> Self {
        let settings = portfolio.settings_at(position);
        let base = &settings.base_currency;
        let ledger = Ledger::as_of(portfolio, position);
        let held = ledger.holdings.iter().filter(|(_, holding)| !holding.quantity().is_zero());
        let figures: Vec<Figures> =
            held.map(|(asset_id, holding)| Figures::of(asset_id, holding, base, market)).collect();
        let gross: Units = figures.iter().filter_map(|it| it.market_value_base).map(Units::abs).sum();

        let mut totals = Totals::default();
        let holdings = figures.iter().map(|figures| {
            totals.add(figures);
            figures.row(id, gross, position)
        });
        let holdings = holdings.collect();
        let is_kept = |balance: &&Units| settings.cash == "tracked" && !balance.is_zero();
        let balances = ledger.cash.iter().filter(|(_, balance)| is_kept(balance));
        let cash =
            balances.map(|(currency, balance)| totals.cash(id, currency, *balance, base, market, position));
        let cash = cash.collect();

        let portfolio = vec![
            ("portfolio_id", id.into()),
            ("shard", portfolio.shard.into()),
            ("base_currency", base.into()),
            ("market_value_base", totals.market_value.into()),
            ("cash_base", totals.cash.into()),
            ("total_value_base", (totals.market_value + totals.cash).into()),
            ("cost_base", totals.cost.into()),
            ("unrealized_gain_base", totals.unrealized_gain.into()),
            ("gross_value_base", gross.into()),
            ("incomplete", (totals.unpriced > 0).into()),
            ("cost_incomplete", totals.cost_incomplete.into()),
            ("unpriced", totals.unpriced.into()),
            ("asset_count", totals.asset_count.into()),
            ("portfolio_position", position.into()),
            ("price_position", totals.price_position.into()),
        ];
        Self { portfolio, holdings, cash }
    }
}

impl Totals {
    fn add(&mut self, figures: &Figures) {
        self.market_value += figures.market_value_base.unwrap_or_default();
        self.cost += figures.cost_base.unwrap_or_default();
        self.unrealized_gain += figures.unrealized_gain_base().unwrap_or_default();
        self.unpriced += i64::from(figures.unpriced.is_some());
        self.asset_count += 1;
        self.cost_incomplete |= figures.cost_base.is_none();
        self.price_position = self.price_position.max(figures.price_position);
    }

    fn cash(
        &mut self,
        id: &String,
        currency: &String,
        balance: Units,
        base: &str,
        market: &Market,
        position: i64,
    ) -> Row {
        let rate = market.rate(currency, base);
        let in_base = rate.as_ref().and_then(|live| balance.times(live.rate));
        let unpriced = match (&rate, in_base) {
            (None, _) => Some("no_rate"),
            (_, None) => Some("too_large"),
            _ => None,
        };
        let price_position = rate.as_ref().map_or(0, |live| live.position);
        self.cash += in_base.unwrap_or_default();
        self.unpriced += i64::from(unpriced.is_some());
        self.price_position = self.price_position.max(price_position);
        vec![
            ("portfolio_id", id.into()),
            ("currency", currency.into()),
            ("balance", balance.into()),
            ("unpriced", unpriced.into()),
            ("rate", rate.as_ref().map(|live| live.rate).into()),
            ("rate_path", rate.as_ref().map(|live| live.path).into()),
            ("balance_base", in_base.into()),
            ("portfolio_position", position.into()),
            ("price_position", price_position.into()),
        ]
    }
}

/// The figures of one holding.
struct Figures<'a> {
    asset_id: &'a String,
    holding: &'a Holding,
    live: Option<Live>,
    rate: Option<Rate>,
    unpriced: Option<&'static str>,
    market_value: Option<Units>,
    market_value_base: Option<Units>,
    cost_base: Option<Units>,
    price_position: i64,
}

impl<'a> Figures<'a> {
    fn of(asset_id: &'a String, holding: &'a Holding, base: &str, market: &Market) -> Self {
        let asset = market.assets.get(asset_id);
        let live = asset.and_then(|asset| asset.live());
        let rate = market.rate(&holding.currency, base);
        let market_value = live
            .as_ref()
            .zip(asset)
            .and_then(|(live, asset)| holding.quantity().times(live.price)?.times(asset.quote_unit));
        let market_value_base =
            market_value.zip(rate.as_ref()).and_then(|(value, live)| value.times(live.rate));
        let unpriced = match (&live, &rate, market_value_base) {
            (None, _, _) => Some("no_price"),
            (_, None, _) => Some("no_rate"),
            (_, _, None) => Some("too_large"),
            _ => None,
        };
        let cost_base = cost_in_base(holding, base, market);
        let positions = [
            asset.map(|asset| asset.live_position),
            rate.as_ref().map(|live| live.position),
            cost_base.map(|(_, position)| position),
        ];
        Self {
            asset_id,
            holding,
            unpriced,
            market_value,
            market_value_base,
            cost_base: cost_base.map(|(cost, _)| cost),
            price_position: positions.into_iter().flatten().max().unwrap_or_default(),
            live,
            rate,
        }
    }

    fn unrealized_gain_base(&self) -> Option<Units> {
        Some(self.market_value_base? - self.cost_base?)
    }

    fn row(&self, id: &String, gross: Units, position: i64) -> Row {
        let live = self.live.as_ref();
        vec![
            ("portfolio_id", id.into()),
            ("asset_id", self.asset_id.into()),
            ("currency", (&self.holding.currency).into()),
            ("quantity", self.holding.quantity().into()),
            ("unpriced", self.unpriced.into()),
            ("price", live.map(|live| live.price).into()),
            ("priced_at", live.map(|live| live.at).into()),
            ("price_source", live.map(|live| &live.source).into()),
            ("price_kind", live.map(Live::kind).into()),
            ("market_value", self.market_value.into()),
            ("cost", self.holding.cost().into()),
            ("unrealized_gain", self.market_value.map(|value| value - self.holding.cost()).into()),
            ("rate", self.rate.as_ref().map(|live| live.rate).into()),
            ("rate_path", self.rate.as_ref().map(|live| live.path).into()),
            ("market_value_base", self.market_value_base.into()),
            ("cost_base", self.cost_base.into()),
            ("cost_base_missing", self.cost_base.is_none().then_some("no_rate_at_purchase").into()),
            ("unrealized_gain_base", self.unrealized_gain_base().into()),
            ("weight", self.market_value_base.and_then(|value| value.over(gross)).into()),
            ("portfolio_position", position.into()),
            ("price_position", self.price_position.into()),
        ]
    }
}

/// Cost in base and the last event that its rates lean on; `None` where a lot was opened on a day without a rate.
fn cost_in_base(holding: &Holding, base: &str, market: &Market) -> Option<(Units, i64)> {
    if holding.currency == base {
        return Some((holding.cost(), 0));
    }
    let mut cost = Units::ZERO;
    let mut position = 0;
    for lot in &holding.lots {
        let rate = match lot.fx_rate {
            Some(stated) => stated,
            None => {
                let of_day = market.rate_of_day(&holding.currency, base, &lot.opened_on)?;
                position = position.max(of_day.position);
                of_day.rate
            }
        };
        cost += lot.cost.times(rate)?;
    }
    Some((cost, position))
}
