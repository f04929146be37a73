//! The steps of the demo, one after the other.

use chrono::NaiveTime;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::client::{Accepted, Client, Error, Place};
use super::history::{self, Fact, LIVE_DAYS};
use super::market::{Market, market};
use super::progress::{Progress, Running};
use super::report::{PortfolioReport, Prices, Report};
use super::styles::{PORTFOLIOS_PER_INVESTOR, Style, style};

/// The source that all prices of the demo name.
const SOURCE: &str = "demo";
/// When the exchange closes in winter: the instant of a live tick.
const TICK_AT: NaiveTime = NaiveTime::from_hms_opt(21, 0, 0).expect("21:00 is a time");
/// Portfolios that are played at the same time. Within one, each command waits for the one before.
pub(super) const PORTFOLIOS_AT_ONCE: usize = 16;
/// Bodies of prices on their way at the same time.
const PRICE_BODIES_AT_ONCE: usize = 4;
/// Ticks in one body.
const TICKS_A_BODY: usize = 5_000;
/// How long a read waits on the server for what was written.
const MAX_WAIT_MS: u64 = 10_000;

/// How large the demo is, and which one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Investors, with two portfolios each.
    pub investors: usize,
    /// Assets; those beyond the 20 real stocks are synthetic and say so.
    pub assets: usize,
    /// What the history is a function of.
    pub seed: u64,
    /// Tells this demo from others on the same server: 1 to 40 letters, digits or `-`.
    pub run: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { investors: 3, assets: 20, seed: 1, run: "first".into() }
    }
}

/// A portfolio that has been opened.
struct Opened {
    id: String,
    investor: String,
    style: &'static Style,
    facts: Vec<Fact>,
    /// Of its last command.
    place: Place,
}

/// The answer to a body of prices.
#[derive(Deserialize)]
struct PricesAnswer {
    accepted: usize,
    rejected: usize,
    place: Option<Place>,
    rejected_lines: Vec<Value>,
}

/// Plays the history and reports what the server then says. `base_url` is for example `http://127.0.0.1:8080`.
///
/// # Errors
/// A command that was refused (with its problem document), or a server that stays away for a minute.
pub async fn play(base_url: &str, options: &Options, progress: &Progress) -> Result<Report, Error> {
    let since = Instant::now();
    let client = Client::new(base_url)?;
    let market = market(options.assets.max(1));
    let stage = Stage { client, market, options };
    let mut steps = Vec::new();

    let begin = |what, total| progress.begin(what, total);
    let live_from = stage.market.days.len() - LIVE_DAYS;

    let running = begin("assets listed", stage.market.assets.len());
    stage.list_assets(&running).await?;
    steps.push(running.end());

    let running = begin("closes", stage.market.assets.len() * live_from);
    let last_close = stage.post_closes(live_from, &running).await?;
    steps.push(running.end());

    let running = begin("portfolios opened", options.investors * PORTFOLIOS_PER_INVESTOR);
    let portfolios = stage.open_portfolios(&running).await?;
    steps.push(running.end());

    let running = begin("trades, deposits, withdrawals", portfolios.iter().map(|p| p.facts.len()).sum());
    let portfolios = stage.enter_facts(portfolios, &running).await?;
    steps.push(running.end());

    let running = begin("live ticks", stage.market.assets.len() * LIVE_DAYS);
    let last_price = stage.post_ticks(live_from, &running).await?.max(last_close);
    steps.push(running.end());

    let running = begin("holdings and valuations", portfolios.len() * 2);
    let holdings = stage.ask(&portfolios, "holdings", None, &running).await?;
    let valuations = stage.ask(&portfolios, "valuation", last_price, &running).await?;
    steps.push(running.end());

    let running = begin("risk", portfolios.len());
    let risks = stage.ask(&portfolios, "risk", last_price, &running).await?;
    steps.push(running.end());

    let answers = holdings.into_iter().zip(valuations).zip(risks);
    let reports = portfolios.into_iter().zip(answers);
    let reports = reports.map(|(portfolio, ((holdings, valuation), risk))| PortfolioReport {
        portfolio_id: portfolio.id,
        name: portfolio.style.name.into(),
        investor: portfolio.investor,
        settings: portfolio.style.settings,
        facts: portfolio.facts.len(),
        holdings,
        valuation,
        risk,
    });
    Ok(Report {
        base_url: base_url.trim_end_matches('/').into(),
        run: options.run.clone(),
        seed: options.seed,
        portfolios: reports.collect(),
        steps,
        seconds: since.elapsed().as_secs_f64(),
        prices: Prices::SHIPPED,
    })
}

/// What every step needs.
pub(super) struct Stage<'a> {
    pub client: Client,
    pub market: Market,
    pub options: &'a Options,
}

impl Stage<'_> {
    /// Lists what is not listed yet. Assets and their prices are the same in every run, and so are their keys.
    pub async fn list_assets(&self, running: &Running) -> Result<(), Error> {
        for asset in &self.market.assets {
            let symbol = &asset.symbol;
            let listing =
                json!({ "symbol": symbol, "name": asset.name, "class": "equity", "currency": "USD" });
            let key = format!("demo/asset/{symbol}");
            match self.client.post::<Accepted>("/v1/assets", &key, listing.to_string()).await {
                // Somebody else has listed it: their asset will do.
                Err(Error::Refused { problem_type, .. }) if problem_type.ends_with("symbol-taken") => {}
                answer => drop(answer?),
            }
            let ranking = json!({ "sources": [{ "source": SOURCE, "adjustment": "splits_and_dividends" }] });
            let path = format!("/v1/assets/{symbol}/sources");
            self.client.post::<Value>(&path, &format!("demo/sources/{symbol}"), ranking.to_string()).await?;
            running.advance(1);
        }
        Ok(())
    }

    /// All closes before this day: a body an asset, days in order.
    pub async fn post_closes(&self, until: usize, running: &Running) -> Result<Option<Place>, Error> {
        let bodies = self.market.assets.iter().map(|asset| {
            let line = |day: usize| {
                let (price, date) = (asset.close(day), self.market.days[day]);
                json!({ "asset": asset.symbol, "day": date, "price": price, "source": SOURCE })
            };
            // The body depends on how many days there are, so the key does too.
            (format!("demo/closes/{}/{until}", asset.symbol), lines((0..until).map(line)))
        });
        self.post_prices(bodies, running).await
    }

    /// Day after day, all assets of a day together.
    async fn post_ticks(&self, live_from: usize, running: &Running) -> Result<Option<Place>, Error> {
        let mut last = None;
        for (day, date) in self.market.days.iter().enumerate().skip(live_from) {
            let at = date.and_time(TICK_AT).and_utc();
            let bodies = self.market.assets.chunks(TICKS_A_BODY).enumerate().map(|(number, assets)| {
                let line = |asset: &super::market::MarketAsset| {
                    json!({ "asset": asset.symbol, "at": at, "price": asset.close(day), "source": SOURCE })
                };
                // The body depends on how many assets there are, so the key does too.
                let key = format!("demo/ticks/{}/{date}/{number}", self.market.assets.len());
                (key, lines(assets.iter().map(line)))
            });
            last = last.max(self.post_prices(bodies, running).await?);
        }
        Ok(last)
    }

    async fn post_prices(
        &self,
        bodies: impl Iterator<Item = (String, String)>,
        running: &Running,
    ) -> Result<Option<Place>, Error> {
        let post = |(key, body): (String, String)| async move {
            let answer: PricesAnswer = self.client.post_lines("/v1/prices", &key, body).await?;
            if answer.rejected > 0 {
                let reason = format!("{} prices were rejected: {:?}", answer.rejected, answer.rejected_lines);
                return Err(Error::Unreadable { request: "POST /v1/prices".into(), reason });
            }
            running.advance(answer.accepted);
            Ok(answer.place)
        };
        let places = stream::iter(bodies.map(post)).buffer_unordered(PRICE_BODIES_AT_ONCE);
        places.try_fold(None, |last, place| async move { Ok(place.max(last)) }).await
    }

    async fn open_portfolios(&self, running: &Running) -> Result<Vec<Opened>, Error> {
        let opened =
            stream::iter((0..self.options.investors).map(|investor| self.open_for(investor, running)));
        let opened: Vec<Vec<Opened>> = opened.buffered(PORTFOLIOS_AT_ONCE).try_collect().await?;
        Ok(opened.into_iter().flatten().collect())
    }

    /// Registers an investor and opens their portfolios.
    async fn open_for(&self, investor: usize, running: &Running) -> Result<Vec<Opened>, Error> {
        let Options { run, seed, assets, .. } = self.options;
        let number = investor + 1;
        let name = format!("Demo Investor {number}");
        let profile = json!({
            "name": name,
            "email": format!("investor-{number}.{run}@example.com"),
            "risk_tolerance": (["low", "medium", "high"][investor % 3]),
            "experience_level": (["beginner", "intermediate", "advanced"][investor % 3]),
        });
        let key = format!("demo/{run}/investor/{number}");
        let registered: Accepted = self.client.post("/v1/investors", &key, profile.to_string()).await?;

        let mut opened = Vec::new();
        for portfolio in (0..PORTFOLIOS_PER_INVESTOR).map(|k| investor * PORTFOLIOS_PER_INVESTOR + k) {
            let style = style(portfolio);
            let mut opening = json!(style.settings);
            opening["investor_id"] = registered.id.as_str().into();
            opening["name"] = style.name.into();
            opening["base_currency"] = "USD".into();
            // Its facts depend on seed and market, so it is another portfolio for others.
            let key = format!("demo/{run}/{seed}/{assets}/portfolio/{portfolio}");
            let accepted: Accepted = self.client.post("/v1/portfolios", &key, opening.to_string()).await?;
            opened.push(Opened {
                id: accepted.id,
                investor: name.clone(),
                style,
                facts: history::plan(&self.market, style, *seed, portfolio),
                place: accepted.place,
            });
            running.advance(1);
        }
        Ok(opened)
    }

    async fn enter_facts(&self, portfolios: Vec<Opened>, running: &Running) -> Result<Vec<Opened>, Error> {
        let entered = portfolios.into_iter().map(|portfolio| self.enter_facts_of(portfolio, running));
        stream::iter(entered).buffered(PORTFOLIOS_AT_ONCE).try_collect().await
    }

    async fn enter_facts_of(&self, mut portfolio: Opened, running: &Running) -> Result<Opened, Error> {
        for (number, fact) in portfolio.facts.iter().enumerate() {
            let path = format!("/v1/portfolios/{}/{}", portfolio.id, fact.verb());
            let key = format!("demo/fact/{number}");
            let accepted: Accepted = self.client.post(&path, &key, json!(fact).to_string()).await?;
            portfolio.place = accepted.place;
            running.advance(1);
        }
        Ok(portfolio)
    }

    /// What the server says of each portfolio, with its last command in it, and the last price if there is one to wait for.
    async fn ask(
        &self,
        portfolios: &[Opened],
        what: &'static str,
        last_price: Option<Place>,
        running: &Running,
    ) -> Result<Vec<Value>, Error> {
        let ask = |portfolio: &Opened| {
            let path =
                format!("/v1/portfolios/{}/{what}?max_wait_ms={MAX_WAIT_MS}&min_position=", portfolio.id);
            let places = [Some(portfolio.place), last_price];
            async move {
                let mut answer = Value::Null;
                for place in places.into_iter().flatten() {
                    answer = self.client.get(&format!("{path}{place}")).await?;
                }
                running.advance(1);
                Ok(answer)
            }
        };
        stream::iter(portfolios.iter().map(ask)).buffered(PORTFOLIOS_AT_ONCE).try_collect().await
    }
}

/// One JSON document a line.
fn lines(documents: impl Iterator<Item = Value>) -> String {
    documents.fold(String::new(), |mut text, document| {
        text.push_str(&document.to_string());
        text.push('\n');
        text
    })
}
