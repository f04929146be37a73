//! Names of the metrics of the feeds; `metrics.rs` has the descriptions.

pub(super) const EVENTS: &str = "insight_feed_events_total";
pub(super) const DROPPED: &str = "insight_feed_dropped_total";
pub(super) const GAPS: &str = "insight_feed_gaps_total";
pub(super) const REPAIRS: &str = "insight_feed_repairs_total";
pub(super) const REPAIRED: &str = "insight_feed_repaired_events_total";
pub(super) const WINDOW_END: &str = "insight_feed_window_end_position";
