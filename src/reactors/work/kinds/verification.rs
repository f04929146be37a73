//! `verify`: the log and the read models beside the reference ledger, as `insight verify` does it.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::Parts;
use super::{Progress, soft_limit};
use crate::postgres::{self, Session};
use crate::verify::{self, Difference, Options, Report};

/// Differences that are told; `insight verify` tells all.
const TOLD_MAX: usize = 5;

pub(super) async fn carry_out(
    parts: &Parts,
    progress: &Progress,
    asked_to_end: &CancellationToken,
    left: &TaskTracker,
) -> Result<String, String> {
    let session = Session {
        connections_max: 4,
        acquire_timeout: Duration::from_secs(10),
        ..Session::of("insight verify")
    };
    let pool = postgres::connect(parts.backups.options.clone(), &session);
    let pool = pool.await.map_err(|error| error.to_string())?;
    let (stop, (sender, mut receiver)) = (CancellationToken::new(), tokio::sync::watch::channel((0, 0)));
    let _guard = stop.clone().drop_guard();
    let verifying = on_a_thread(left, stop, move || async move {
        let mut tell = |it: verify::Progress| {
            sender.send_replace((it.done, it.total));
        };
        let report = verify::verify_with(&pool, Options::default(), &mut tell).await;
        pool.close().await;
        report
    });
    tokio::pin!(verifying);
    let report = loop {
        tokio::select! {
            report = &mut verifying => break report,
            Ok(()) = receiver.changed() => {
                let (done, total) = *receiver.borrow_and_update();
                progress.set(done, total);
            }
            () = asked_to_end.cancelled() => return Err(soft_limit("")),
        }
    };
    match report {
        Ok(Some(Ok(report))) => verdict(&report),
        Ok(Some(Err(error))) => Err(error.to_string()),
        Ok(None) => Err("it was ended".to_owned()),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// It folds for seconds between two answers of the database: not on a thread that others wait for. Told to stop, it does so at the
/// next answer; until then it is among `left`.
fn on_a_thread<T: Send + 'static, W: Future<Output = T>>(
    left: &TaskTracker,
    stop: CancellationToken,
    work: impl FnOnce() -> W + Send + 'static,
) -> JoinHandle<Option<T>> {
    let runtime = Handle::current();
    left.spawn_blocking(move || runtime.block_on(stop.run_until_cancelled_owned(work())))
}

fn verdict(report: &Report) -> Result<String, String> {
    if report.is_clean() {
        let rows: u64 = report.read_models.iter().map(|it| it.rows).sum();
        let unchecked = match report.unchecked.len() {
            0 => String::new(),
            n => format!("; {n} things were not checked: {}", report.unchecked.join("; ")),
        };
        return Ok(format!("nothing differs: {} events, {rows} rows{unchecked}", report.head));
    }
    let told = report.differences.iter().take(TOLD_MAX);
    let told: Vec<String> = told.map(|Difference { place, found, .. }| format!("{place}: {found}")).collect();
    let told = told.join("; ");
    match report.difference_count {
        1 => Err(format!("1 difference: {told}")),
        n => Err(format!("{n} differences, the first ones: {told}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_that_still_works_is_known_to() {
        let (left, stop) = (TaskTracker::new(), CancellationToken::new());
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
        let work = move || async move {
            begun.send(()).unwrap();
            may_go_on.recv().unwrap();
            std::future::pending::<()>().await;
        };
        drop(on_a_thread(&left, stop.clone(), work));
        has_begun.await.unwrap();
        stop.cancel();
        left.close();
        let soon = tokio::time::timeout(Duration::from_millis(50), left.wait());
        assert!(soon.await.is_err(), "it folds");
        go_on.send(()).unwrap();
        left.wait().await;
    }

    #[test]
    fn a_verdict_names_the_first_differences() {
        let mut report = Report { head: 7, ..Report::default() };
        assert_eq!(verdict(&report).unwrap(), "nothing differs: 7 events, 0 rows");
        for number in 1..=6 {
            let (place, found) = (format!("row {number}"), "is wrong".to_owned());
            report.differences.push(Difference { place, found, column: None });
            report.difference_count += 1;
        }
        let told = verdict(&report).unwrap_err();
        assert!(told.starts_with("6 differences, the first ones: row 1: is wrong; "), "{told}");
        assert!(told.contains("row 5") && !told.contains("row 6"), "{told}");
    }
}
