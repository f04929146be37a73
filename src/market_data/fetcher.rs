//! One fetch from beginning to end.
//!
//! Assets are worked on side by side, each from the question to the append, so that no more answers are in memory than are
//! asked for at once. Each source has a row of its own, so that a slow one holds up nobody else's. Before anything is asked, the rows must have seen the log as it stood when the fetch began: what a
//! fetch before this one has appended is then known.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use futures::StreamExt;
use futures::stream::select_all;
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::append::{self, Appended};
use super::client::{Answer, Body, Client, Key};
use super::judge::{self, Judged, Standing};
use super::restated;
use super::seen::Told;
use super::settings::Settings;
use super::source::{Days, Opened, Subject};
use super::summary::{Refused, Request, Summary, What};
use super::target::{self, Target};
use crate::clock::Clock;
use crate::commands::Commands;
use crate::domain::asset::Adjustment;
use crate::domain::dates;
use crate::domain::ids::{AssetId, Position};
use crate::domain::money::Price;
use crate::queries;
use crate::queries::fetching;

/// How long the rows may take to see what the log holds already.
const ROWS_WITHIN: Duration = Duration::from_secs(15);
const ASK_EVERY: Duration = Duration::from_millis(20);
/// A body of so many bytes is read in well under a millisecond.
const SMALL_BYTES: usize = 32 << 10;

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
    pool: PgPool,
    commands: Commands,
    clock: Clock,
    settings: Arc<Settings>,
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
    days_now: DateTime<Utc>,
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
        let Parts { pool, commands, clock, settings } = parts;
        let clients = settings.sources.keys().map(|name| (name.clone(), OnceLock::new())).collect();
        Ok(Self { pool, commands, clock, settings: Arc::new(settings), clients })
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
            super::metric::fetched(summary, self.clock.now());
        }
        fetched
    }

    async fn run(
        &self,
        request: &Request,
        progress: &(impl Fn(u64, u64) + Send + Sync),
    ) -> Result<Summary, Error> {
        let (began, settings) = (Instant::now(), &*self.settings);
        if let Some(source) = request.source.as_ref().filter(|source| !settings.sources.contains_key(*source))
        {
            let names: Vec<&str> = settings.sources.keys().map(String::as_str).collect();
            return Err(Error::UnknownSource(source.clone(), names.join(", ")));
        }
        self.rows_have_seen_the_log().await?;
        let now = self.clock.now();
        let (targets, refused) = target::find(&self.pool, settings, request, now).await?;
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
            waiting: Vec::new(),
            refused,
            took: Duration::ZERO,
        };
        let mut done = summary.refused.len() as u64;
        progress(done, total);
        let rows = self.groups(targets)?.into_iter().map(|(source, groups)| {
            // More than are asked at once: while some are appended, others are asked about.
            let at_once = settings.sources[&source].asking.concurrency as usize * 4;
            let run = &run;
            let working = groups.into_iter().map(move |group| self.group(run, group));
            Box::pin(futures::stream::iter(working).buffer_unordered(at_once))
        });
        let mut working = select_all(rows);
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

    /// Of each source the assets that one answer is about.
    fn groups(&self, targets: Vec<Target>) -> Result<BTreeMap<String, Vec<Vec<Target>>>, Error> {
        let mut rows: BTreeMap<String, Vec<Vec<Target>>> = BTreeMap::new();
        for target in targets {
            self.client(&target.source)?;
            let is_for_all = self.settings.sources[&target.source].answers_for_all();
            let groups = rows.entry(target.source.clone()).or_default();
            match groups.first_mut().filter(|_| is_for_all) {
                Some(group) => group.push(target),
                None => groups.push(vec![target]),
            }
        }
        Ok(rows)
    }

    fn client(&self, name: &str) -> Result<Arc<Client>, Error> {
        let slot = &self.clients[name];
        if let Some(client) = slot.get() {
            return Ok(Arc::clone(client));
        }
        let source = &self.settings.sources[name];
        let opened = Client::open(&source.asking, source.limit(), self.clock.clone());
        let opened = opened.map_err(|source| Error::Client { source_name: name.to_owned(), source })?;
        Ok(Arc::clone(slot.get_or_init(|| Arc::new(opened))))
    }

    /// Asks once and works on everything that the answer is about.
    async fn group(&self, run: &Run<'_>, group: Vec<Target>) -> Vec<(Target, Outcome)> {
        let what = run.request.what;
        let name = group[0].source.clone();
        let source = &self.settings.sources[&name];
        let since = group.iter().map(|target| target.since).min().unwrap_or_default();
        let days = Days { since, now: run.days_now };
        let (mut outcomes, mut good, mut url) = (Vec::with_capacity(group.len()), Vec::new(), None);
        for target in group {
            match source.address(what, &target.subject, days) {
                Ok(address) => {
                    url = address;
                    good.push(target);
                }
                Err(reason) => outcomes.push((target, Outcome::Refused(reason))),
            }
        }
        if good.is_empty() {
            return outcomes;
        }
        let key = key(what, url.as_deref().unwrap_or_default(), &good);
        let mut body = match self.ask(run, &name, url.as_deref(), Some(&key)).await {
            Ok(Answer::Body(body)) => body,
            Ok(Answer::NotModified) => {
                outcomes.extend(good.into_iter().map(|it| (it, Outcome::Unchanged)));
                return outcomes;
            }
            Err(reason) => {
                outcomes.extend(good.into_iter().map(|it| (it, Outcome::Refused(reason.clone()))));
                return outcomes;
            }
        };
        let validators = std::mem::take(&mut body.validators);
        let subjects = good.iter().map(|it| (it.subject.clone(), it.since)).collect();
        let told = self.read(what, &name, subjects, days, body).await;
        let mut is_whole = !run.request.dry_run && outcomes.is_empty();
        for (mut target, told) in good.into_iter().zip(told) {
            let worked = match told {
                Ok(told) => self.work(run, &mut target, told).await,
                Err(reason) => Err(reason),
            };
            let (outcome, has_more) = worked.unwrap_or_else(|reason| (Outcome::Refused(reason), true));
            // An answer is recognised once nothing of it is left to be done.
            is_whole &= !has_more && matches!(outcome, Outcome::Fetched(_) | Outcome::Unchanged);
            outcomes.push((target, outcome));
        }
        if let (true, Some(_), Ok(client)) = (is_whole, url, self.client(&name)) {
            client.remember(key, validators);
        }
        outcomes
    }

    /// What the answer says of each. A body is gone when this is done; a large one is read beside the runtime.
    async fn read(
        &self,
        what: What,
        name: &str,
        subjects: Vec<(Subject, NaiveDate)>,
        days: Days,
        body: Body,
    ) -> Vec<Result<Told, String>> {
        let is_small = (1..SMALL_BYTES).contains(&body.bytes.len());
        let (settings, name, count) = (Arc::clone(&self.settings), name.to_owned(), subjects.len());
        let read = move || {
            // All of it, with its place among those who ask.
            let body = body;
            let source = &settings.sources[&name];
            let opened = source.open(what, days.since, &body.bytes, body.is_unframed);
            let read = |(subject, since): (Subject, NaiveDate)| {
                let opened: &Opened<'_> = opened.as_ref().map_err(Clone::clone)?;
                source.read(what, &subject, Days { since, ..days }, opened)
            };
            subjects.into_iter().map(read).collect()
        };
        if is_small {
            return read();
        }
        match tokio::task::spawn_blocking(read).await {
            Ok(read) => read,
            Err(error) => vec![Err(unread(error)); count],
        }
    }

    async fn ask(
        &self,
        run: &Run<'_>,
        name: &str,
        url: Option<&str>,
        key: Option<&Key>,
    ) -> Result<Answer, String> {
        // A source that needs no network has nothing to say but what is read.
        let Some(url) = url else { return Ok(Answer::Body(Body::default())) };
        let client = self.client(name).map_err(|error| error.to_string())?;
        client.get(url, key, run.deadline, &run.retried).await
    }

    /// Judges and appends what was told of one asset. Whether the same answer may have more to give another time.
    async fn work(
        &self,
        run: &Run<'_>,
        target: &mut Target,
        mut told: Told,
    ) -> Result<(Outcome, bool), String> {
        let Run { request, days_now: now, .. } = *run;
        let source = &self.settings.sources[&target.source];
        let series = source.series(request.what);
        let (bounds, settles, mut is_anew) = (self.settings.bounds, source.settles_today_in(), false);
        if request.what != What::Quotes {
            target.known.closes = self.closes(target, &series.name, target.since, now).await?;
            if series.adjustment != Adjustment::None && restated::differs(&target.known, &told.seen) {
                told = self.ask_for_all(run, target, &series.name).await?;
                is_anew = true;
            }
        }
        let unfinished = told.unfinished;
        let judge = if is_anew { restated::judge_whole } else { judge::judge };
        let judged = judge(bounds, now, settles, &target.known, told.seen)?;
        let goes_on = unfinished || judged.passed_over > 0;
        if goes_on && judged.is_empty() {
            return Err("tells only of a day that is not over: it has no close yet".to_owned());
        }
        let mut appended = would_append(&judged);
        if !request.dry_run {
            appended =
                append::append(&self.commands, target, &series.name, &judged, run.correlation_id).await?;
        }
        let outcome = if appended.held > 0 || judged.waiting > 0 {
            Outcome::Waits(appended)
        } else if appended.prices > 0 {
            Outcome::Fetched(appended)
        } else {
            Outcome::Unchanged
        };
        Ok((outcome, is_anew || goes_on))
    }

    /// Asks for a series from its first known day on, which its source seems to tell anew.
    async fn ask_for_all(&self, run: &Run<'_>, target: &mut Target, series: &str) -> Result<Told, String> {
        let (what, now) = (run.request.what, run.days_now);
        target.known.closes = self.closes(target, series, dates::FIRST_DAY, now).await?;
        let first = target.known.closes.keys().next().copied();
        target.since = first.map_or(target.since, |first| first.min(target.since));
        let days = Days { since: target.since, now };
        let url = self.settings.sources[&target.source].address(what, &target.subject, days)?;
        let Answer::Body(body) = self.ask(run, &target.source, url.as_deref(), None).await? else {
            return Err("does not say what it was asked for".to_owned());
        };
        let subjects = vec![(target.subject.clone(), target.since)];
        let told = self.read(what, &target.source, subjects, days, body).await;
        told.into_iter().next().unwrap_or_else(|| Err("was not read".to_owned()))
    }

    async fn closes(
        &self,
        target: &Target,
        series: &str,
        since: NaiveDate,
        now: DateTime<Utc>,
    ) -> Result<BTreeMap<NaiveDate, Standing>, String> {
        let until = now.date_naive() + chrono::Days::new(2);
        let closes = fetching::list_series_closes(&self.pool, target.asset_id, series, since, until).await;
        let closes = closes.map_err(|error| format!("has closes that cannot be read: {error}"))?;
        let standing = |close: fetching::ClosePlace| {
            let price = Price::from_decimal(close.price);
            (close.day, Standing { price, position: Position(close.position) })
        };
        Ok(closes.into_iter().map(standing).collect())
    }

    async fn rows_have_seen_the_log(&self) -> Result<(), Error> {
        let began = Instant::now();
        let (head, mut scanned) = fetching::find_market_scan(&self.pool).await?;
        while scanned < head {
            if began.elapsed() > ROWS_WITHIN {
                return Err(Error::RowsBehind { behind: head.0 - scanned.0 });
            }
            sleep(ASK_EVERY).await;
            (_, scanned) = fetching::find_market_scan(&self.pool).await?;
        }
        Ok(())
    }
}

/// What a question is known by. What is taken from an answer depends on more than its address: on the assets that it is read
/// for, and on the day from which each wants it.
fn key(what: What, url: &str, targets: &[Target]) -> Key {
    let since = |it: &Target| if what == What::Quotes { NaiveDate::MIN } else { it.since };
    let assets: BTreeSet<(AssetId, NaiveDate)> = targets.iter().map(|it| (it.asset_id, since(it))).collect();
    Sha256::digest(format!("{what:?}\n{url}\n{assets:?}").as_bytes()).into()
}

/// A fault of ours is not hidden; a runtime that ends is none.
fn unread(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => "was not read: this process ends".to_owned(),
    }
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
            summary.waiting.push(target.symbol.clone());
            summary.prices += appended.prices;
        }
        Outcome::Refused(reason) => {
            tracing::warn!(symbol = target.symbol, source = target.source, reason, "prices were refused");
            let (symbol, source) = (target.symbol.clone(), target.source.clone());
            summary.refused.push(Refused { symbol, source, reason });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_was_cancelled_is_no_panic() {
        let task = tokio::spawn(std::future::pending::<()>());
        task.abort();
        assert!(unread(task.await.unwrap_err()).contains("this process ends"));
    }
}
