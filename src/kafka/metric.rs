//! Names of the metrics of the bus; `metrics.rs` has the descriptions.

pub(super) const CONSUMERS_REMADE: &str = "insight_kafka_consumers_remade_total";
pub(super) const RECORDS_MALFORMED: &str = "insight_kafka_records_malformed_total";
pub(super) const CONSUMER_IN_TROUBLE: &str = "insight_kafka_consumer_in_trouble";
