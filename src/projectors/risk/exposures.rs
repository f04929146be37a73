//! A portfolio with its live prices: what its figures are a function of, and what the row names as such.

use rust_decimal::prelude::ToPrimitive;
use serde_json::{Value, json};

use crate::analysis::{ColumnId, Exposure};
use crate::domain::currency::Currency;
use crate::domain::ids::{AssetId, PortfolioId, Position, Shard};
use crate::domain::money::{Amount, Price, Quantity, Rate};
use crate::projectors::book::{Market, Portfolio};

/// A portfolio and what each part of it is worth in base.
#[derive(Debug, Clone)]
pub(super) struct PricedPortfolio {
    pub portfolio_id: PortfolioId,
    pub shard: Shard,
    pub base_currency: Currency,
    /// Of the portfolio's last event in these figures.
    pub position: Position,
    /// The highest position of the market events whose prices and rates were used.
    pub price_position: Position,
    parts: Vec<Part>,
}

/// A holding or a balance.
#[derive(Debug, Clone)]
struct Part {
    what: What,
    /// Units of base for one unit of its currency.
    rate: Option<Rate>,
    value_base: Option<Amount>,
    unpriced: Option<&'static str>,
}

#[derive(Debug, Clone)]
enum What {
    Holding { asset_id: AssetId, quantity: Quantity, price: Option<Price> },
    Cash { currency: Currency, balance: Amount },
}

impl PricedPortfolio {
    pub(super) fn of(portfolio: &Portfolio, market: &Market) -> Self {
        let base = &portfolio.base_currency;
        let mut price_position = Position(0);
        let mut used = |position: Position| price_position = price_position.max(position);
        let mut parts = Vec::with_capacity(portfolio.holdings.len() + portfolio.cash.len());
        for holding in &portfolio.holdings {
            let live = market.table().live(holding.asset_id);
            let unit = market.table().asset(holding.asset_id).map_or(Rate::ONE, |asset| asset.quote_unit);
            let rate = market.rate(&holding.currency, base);
            live.iter().for_each(|live| used(live.position));
            rate.iter().for_each(|rate| used(rate.position));
            let what = What::Holding {
                asset_id: holding.asset_id,
                quantity: holding.quantity,
                price: live.as_ref().map(|live| live.price),
            };
            let local = live.map(|live| Amount::gross(holding.quantity, live.price, unit));
            parts.push(Part::new(what, local, rate.map(|rate| rate.rate)));
        }
        for (currency, balance) in &portfolio.cash {
            let rate = market.rate(currency, base);
            rate.iter().for_each(|rate| used(rate.position));
            let what = What::Cash { currency: currency.clone(), balance: *balance };
            parts.push(Part::new(what, Some(Some(*balance)), rate.map(|rate| rate.rate)));
        }
        Self {
            portfolio_id: portfolio.portfolio_id,
            shard: portfolio.shard,
            base_currency: base.clone(),
            position: portfolio.position,
            price_position,
            parts,
        }
    }

    /// What the engine takes: every part that has a value.
    pub(super) fn exposures(&self) -> Vec<Exposure> {
        let exposure = |part: &Part| {
            let column = match &part.what {
                What::Holding { asset_id, .. } => ColumnId::Asset(asset_id.0),
                What::Cash { currency, .. } => ColumnId::Currency(currency.to_string()),
            };
            Some(Exposure { column, value_base: part.value_base?.decimal().to_f64()? })
        };
        self.parts.iter().filter_map(exposure).collect()
    }

    /// Sum of the absolute values.
    pub(super) fn gross(&self) -> Amount {
        let values = self.parts.iter().filter_map(|part| part.value_base);
        values.fold(Amount::ZERO, |sum, value| sum.saturating_add(value.abs()))
    }

    /// Whether something has no value, so that the figures are without it.
    pub(super) fn is_incomplete(&self) -> bool {
        self.parts.iter().any(|part| part.unpriced.is_some())
    }

    /// A loss as a share of the gross exposure; none where there is no exposure.
    pub(super) fn share_of_gross(&self, loss: f64) -> Option<f64> {
        let gross = self.gross().decimal().to_f64().filter(|gross| *gross > 0.0)?;
        Some(loss / gross).filter(|share| share.is_finite())
    }

    pub(super) fn to_json(&self) -> Value {
        self.parts.iter().map(Part::to_json).collect()
    }
}

impl Part {
    /// `local`: the value in its own currency; none without a price, and inner none beyond the bounds of an amount.
    fn new(what: What, local: Option<Option<Amount>>, rate: Option<Rate>) -> Self {
        let (value_base, unpriced) = match (local, rate) {
            (None, _) => (None, Some("no_price")),
            (_, None) => (None, Some("no_rate")),
            (Some(local), Some(rate)) => match local.and_then(|local| local.at_rate(rate)) {
                Some(value) => (Some(value), None),
                None => (None, Some("too_large")),
            },
        };
        Self { what, rate, value_base, unpriced }
    }

    fn to_json(&self) -> Value {
        let Self { what, rate, value_base, unpriced } = self;
        match what {
            What::Holding { asset_id, quantity, price } => json!({
                "asset_id": asset_id, "quantity": quantity, "price": price, "rate": rate,
                "value_base": value_base, "unpriced": unpriced,
            }),
            What::Cash { currency, balance } => json!({
                "currency": currency, "balance": balance, "rate": rate, "value_base": value_base,
                "unpriced": unpriced,
            }),
        }
    }
}
