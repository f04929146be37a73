//! `fetch-quotes`, `fetch-history`, `fetch-rates`: as `insight fetch`. What is appended has ids made of its content, so that a
//! fetch which is begun again appends nothing twice.

use tokio_util::sync::CancellationToken;

use super::super::Parts;
use super::{Progress, soft_limit};
use crate::domain::job::JobSettings;
use crate::market_data::{Error, Request, Summary, What};

pub(super) async fn carry_out(
    parts: &Parts,
    what: What,
    settings: &JobSettings,
    progress: &Progress,
    asked_to_end: &CancellationToken,
) -> Result<String, String> {
    let request = Request {
        what,
        symbols: settings.symbols.clone(),
        source: settings.source.clone(),
        since: None,
        dry_run: false,
    };
    let told = |done, total| progress.set(done, total);
    match parts.fetcher.fetch(request, told, asked_to_end.clone()).await {
        Ok(summary) => verdict(&summary),
        Err(Error::Cancelled) => {
            let (done, total) = progress.get();
            Err(soft_limit(&format!(
                ": {} of {} assets were done, and what came of them stays",
                done.unwrap_or(0),
                total.unwrap_or(0)
            )))
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            Err(format!("{error}{}", cause.unwrap_or_default()))
        }
    }
}

/// An asset that was refused is told in the result, and does not make the others be asked again; only a fetch that nothing came
/// of has failed.
fn verdict(summary: &Summary) -> Result<String, String> {
    let came = summary.fetched + summary.unchanged + summary.held;
    if came == 0 && !summary.refused.is_empty() { Err(summary.to_string()) } else { Ok(summary.to_string()) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::market_data::Refused;

    #[test]
    fn a_fetch_has_failed_when_nothing_came_of_it() {
        let refused =
            |symbol: &str| Refused { symbol: symbol.into(), source: "demo".into(), reason: "price 0".into() };
        let mut summary = Summary {
            what: What::Quotes,
            dry_run: false,
            asked: 2,
            fetched: 0,
            prices: 0,
            unchanged: 1,
            retried: 0,
            held: 0,
            waiting: Vec::new(),
            refused: vec![refused("X")],
            took: Duration::ZERO,
        };
        assert!(verdict(&summary).unwrap().ends_with("X: price 0"));
        summary.unchanged = 0;
        summary.refused.push(refused("Y"));
        assert!(verdict(&summary).unwrap_err().contains("2 refused"));
        summary.refused.clear();
        assert!(verdict(&summary).is_ok(), "nobody holds anything");
    }
}
