//! How much assets move in a day: the typical and the largest move over the last closes, and how unusual the last one is.
//!
//! | figure | what it is |
//! | --- | --- |
//! | move | a close less the one before, in the asset's currency: exact |
//! | return | the same as a fraction of the one before |
//! | typical | the median of the sizes, which one wild day does not change |
//! | largest | the greatest size, with its sign and its day; in currency and as a return it may be another day |
//! | volatility | sample standard deviation of the returns, annualised ([`crate::risk::volatility`]) |
//! | unusualness | size of the last return in standard deviations of all of them |

use chrono::NaiveDate;
use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, RoundingStrategy};
use sqlx::PgPool;

use crate::queries::prices::{RecentCloses, fold_recent_closes};
use crate::queries::{Answer, Error};
use crate::risk::volatility;

/// With fewer returns there are no figures: a deviation of a handful of days says nothing.
const RETURNS_MIN: usize = 20;

/// An asset and what its closes say.
#[derive(Debug, Clone, PartialEq)]
pub struct AssetMoves {
    /// The asset with its closes left out.
    pub asset: RecentCloses,
    /// How many closes there are.
    pub closes: usize,
    /// The last day, and its close.
    pub last: Option<(NaiveDate, Decimal)>,
    /// None where there are too few closes.
    pub figures: Option<Figures>,
}

/// What closes say of an asset's days.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// The last day's.
    pub last: Move,
    /// Median of the sizes of the moves.
    pub typical_move: Decimal,
    /// Median of the sizes of the returns.
    pub typical_return: f64,
    /// The largest in currency.
    pub largest_move: Move,
    /// The largest as a return.
    pub largest_return: Move,
    /// Annual.
    pub volatility: f64,
    /// Of the last day; none where the price never moved.
    pub unusualness: Option<f64>,
}

/// What happened on a day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Move {
    /// The day.
    pub day: NaiveDate,
    /// In the asset's currency.
    pub amount: Decimal,
    /// As a fraction of the close before.
    pub fraction: f64,
}

/// The moves of every asset but exchange rates, over this many moves of each at most.
///
/// # Errors
/// The database.
pub async fn load_asset_moves(pool: &PgPool, window: u32) -> Result<Answer<Vec<AssetMoves>>, Error> {
    fold_recent_closes(pool, window.saturating_add(1), asset_moves).await
}

fn asset_moves(mut asset: RecentCloses) -> AssetMoves {
    let (days, prices) = (std::mem::take(&mut asset.days), std::mem::take(&mut asset.prices));
    let days_per_year = if asset.class == "crypto" { 365.0 } else { 252.0 };
    AssetMoves {
        closes: prices.len(),
        last: days.last().copied().zip(prices.last().copied()),
        figures: figures(&days, &prices, days_per_year),
        asset,
    }
}

/// What closes say; none where there are too few.
fn figures(days: &[NaiveDate], prices: &[Decimal], days_per_year: f64) -> Option<Figures> {
    let pairs = prices.windows(2).zip(days.iter().skip(1));
    let moves: Vec<Move> = pairs
        .filter_map(|(pair, day)| {
            let amount = pair[1] - pair[0];
            let fraction = amount.to_f64()? / pair[0].to_f64()?;
            fraction.is_finite().then_some(Move { day: *day, amount, fraction })
        })
        .collect();
    if moves.len() < RETURNS_MIN {
        return None;
    }
    let last = *moves.last()?;
    let returns: Vec<f64> = moves.iter().map(|it| it.fraction).collect();
    let deviation = volatility::standard_deviation(&returns)?;
    let mut sizes: Vec<f64> = returns.iter().map(|it| it.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    let mut amounts: Vec<Decimal> = moves.iter().map(|it| it.amount.abs()).collect();
    amounts.sort();
    let unusualness = (deviation > 0.0).then(|| last.fraction.abs() / deviation);
    Some(Figures {
        last,
        typical_move: median_amount(&amounts),
        typical_return: median(&sizes),
        // Of equal ones the latest.
        largest_move: *moves.iter().max_by_key(|it| it.amount.abs())?,
        largest_return: *moves.iter().max_by(|a, b| a.fraction.abs().total_cmp(&b.fraction.abs()))?,
        volatility: volatility::annualized(&returns, days_per_year)?,
        unusualness,
    })
}

/// The middle of a sorted list; of two middles their mean.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

/// The same, rounded half-even to ten decimals.
fn median_amount(sorted: &[Decimal]) -> Decimal {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        return sorted[middle];
    }
    let mean = (sorted[middle - 1] + sorted[middle]) / Decimal::TWO;
    mean.round_dp_with_strategy(10, RoundingStrategy::MidpointNearestEven)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closes(prices: &[&str]) -> (Vec<NaiveDate>, Vec<Decimal>) {
        let start = NaiveDate::from_ymd_opt(2024, 1, 1).unwrap();
        let prices: Vec<Decimal> = prices.iter().map(|price| price.parse().unwrap()).collect();
        (start.iter_days().take(prices.len()).collect(), prices)
    }

    /// Twenty moves between 100 and 101, and then one from 100 to 110: sizes in order are twenty of 1 and one of 10.
    #[test]
    fn moves_by_hand() {
        let mut prices: Vec<&str> = [["100", "101"]; 10].concat();
        prices.extend(["100", "110"]);
        let (days, prices) = closes(&prices);
        let figures = figures(&days, &prices, 252.0).unwrap();
        assert_eq!(figures.typical_move, Decimal::ONE);
        assert_eq!((figures.largest_move.amount, figures.largest_move.day), (Decimal::TEN, days[21]));
        assert_eq!((figures.last.fraction, figures.largest_return.fraction), (0.1, 0.1));
        // Ten returns of 1 %, ten of −1/101, one of 10 %; the eleventh size in order is the smaller of the two.
        assert!((figures.typical_return - 0.01).abs() < 1e-12, "{}", figures.typical_return);
        let returns: Vec<f64> = [[0.01, 100.0 / 101.0 - 1.0]; 10].concat().into_iter().chain([0.1]).collect();
        let mean = returns.iter().sum::<f64>() / 21.0;
        let variance = returns.iter().map(|r| (r - mean) * (r - mean)).sum::<f64>() / 20.0;
        assert!((figures.volatility - (variance * 252.0).sqrt()).abs() < 1e-12);
        assert!((figures.unusualness.unwrap() - 0.1 / variance.sqrt()).abs() < 1e-9);
    }

    #[test]
    fn too_few_closes_have_no_figures_and_a_price_that_stands_still_is_never_unusual() {
        let (days, prices) = closes(&["5"; 20]);
        assert_eq!(figures(&days, &prices, 252.0), None);
        let (days, prices) = closes(&["5"; 21]);
        let still = figures(&days, &prices, 252.0).unwrap();
        assert_eq!((still.volatility, still.unusualness), (0.0, None));
    }

    #[test]
    fn the_median_of_an_even_number_is_the_mean_of_the_middle_two() {
        let two = ["0.0000000001", "0.0000000004"].map(|text| text.parse().unwrap());
        assert_eq!(median_amount(&two), "0.0000000002".parse().unwrap());
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
    }
}
