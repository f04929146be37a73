//! Portfolios to try things on: investors, assets with all their closes, and a portfolio each that holds some of them.
//!
//! What an investor buys is a function of seed, number, and how many assets there are to choose from. Keys are made from the same,
//! so seeding again changes nothing, and seeding more adds what is missing.

use chrono::NaiveDate;
use futures::stream::{self, StreamExt, TryStreamExt};
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use serde_json::json;

use super::client::{Accepted, Client, Error};
use super::market::{Market, market};
use super::play::{Options, PORTFOLIOS_AT_ONCE, Stage};
use super::progress::{Progress, Running};
use super::report::{Prices, Step};
use super::table::{Side, Table, number};

/// Buys are dated within so many trading days before the last close.
const BOUGHT_WITHIN_DAYS: usize = 750;
/// Units of a buy at most.
const QUANTITY_MAX: u32 = 200;

/// How much is seeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedOptions {
    /// Investors, with a portfolio each.
    pub investors: usize,
    /// Assets; those beyond the 20 real stocks are synthetic and say so.
    pub assets: usize,
    /// A portfolio holds 1 to so many assets.
    pub assets_per_portfolio_max: usize,
    /// What is bought is a function of it.
    pub seed: u64,
}

/// What was seeded.
#[derive(Debug, Serialize)]
pub struct SeedReport {
    /// Where.
    pub base_url: String,
    /// The seed.
    pub seed: u64,
    /// How many of what, and how long it took.
    pub steps: Vec<Step>,
    /// The portfolios.
    pub portfolios: Vec<SeededPortfolio>,
    /// Where the prices are from.
    pub prices: Prices,
}

/// A portfolio that was seeded.
#[derive(Debug, Serialize)]
pub struct SeededPortfolio {
    /// Its id.
    pub portfolio_id: String,
    /// Its investor's id.
    pub investor_id: String,
    /// What it holds.
    pub symbols: Vec<String>,
}

/// A buy; it serialises as its body.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Buy {
    asset: String,
    quantity: String,
    price: crate::domain::money::Price,
    trade_date: NaiveDate,
}

/// Seeds the server at `base_url`.
///
/// # Errors
/// A command that was refused (with its problem document), or a server that stays away for a minute.
pub async fn seed(base_url: &str, options: &SeedOptions, progress: &Progress) -> Result<SeedReport, Error> {
    let play = Options { assets: options.assets, seed: options.seed, ..Options::default() };
    let stage =
        Stage { client: Client::new(base_url)?, market: market(options.assets.max(1)), options: &play };
    let mut steps = Vec::new();

    let running = progress.begin("assets listed", stage.market.assets.len());
    stage.list_assets(&running).await?;
    steps.push(running.end());

    let days = stage.market.days.len();
    let running = progress.begin("closes", stage.market.assets.len() * days);
    stage.post_closes(days, &running).await?;
    steps.push(running.end());

    let running = progress.begin("portfolios with holdings", options.investors);
    let seeded = (0..options.investors).map(|investor| seed_one(&stage, options, investor, &running));
    let portfolios = stream::iter(seeded).buffered(PORTFOLIOS_AT_ONCE).try_collect().await?;
    steps.push(running.end());

    Ok(SeedReport {
        base_url: base_url.trim_end_matches('/').into(),
        seed: options.seed,
        steps,
        portfolios,
        prices: Prices::SHIPPED,
    })
}

/// An investor, their portfolio, and what it holds.
async fn seed_one(
    stage: &Stage<'_>,
    options: &SeedOptions,
    investor: usize,
    running: &Running,
) -> Result<SeededPortfolio, Error> {
    let SeedOptions { assets, assets_per_portfolio_max, seed, .. } = options;
    let number = investor + 1;
    let profile = json!({
        "name": format!("Seeded Investor {number}"),
        "email": format!("seeded-{number}.{seed}@example.com"),
        "risk_tolerance": (["low", "medium", "high"][investor % 3]),
    });
    let key = format!("seed/{seed}/investor/{number}");
    let registered: Accepted = stage.client.post("/v1/investors", &key, profile.to_string()).await?;

    let opening =
        json!({ "investor_id": registered.id, "name": format!("Seeded {number}"), "base_currency": "USD" });
    // What it holds depends on all of these, so it is another portfolio for others.
    let key = format!("seed/{seed}/{assets}/{assets_per_portfolio_max}/portfolio/{number}");
    let opened: Accepted = stage.client.post("/v1/portfolios", &key, opening.to_string()).await?;
    let buys = plan(&stage.market, options, investor);
    for buy in &buys {
        let path = format!("/v1/portfolios/{}/buy", opened.id);
        let key = format!("seed/buy/{}", buy.asset);
        stage.client.post::<Accepted>(&path, &key, json!(buy).to_string()).await?;
    }
    running.advance(1);
    let symbols = buys.into_iter().map(|buy| buy.asset).collect();
    Ok(SeededPortfolio { portfolio_id: opened.id, investor_id: registered.id, symbols })
}

/// What an investor buys: each asset once, on a day of its own at that day's close.
fn plan(market: &Market, options: &SeedOptions, investor: usize) -> Vec<Buy> {
    let seed = options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(investor as u64);
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut universe: Vec<usize> = (0..market.assets.len()).collect();
    universe.shuffle(&mut random);
    let held = random.random_range(1..=options.assets_per_portfolio_max.clamp(1, universe.len()));
    universe.truncate(held);
    let last = market.days.len() - 1;
    let buy = |index: usize| {
        let asset = &market.assets[index];
        let day = last - random.random_range(0..BOUGHT_WITHIN_DAYS.min(last));
        Buy {
            asset: asset.symbol.clone(),
            quantity: random.random_range(1..=QUANTITY_MAX).to_string(),
            price: asset.close(day),
            trade_date: market.days[day],
        }
    };
    universe.into_iter().map(buy).collect()
}

/// What was seeded, as a table.
pub fn render_seed(report: &SeedReport) -> String {
    let mut table = Table::new(&[("portfolio", Side::Left), ("assets", Side::Right), ("holds", Side::Left)]);
    for portfolio in report.portfolios.iter().take(SHOWN_MAX) {
        let symbols = &portfolio.symbols;
        table.row([portfolio.portfolio_id.clone(), number(symbols.len().into(), 0), symbols.join(" ")]);
    }
    let more = report.portfolios.len().saturating_sub(SHOWN_MAX);
    let more = if more > 0 { format!("  and {more} more\n") } else { String::new() };
    format!("\n{table}{more}\n  {}\n  {}/v1/portfolios", report.prices.credit, report.base_url)
}

/// Portfolios in the table.
const SHOWN_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: SeedOptions =
        SeedOptions { investors: 3, assets: 20, assets_per_portfolio_max: 8, seed: 1 };

    #[test]
    fn a_plan_is_a_function_of_seed_and_number() {
        let market = market(OPTIONS.assets);
        let plans: Vec<Vec<Buy>> = (0..50).map(|investor| plan(&market, &OPTIONS, investor)).collect();
        for (investor, planned) in plans.iter().enumerate() {
            assert_eq!(*planned, plan(&market, &OPTIONS, investor));
            assert!((1..=8).contains(&planned.len()));
            let symbols: std::collections::BTreeSet<&str> = planned.iter().map(|buy| &*buy.asset).collect();
            assert_eq!(symbols.len(), planned.len(), "an asset is bought once");
        }
        assert_ne!(plans[0], plans[1]);
        assert_ne!(plans[0], plan(&market, &SeedOptions { seed: 2, ..OPTIONS }, 0));
    }

    #[test]
    fn no_portfolio_holds_more_assets_than_there_are() {
        let market = market(2);
        let options = SeedOptions { assets: 2, ..OPTIONS };
        assert!((0..20).all(|investor| plan(&market, &options, investor).len() <= 2));
    }
}
