//! One fetch from beginning to end.
//!
//! Assets are worked on side by side, each from the question to the append, so that no more answers are in memory than are
//! asked for at once. Before anything is asked, the rows must have seen the log as it stood when the fetch began: what a
//! fetch before this one has appended is then known.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt;
use sqlx::PgPool;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::append::{self, Appended};
use super::client::{Answer, Client, Validators};
use super::judge::{self, Judged, Standing};
use super::settings::{Settings, SourceSettings};
use super::source::Days;
use super::summary::{Refused, Request, Summary, What};
use super::target::{self, Target};
use crate::clock::Clock;
use crate::commands::Commands;
use crate::domain::ids::Position;
use crate::domain::money::Price;
use crate::queries;
use crate::queries::fetching;

/// How long the rows may take to see what the log holds already.
const ROWS_WITHIN: Duration = Duration::from_secs(15);
const ASK_EVERY: Duration = Duration::from_millis(20);

/// What a fetcher stands on.
pub struct Parts {
    /// Where the read models are.
    pub pool: PgPool,
    /// The write side of this process.
    pub commands: Commands,
    /// Tells whether a price lies ahead.
    pub clock: Clock,
    /// Where prices come from.
    pub settings: Settings,
}

/// Why nothing could be fetched at all. What goes wrong with one asset is in [`Summary::refused`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source that was asked for is not in the settings.
    #[error("there is no source {0}: the settings have {1}")]
    UnknownSource(String, String),
    /// Nobody projects, or not fast enough.
    #[error(
        "the rows of prices are {behind} events behind the log, so that it is not known what is news: is a projector of \
         prices and directory running?"
    )]
    RowsBehind {
        /// Events.
        behind: i64,
    },
    /// The read models cannot be read.
    #[error("what is known of prices cannot be read")]
    Rows(#[from] queries::Error),
    /// What speaks with a source cannot be set up.
    #[error("the source {source_name} cannot be asked")]
    Client {
        /// The source.
        source_name: String,
        /// Why.
        source: reqwest::Error,
    },
    /// It was told to end.
    #[error("the fetch was ended before it was done")]
    Cancelled,
}

/// Fetches prices. Keep it: it remembers what sources have said, how they are and how fast they may be asked.
pub struct Fetcher {
    parts: Parts,
    clients: HashMap<String, OnceLock<Arc<Client>>>,
}

/// What became of an asset.
enum Outcome {
    Fetched(Appended),
    Unchanged,
    Waits(Appended),
    Refused(String),
}

/// What a fetch shares between its assets.
struct Run<'a> {
    request: &'a Request,
    days_now: chrono::DateTime<chrono::Utc>,
    deadline: Instant,
    retried: AtomicU64,
    correlation_id: Uuid,
}

impl Fetcher {
    /// Opens one. Nobody is asked yet.
    ///
    /// # Errors
    /// [`Error::Client`].
    pub fn open(parts: Parts) -> Result<Self, Error> {
        let clients = parts.settings.sources.keys().map(|name| (name.clone(), OnceLock::new())).collect();
        Ok(Self { parts, clients })
    }

    /// Fetches. `progress` is told how many assets are done, of how many. Cancelled, it ends soon; what was appended stays.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn fetch(
        &self,
        request: Request,
        progress: impl Fn(u64, u64) + Send + Sync,
        cancel: CancellationToken,
    ) -> Result<Summary, Error> {
        let fetched = cancel.run_until_cancelled(self.run(&request, &progress)).await;
        let fetched = fetched.unwrap_or(Err(Error::Cancelled));
        if let Ok(summary) = &fetched {
            super::metric::fetched(summary, self.parts.clock.now());
        }
        fetched
    }

    async fn run(
        &self,
        request: &Request,
        progress: &(impl Fn(u64, u64) + Send + Sync),
    ) -> Result<Summary, Error> {
        let (began, settings) = (Instant::now(), &self.parts.settings);
        if let Some(source) = request.source.as_ref().filter(|source| !settings.sources.contains_key(*source))
        {
            let names: Vec<&str> = settings.sources.keys().map(String::as_str).collect();
            return Err(Error::UnknownSource(source.clone(), names.join(", ")));
        }
        self.rows_have_seen_the_log().await?;
        let now = self.parts.clock.now();
        let (targets, refused) = target::find(&self.parts.pool, settings, request, now).await?;
        let run = Run {
            request,
            days_now: now,
            deadline: began + settings.total,
            retried: AtomicU64::new(0),
            correlation_id: Uuid::now_v7(),
        };
        let total = (targets.len() + refused.len()) as u64;
        let mut summary = Summary {
            what: request.what,
            dry_run: request.dry_run,
            asked: total,
            fetched: 0,
            prices: 0,
            unchanged: 0,
            retried: 0,
            held: 0,
            refused,
            took: Duration::ZERO,
        };
        let mut done = summary.refused.len() as u64;
        progress(done, total);
        let (groups, at_once) = self.groups(targets)?;
        let mut working = futures::stream::iter(groups.into_iter().map(|group| self.group(&run, group)))
            .buffer_unordered(at_once);
        while let Some(outcomes) = working.next().await {
            for (target, outcome) in outcomes {
                note(&mut summary, &target, outcome);
                done += 1;
            }
            progress(done, total);
        }
        drop(working);
        summary.refused.sort();
        summary.retried = run.retried.load(Ordering::Relaxed);
        summary.took = began.elapsed();
        Ok(summary)
    }

    /// Assets that one answer is about, and how many groups are worked on at once.
    fn groups(&self, targets: Vec<Target>) -> Result<(Vec<Vec<Target>>, usize), Error> {
        let (mut groups, mut at_once): (Vec<Vec<Target>>, HashMap<String, usize>) = Default::default();
        let mut for_all: HashMap<String, usize> = HashMap::new();
        for target in targets {
            let source = &self.parts.settings.sources[&target.source];
            self.client(&target.source)?;
            at_once.insert(target.source.clone(), source.asking.concurrency as usize);
            let known = source.answers_for_all().then(|| for_all.get(&target.source).copied()).flatten();
            match known {
                Some(group) => groups[group].push(target),
                None => {
                    if source.answers_for_all() {
                        for_all.insert(target.source.clone(), groups.len());
                    }
                    groups.push(vec![target]);
                }
            }
        }
        // Twice as many as are asked at once: while some are appended, others are asked about.
        Ok((groups, at_once.values().sum::<usize>().max(1) * 2))
    }

    fn client(&self, name: &str) -> Result<Arc<Client>, Error> {
        let slot = &self.clients[name];
        if let Some(client) = slot.get() {
            return Ok(Arc::clone(client));
        }
        let asking = &self.parts.settings.sources[name].asking;
        let opened = Client::open(asking, self.parts.clock.clone());
        let opened = opened.map_err(|source| Error::Client { source_name: name.to_owned(), source })?;
        Ok(Arc::clone(slot.get_or_init(|| Arc::new(opened))))
    }

    /// Asks once and works on everything that the answer is about.
    async fn group(&self, run: &Run<'_>, group: Vec<Target>) -> Vec<(Target, Outcome)> {
        let source = &self.parts.settings.sources[&group[0].source];
        let since = group.iter().map(|target| target.since).min().unwrap_or_default();
        let days = Days { since, now: run.days_now };
        let asked = self.ask(run, source, &group[0], days).await;
        let (url, body, validators) = match asked {
            Ok(Asked::Body { url, body, validators }) => (url, body, validators),
            Ok(Asked::NotModified) => return group.into_iter().map(|it| (it, Outcome::Unchanged)).collect(),
            Err(reason) => {
                return group.into_iter().map(|it| (it, Outcome::Refused(reason.clone()))).collect();
            }
        };
        let mut outcomes = Vec::with_capacity(group.len());
        for mut target in group {
            let days = Days { since: target.since, ..days };
            let outcome = self.work(run, source, &mut target, days, &body).await;
            outcomes.push((target, outcome.unwrap_or_else(Outcome::Refused)));
        }
        // An answer is recognised once nothing of it is left to be done.
        let is_settled = |outcome: &Outcome| matches!(outcome, Outcome::Fetched(_) | Outcome::Unchanged);
        let is_whole = !run.request.dry_run && outcomes.iter().all(|(_, outcome)| is_settled(outcome));
        if let (true, Some(url), Ok(client)) = (is_whole, url, self.client(&outcomes[0].0.source)) {
            client.remember(&url, validators);
        }
        outcomes
    }

    async fn ask(
        &self,
        run: &Run<'_>,
        source: &SourceSettings,
        target: &Target,
        days: Days,
    ) -> Result<Asked, String> {
        let Some(url) = source.address(run.request.what, &target.subject, days)? else {
            return Ok(Asked::Body { url: None, body: Vec::new(), validators: Validators::default() });
        };
        let client = self.client(&target.source).map_err(|error| error.to_string())?;
        Ok(match client.get(&url, run.deadline, &run.retried).await? {
            Answer::NotModified => Asked::NotModified,
            Answer::Body(body, validators) => Asked::Body { url: Some(url), body, validators },
        })
    }

    /// Reads, judges and appends what an answer says of one asset.
    async fn work(
        &self,
        run: &Run<'_>,
        source: &SourceSettings,
        target: &mut Target,
        days: Days,
        body: &[u8],
    ) -> Result<Outcome, String> {
        let Run { request, .. } = run;
        let told = source.read(request.what, &target.subject, days, body)?;
        let series = &source.series(request.what).name;
        if request.what != What::Quotes {
            let (since, until) = (target.since, days.now.date_naive() + chrono::Days::new(2));
            let closes =
                fetching::list_series_closes(&self.parts.pool, target.asset_id, series, since, until);
            let closes = closes.await.map_err(|error| format!("has closes that cannot be read: {error}"))?;
            target.known.closes = closes
                .into_iter()
                .map(|close| {
                    let price = Price::from_decimal(close.price);
                    (close.day, Standing { price, position: Position(close.position) })
                })
                .collect();
        }
        let bounds = self.parts.settings.bounds;
        let judged = judge::judge(bounds, days.now, source.settles_today(), &target.known, told.seen)?;
        let mut appended = would_append(&judged);
        if !request.dry_run {
            appended =
                append::append(&self.parts.commands, target, series, &judged, run.correlation_id).await?;
        }
        Ok(if appended.held > 0 || judged.waiting > 0 {
            Outcome::Waits(appended)
        } else if appended.prices > 0 {
            Outcome::Fetched(appended)
        } else {
            Outcome::Unchanged
        })
    }

    async fn rows_have_seen_the_log(&self) -> Result<(), Error> {
        let began = Instant::now();
        let (head, mut scanned) = fetching::find_market_scan(&self.parts.pool).await?;
        while scanned < head {
            if began.elapsed() > ROWS_WITHIN {
                return Err(Error::RowsBehind { behind: head.0 - scanned.0 });
            }
            sleep(ASK_EVERY).await;
            (_, scanned) = fetching::find_market_scan(&self.parts.pool).await?;
        }
        Ok(())
    }
}

enum Asked {
    Body { url: Option<String>, body: Vec<u8>, validators: Validators },
    NotModified,
}

fn would_append(judged: &Judged) -> Appended {
    Appended { prices: judged.take.len() as u64, held: judged.hold.len() as u64 }
}

fn note(summary: &mut Summary, target: &Target, outcome: Outcome) {
    match outcome {
        Outcome::Unchanged => summary.unchanged += 1,
        Outcome::Fetched(appended) => {
            summary.fetched += 1;
            summary.prices += appended.prices;
        }
        Outcome::Waits(appended) => {
            summary.held += 1;
            summary.prices += appended.prices;
        }
        Outcome::Refused(reason) => {
            tracing::warn!(symbol = target.symbol, source = target.source, reason, "prices were refused");
            let (symbol, source) = (target.symbol.clone(), target.source.clone());
            summary.refused.push(Refused { symbol, source, reason });
        }
    }
}
