//! The bus: what the topics are, how an event becomes a record and back, and the clients. The only home of rdkafka.
//!
//! Nothing here knows what is right: records are copies of the log, and readers check every one of them against the
//! chain (see `feed`). So a client may lose its place, read twice, or be made anew at any time.

mod broker_log;
pub mod consumer;
mod error;
pub mod groups;
mod headers;
mod metric;
mod producer;
mod rebalances;
pub mod scan;
mod settings;
mod topic_admin;
pub mod topics;
mod watchdog;

pub use error::Error;
pub use headers::{Malformed, Previous, Record};
pub use producer::{Delivery, Handed, Producer, Undelivered};
pub use settings::KafkaSettings;
