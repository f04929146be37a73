//! `insight fetch`: prices from outside, once with a verb, or again and again of what somebody holds.
//!
//! It writes through a write side of its own, beside whatever else runs: the log sees to it that nothing happens twice.

use std::fmt::Write as _;
use std::future::Future;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::process::log_format;
use super::scrape;
use super::visit::Visit;
use crate::clock::Clock;
use crate::commands::{self, Commands};
use crate::config;
pub use crate::market_data::What;
use crate::market_data::{Daily, Fetcher, Parts, Request, Settings, Summary};
use crate::metrics;
use crate::shutdown::Shutdown;
use crate::telemetry::metrics_recorder;

/// Refusals that are printed.
const REFUSED_SHOWN_MAX: usize = 200;

/// Fetches once, and prints what came of it; the exit code tells whether all came.
///
/// # Errors
/// Settings that cannot be read, a database that cannot be reached, rows that are too far behind.
pub async fn once(settings: config::Settings, what: What, told: config::Fetch) -> anyhow::Result<ExitCode> {
    crate::telemetry::init_logs(log_format(&settings), "error")?;
    if what == What::Quotes && told.since.is_some() {
        bail!("--since is for history and rates: a quote is the latest price");
    }
    let request = Request {
        what,
        symbols: told.symbols,
        source: told.source,
        since: told.since,
        dry_run: told.dry_run,
    };
    let (bar, shutdown) = (bar(what), Shutdown::new());
    let fetched = with_fetcher(&settings, &shutdown, |fetcher, cancel| {
        let bar = bar.clone();
        async move {
            let shown = |done, total| {
                bar.set_length(total);
                bar.set_position(done);
            };
            Ok(fetcher.fetch(request, shown, cancel).await?)
        }
    });
    let fetched = fetched.await;
    bar.finish_and_clear();
    let summary = fetched?;
    print!("{}", table(&summary));
    Ok(if summary.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Fetches quotes of what somebody holds, and all exchange rates, until the process is asked to end; closes once a day, and
/// again what did not come.
///
/// # Errors
/// Settings that cannot be read, a database that cannot be reached at the start.
pub async fn follow(settings: config::Settings) -> anyhow::Result<ExitCode> {
    crate::telemetry::init_logs(log_format(&settings), "info,sqlx::postgres::notice=warn")?;
    let every = Duration::from_secs(settings.market_data.fetch_every.into());
    let shutdown = Shutdown::new();
    scrape::spawn(&settings, &shutdown, &metrics_recorder(metrics::describe)?).await?;
    with_fetcher(&settings, &shutdown, |fetcher, cancel| async move {
        info!(every = ?every, "fetching what somebody holds");
        let mut closes = Daily::new(every);
        loop {
            for what in [What::Quotes, What::Rates] {
                round(&fetcher, what, Vec::new(), cancel.clone()).await;
            }
            let today = Clock::System.now().date_naive();
            if let Some(symbols) = closes.due(today, Instant::now())
                && let Some(summary) = round(&fetcher, What::History, symbols, cancel.clone()).await
            {
                closes.asked(today, Instant::now(), &summary);
            }
            if cancel.run_until_cancelled(tokio::time::sleep(every)).await.is_none() {
                return Ok(());
            }
        }
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}

/// One round, of these symbols or of all. What fails is told and tried again in the next; `None` where nobody was asked.
async fn round(
    fetcher: &Fetcher,
    what: What,
    symbols: Vec<String>,
    cancel: CancellationToken,
) -> Option<Summary> {
    let request = Request { what, symbols, source: None, since: None, dry_run: false };
    let fetched = fetcher.fetch(request, |_, _| {}, cancel.clone()).await;
    match &fetched {
        Ok(summary) if summary.is_complete() => info!(%summary, "fetched"),
        Ok(summary) => warn!(%summary, "fetched, but not everything"),
        Err(_) if cancel.is_cancelled() => {}
        Err(error) => {
            warn!(error = error as &dyn std::error::Error, what = what.as_str(), "nothing was fetched")
        }
    }
    fetched.ok()
}

/// The settings of market data, from the file if there is one.
///
/// # Errors
/// A file that cannot be read, or a setting that is wrong.
pub(super) fn sources(settings: &config::Settings) -> anyhow::Result<Settings> {
    let file = settings.market_data.sources_file.as_deref();
    let read = |file: &Path| {
        std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the settings of sources, {}", file.display()))
    };
    let text = file.map(read).transpose()?.unwrap_or_default();
    let variable = |name: &str| std::env::var(name).ok();
    Settings::read(&text, variable).with_context(|| match file {
        Some(file) => format!("the settings of sources in {}", file.display()),
        None => "the settings of sources".to_owned(),
    })
}

/// Runs work with a fetcher on the database, or on the private one, and ends what was started for it. A write side that ends
/// first, as one does whose log has forked, ends the work: nothing that it fetches could be stored.
async fn with_fetcher<T, W>(
    settings: &config::Settings,
    shutdown: &Shutdown,
    work: impl FnOnce(Fetcher, CancellationToken) -> W,
) -> anyhow::Result<T>
where
    W: Future<Output = anyhow::Result<T>>,
{
    let sources = sources(settings)?;
    shutdown.on_signals()?;
    let visit = Visit::open(settings).await?;
    let answered = CancellationToken::new();
    let (commands, appending) = Commands::start(
        visit.options.clone(),
        visit.pool.clone(),
        Clock::System,
        commands::Settings::default(),
        answered.clone(),
    );
    let mut appending = tokio::spawn(appending);
    let parts = Parts { pool: visit.pool.clone(), commands, clock: Clock::System, settings: sources };
    let working = async {
        match Fetcher::open(parts) {
            Ok(fetcher) => work(fetcher, shutdown.token()).await,
            Err(error) => Err(error.into()),
        }
    };
    let (appended, worked) = tokio::select! {
        appended = &mut appending => (appended, Err(anyhow!("the write side has ended early"))),
        worked = working => {
            answered.cancel();
            (appending.await, worked)
        }
    };
    let closed = visit.close().await;
    match appended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(error.into()),
        Err(panicked) => bail!("the write side has panicked: {panicked}"),
    }
    closed?;
    worked
}

fn bar(what: What) -> ProgressBar {
    let bar = ProgressBar::new(0).with_message(format!("fetching {}", what.as_str()));
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template(
        "  {msg:<18} {wide_bar:.cyan/dim} {human_pos:>7} of {human_len}  {elapsed}",
    );
    bar.set_style(style.expect("the template is constant, and a test uses it").progress_chars("━╸─"));
    bar
}

/// What came of it: a line of counts, and a line for each refusal.
fn table(summary: &Summary) -> String {
    let mut text = String::new();
    let counts = [
        ("asked", summary.asked),
        ("fetched", summary.fetched),
        ("unchanged", summary.unchanged),
        ("retried", summary.retried),
        ("refused", summary.refused.len() as u64),
        ("held", summary.held),
        ("prices", summary.prices),
    ];
    let heads: String = counts.iter().map(|(head, _)| format!("{head:>10}")).collect();
    let numbers: String = counts.iter().map(|(_, count)| format!("{count:>10}")).collect();
    let what = summary.what.as_str();
    let seconds = summary.took.as_secs_f64();
    let _ = writeln!(text, "{:<8}{heads}{:>10}", "", "time");
    let _ = writeln!(text, "{what:<8}{numbers}{:>10}", format!("{seconds:.2} s"));
    if summary.dry_run {
        text.push_str("nothing was appended: this was a dry run\n");
    }
    if summary.held > 0 {
        text.push_str("held prices wait for a word: GET /v1/prices/held\n");
    }
    for refused in summary.refused.iter().take(REFUSED_SHOWN_MAX) {
        let by = if refused.source.is_empty() { String::new() } else { format!("{} ", refused.source) };
        let _ = writeln!(text, "refused {:<12} {by}{}", refused.symbol, refused.reason);
    }
    if summary.refused.len() > REFUSED_SHOWN_MAX {
        let _ = writeln!(text, "and {} more", summary.refused.len() - REFUSED_SHOWN_MAX);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market_data::Refused;

    #[test]
    fn the_table_names_every_refusal() {
        let refused = |symbol: &str, source: &str, reason: &str| Refused {
            symbol: symbol.into(),
            source: source.into(),
            reason: reason.into(),
        };
        let summary = Summary {
            what: What::Quotes,
            dry_run: false,
            asked: 20,
            fetched: 15,
            prices: 15,
            unchanged: 2,
            retried: 3,
            held: 1,
            waiting: vec!["KO".into()],
            refused: vec![
                refused("ACME", "", "is no asset here"),
                refused("AAPL", "yahoo", "tells the price 0"),
            ],
            took: Duration::from_millis(1_234),
        };
        let expected = "             asked   fetched unchanged   retried   refused      held    prices      time\n\
            quotes          20        15         2         3         2         1        15    1.23 s\n\
            held prices wait for a word: GET /v1/prices/held\n\
            refused ACME         is no asset here\n\
            refused AAPL         yahoo tells the price 0\n";
        assert_eq!(table(&summary), expected);
    }

    #[test]
    fn a_bar_counts() {
        let bar = bar(What::Rates);
        bar.set_length(3);
        bar.set_position(2);
        assert_eq!((bar.position(), bar.length()), (2, Some(3)));
    }
}
