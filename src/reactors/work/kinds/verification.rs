//! `verify`: the log and the read models beside the reference ledger, as `insight verify` does it.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

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
) -> Result<String, String> {
    let session = Session {
        connections_max: 4,
        acquire_timeout: Duration::from_secs(10),
        ..Session::of("insight verify")
    };
    let pool = postgres::connect(parts.backups.options.clone(), &session);
    let pool = pool.await.map_err(|error| error.to_string())?;
    // It folds for seconds between two answers of the database: not on a thread that others wait for. Who drops this ends it.
    let (stop, told) = (CancellationToken::new(), tokio::sync::watch::channel((0, 0)));
    let _guard = stop.clone().drop_guard();
    let (runtime, (sender, mut receiver)) = (Handle::current(), told);
    let verifying = tokio::task::spawn_blocking(move || {
        runtime.block_on(stop.run_until_cancelled_owned(async move {
            let mut tell = |it: verify::Progress| {
                sender.send_replace((it.done, it.total));
            };
            let report = verify::verify_with(&pool, Options::default(), &mut tell).await;
            pool.close().await;
            report
        }))
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
