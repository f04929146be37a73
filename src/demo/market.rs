//! What the demo trades: the real stocks, and behind them as many synthetic ones as are asked for.
//!
//! Synthetic assets carry `SYNTHETIC` in their name and `SYN…` as their symbol, so that nobody takes them for real ones. A walk
//! follows the mean return of the real stocks with a beta of its own and noise beside it. It depends on its number alone, and uses
//! nothing but the four operations: the same prices on every machine.

use chrono::NaiveDate;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rust_decimal::Decimal;

use crate::closes::{self, Closes};
use crate::domain::money::Price;

/// All assets, with a close on every day.
pub struct Market {
    /// The trading days, ascending.
    pub days: Vec<NaiveDate>,
    /// The assets: real ones first.
    pub assets: Vec<MarketAsset>,
}

/// An asset and its closes.
pub struct MarketAsset {
    /// Its symbol.
    pub symbol: String,
    /// Its name.
    pub name: String,
    /// Its close on each day of the market, in thousandths of a dollar.
    thousandths: Vec<u32>,
}

impl MarketAsset {
    /// The close on a day, by the day's place in [`Market::days`].
    pub fn close(&self, day: usize) -> Price {
        Price::from_decimal(Decimal::new(i64::from(self.thousandths[day]), 3))
    }
}

/// A market of the first `assets` assets.
pub fn market(assets: usize) -> Market {
    let Closes { days, stocks } = closes::shipped();
    let mean_returns = mean_returns(&stocks, days.len());
    let real = stocks.into_iter().map(|stock| MarketAsset {
        symbol: stock.symbol.into(),
        name: stock.name.into(),
        thousandths: stock.thousandths,
    });
    let synthetic = (closes::STOCK_COUNT + 1..).map(|number| synthetic(number, &mean_returns));
    Market { assets: real.chain(synthetic).take(assets).collect(), days }
}

/// The mean simple return of all stocks on each day; 0 on the first.
fn mean_returns(stocks: &[closes::Stock], days: usize) -> Vec<f64> {
    let on = |day: usize| {
        let returns = stocks.iter().map(|stock| {
            let (before, now) = (stock.thousandths[day - 1], stock.thousandths[day]);
            f64::from(now) / f64::from(before) - 1.0
        });
        returns.sum::<f64>() / stocks.len() as f64
    };
    (0..days).map(|day| if day == 0 { 0.0 } else { on(day) }).collect()
}

fn synthetic(number: usize, mean_returns: &[f64]) -> MarketAsset {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(number as u64);
    let beta = random.random_range(0.5..1.3);
    let noise = random.random_range(0.01..0.03);
    let mut price: f64 = random.random_range(5_000.0..80_000.0);
    let thousandths = mean_returns.iter().map(|mean| {
        // Four uniform draws are bell-shaped enough, and need no logarithm.
        let bell = (0..4).map(|_| random.random_range(-0.5..0.5)).sum::<f64>();
        price = (price * (1.0 + beta * mean + noise * bell)).clamp(500.0, 100_000_000.0);
        price as u32
    });
    MarketAsset {
        thousandths: thousandths.collect(),
        symbol: format!("SYN{number:03}"),
        name: format!("SYNTHETIC {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_real_stocks_come_assets_that_say_they_are_synthetic() {
        let market = market(22);
        assert_eq!(market.assets[0].symbol, "AAPL");
        assert_eq!(market.assets[19].symbol, "XOM");
        for asset in &market.assets[20..] {
            assert!(asset.symbol.starts_with("SYN") && asset.name.starts_with("SYNTHETIC"));
            assert_eq!(asset.thousandths.len(), market.days.len());
        }
        assert_ne!(market.assets[20].thousandths, market.assets[21].thousandths);
    }

    #[test]
    fn an_asset_has_the_same_prices_in_a_market_of_any_size() {
        let (small, large) = (market(21), market(25));
        assert_eq!(small.assets.len(), 21);
        assert_eq!(small.assets[20].thousandths, large.assets[20].thousandths);
    }

    #[test]
    fn a_synthetic_price_walks_in_believable_steps() {
        let market = market(30);
        for asset in &market.assets[20..] {
            let steps = asset.thousandths.windows(2).map(|w| f64::from(w[1]) / f64::from(w[0]) - 1.0);
            let largest = steps.fold(0.0, |largest: f64, step| largest.max(step.abs()));
            assert!((0.02..0.5).contains(&largest), "{}: {largest}", asset.symbol);
        }
    }
}
