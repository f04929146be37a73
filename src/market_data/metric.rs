//! Metrics of fetching; `metrics.rs` has the descriptions.

use metrics::{counter, gauge, histogram};

use super::summary::Summary;

const ASSETS: &str = "insight_market_data_assets_total";
const PRICES: &str = "insight_market_data_prices_total";
const RETRIES: &str = "insight_market_data_retries_total";
const SECONDS: &str = "insight_market_data_fetch_seconds";
const LAST: &str = "insight_market_data_last_fetch_timestamp_seconds";

/// A fetch has come to its end.
pub(super) fn fetched(summary: &Summary, at: chrono::DateTime<chrono::Utc>) {
    let what = summary.what.as_str();
    let outcomes = [
        ("fetched", summary.fetched),
        ("unchanged", summary.unchanged),
        ("held", summary.held),
        ("refused", summary.refused.len() as u64),
    ];
    for (outcome, count) in outcomes {
        counter!(ASSETS, "what" => what, "outcome" => outcome).increment(count);
    }
    counter!(PRICES, "what" => what).increment(summary.prices);
    counter!(RETRIES, "what" => what).increment(summary.retried);
    histogram!(SECONDS, "what" => what).record(summary.took);
    gauge!(LAST, "what" => what).set(at.timestamp() as f64);
}
