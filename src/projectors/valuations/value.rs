//! What a portfolio is worth: a pure function of its holdings and the market.
//!
//! | figure | rule |
//! | --- | --- |
//! | market value | quantity × price × quote unit |
//! | unrealised gain | market value − cost, in the asset's currency |
//! | `…_base` of market value, cash | × the live rate |
//! | cost in base | Σ lots: cost × the rate stated, else the rate of the day it was opened |
//! | unrealised gain in base | market value in base − cost in base, so it has a currency part |
//! | weight | market value in base / Σ of the absolute market values |
//!
//! Each product is rounded once, half-even to 10 decimals; sums of them are exact. What cannot be known is missing with a
//! reason, and the sums say that they are incomplete. Nothing here depends on a clock.

use rust_decimal::Decimal;

use crate::domain::currency::Currency;
use crate::domain::exact;
use crate::domain::ids::{AssetId, Position};
use crate::domain::money::{Amount, Quantity, Rate};
use crate::domain::price_table::LivePrice;
use crate::projectors::book::{Market, Portfolio, PortfolioHolding};

/// Why a holding or a balance has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unpriced {
    /// The asset has no live price.
    NoPrice,
    /// There is no way from the currency to the base currency.
    NoRate,
    /// The product is 10¹⁷ or more.
    TooLarge,
}

/// A portfolio's value with everything it was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Valuation {
    pub holdings: Vec<HoldingValue>,
    pub cash: Vec<CashValue>,
    pub market_value_base: Amount,
    pub cash_base: Amount,
    pub cost_base: Amount,
    pub unrealized_gain_base: Amount,
    pub gross_value_base: Amount,
    /// How many holdings and balances have no value in base.
    pub unpriced: i32,
    pub cost_incomplete: bool,
    pub price_position: Position,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HoldingValue {
    pub asset_id: AssetId,
    pub currency: Currency,
    pub quantity: Quantity,
    pub cost: Amount,
    pub unpriced: Option<Unpriced>,
    pub price: Option<LivePrice>,
    pub market_value: Option<Amount>,
    pub unrealized_gain: Option<Amount>,
    pub rate: Option<RateUsed>,
    pub market_value_base: Option<Amount>,
    /// None: a lot was opened on a day without a rate.
    pub cost_base: Option<Amount>,
    pub unrealized_gain_base: Option<Amount>,
    pub weight: Option<Decimal>,
    pub price_position: Position,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CashValue {
    pub currency: Currency,
    pub balance: Amount,
    pub unpriced: Option<Unpriced>,
    pub rate: Option<RateUsed>,
    pub balance_base: Option<Amount>,
    pub price_position: Position,
}

/// A live rate as a row names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RateUsed {
    pub rate: Rate,
    pub path: &'static str,
}

/// Values a portfolio.
pub(super) fn value(portfolio: &Portfolio, market: &Market) -> Valuation {
    let base = &portfolio.base_currency;
    let mut holdings: Vec<HoldingValue> =
        portfolio.holdings.iter().map(|holding| value_holding(holding, base, market)).collect();
    let cash: Vec<CashValue> = portfolio
        .cash
        .iter()
        .map(|(currency, balance)| value_cash(currency, *balance, base, market))
        .collect();

    let gross_value_base = sum(holdings.iter().filter_map(|it| it.market_value_base).map(Amount::abs));
    for holding in &mut holdings {
        holding.weight = holding.market_value_base.and_then(|value| weight(value, gross_value_base));
    }
    let unpriced = holdings.iter().filter(|it| it.unpriced.is_some()).count()
        + cash.iter().filter(|it| it.unpriced.is_some()).count();
    let used = holdings.iter().map(|it| it.price_position).chain(cash.iter().map(|it| it.price_position));
    Valuation {
        market_value_base: sum(holdings.iter().filter_map(|it| it.market_value_base)),
        cash_base: sum(cash.iter().filter_map(|it| it.balance_base)),
        cost_base: sum(holdings.iter().filter_map(|it| it.cost_base)),
        unrealized_gain_base: sum(holdings.iter().filter_map(|it| it.unrealized_gain_base)),
        gross_value_base,
        unpriced: i32::try_from(unpriced).unwrap_or(i32::MAX),
        cost_incomplete: holdings.iter().any(|it| it.cost_base.is_none()),
        price_position: used.max().unwrap_or_default(),
        holdings,
        cash,
    }
}

fn value_holding(holding: &PortfolioHolding, base: &Currency, market: &Market) -> HoldingValue {
    let asset = market.table().asset(holding.asset_id);
    let price = asset.and_then(|asset| asset.live());
    let quote_unit = asset.map_or(Rate::ONE, |asset| asset.quote_unit);
    let of_price = |price: &LivePrice| Amount::gross(holding.quantity, price.price, quote_unit);
    let market_value = price.as_ref().and_then(of_price);
    let live_rate = market.rate(&holding.currency, base);
    let market_value_base = market_value.zip(live_rate).and_then(|(value, live)| value.at_rate(live.rate));
    let unpriced = match (&price, live_rate, market_value_base) {
        (None, _, _) => Some(Unpriced::NoPrice),
        (_, None, _) => Some(Unpriced::NoRate),
        (_, _, None) => Some(Unpriced::TooLarge),
        _ => None,
    };
    let cost_base = cost_in_base(holding, base, market);
    let positions = [
        asset.map(|asset| asset.position),
        live_rate.map(|rate| rate.position),
        cost_base.map(|(_, position)| position),
    ];
    let cost_base = cost_base.map(|(cost, _)| cost);
    HoldingValue {
        asset_id: holding.asset_id,
        currency: holding.currency.clone(),
        quantity: holding.quantity,
        cost: holding.cost,
        unpriced,
        market_value,
        unrealized_gain: market_value.map(|value| value.saturating_sub(holding.cost)),
        rate: live_rate.map(|live| RateUsed { rate: live.rate, path: live.path.as_str() }),
        market_value_base,
        cost_base,
        unrealized_gain_base: market_value_base
            .zip(cost_base)
            .map(|(value, cost)| value.saturating_sub(cost)),
        weight: None,
        price_position: positions.into_iter().flatten().max().unwrap_or_default(),
        price,
    }
}

/// Cost in base, and the last event that its rates were made from.
fn cost_in_base(holding: &PortfolioHolding, base: &Currency, market: &Market) -> Option<(Amount, Position)> {
    if holding.currency == *base {
        return Some((holding.cost, Position(0)));
    }
    let mut cost = Amount::ZERO;
    let mut position = Position(0);
    for lot in &holding.foreign_lots {
        let rate = match lot.fx_rate {
            Some(stated) => stated,
            None => {
                let of_day = market.rate_of_day(&holding.currency, base, lot.opened)?;
                position = position.max(of_day.position);
                of_day.rate
            }
        };
        cost = cost.saturating_add(lot.cost.at_rate(rate)?);
    }
    Some((cost, position))
}

fn value_cash(currency: &Currency, balance: Amount, base: &Currency, market: &Market) -> CashValue {
    let live_rate = market.rate(currency, base);
    let balance_base = live_rate.and_then(|live| balance.at_rate(live.rate));
    let unpriced = match (live_rate, balance_base) {
        (None, _) => Some(Unpriced::NoRate),
        (_, None) => Some(Unpriced::TooLarge),
        _ => None,
    };
    CashValue {
        currency: currency.clone(),
        balance,
        unpriced,
        rate: live_rate.map(|live| RateUsed { rate: live.rate, path: live.path.as_str() }),
        balance_base,
        price_position: live_rate.map_or(Position(0), |live| live.position),
    }
}

/// Rounded half-even to 10 decimals; none where nothing has a value.
fn weight(value: Amount, gross: Amount) -> Option<Decimal> {
    exact::quotient(value.decimal(), gross.decimal())
}

fn sum(amounts: impl Iterator<Item = Amount>) -> Amount {
    amounts.fold(Amount::ZERO, Amount::saturating_add)
}

impl Unpriced {
    /// The reason as it is stored and answered.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NoPrice => "no_price",
            Self::NoRate => "no_rate",
            Self::TooLarge => "too_large",
        }
    }
}
