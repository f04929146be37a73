//! Names of the relay's metrics; `metrics.rs` has the descriptions.

pub(super) const ACTIVE: &str = "insight_relay_active";
pub(super) const EVENTS: &str = "insight_relay_events_total";
pub(super) const IN_FLIGHT: &str = "insight_relay_in_flight_events";
pub(super) const LAG: &str = "insight_relay_lag_events";
pub(super) const RESTARTS: &str = "insight_relay_restarts_total";
