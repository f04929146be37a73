//! Where the brokers are, and what every client of them has in common.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;

/// How to reach the bus. Cheap to clone.
#[derive(Debug, Clone)]
pub struct KafkaSettings {
    /// Host and port of one or more brokers, with commas between them.
    pub brokers: Arc<str>,
    /// Stands before the name of every topic and group; empty but in tests that share a broker.
    pub prefix: Arc<str>,
    /// Who we are, in the broker's logs and quotas.
    pub client_id: Arc<str>,
    /// How long a silent member keeps its shards.
    pub session_timeout: Duration,
    /// How long a request for metadata or offsets may take.
    pub request_timeout: Duration,
    /// How long a reader that is behind may stand still before its client is made anew.
    pub stall_timeout: Duration,
}

impl KafkaSettings {
    /// The brokers, and the usual values of everything else.
    pub fn new(brokers: impl Into<Arc<str>>) -> Self {
        Self {
            brokers: brokers.into(),
            prefix: "".into(),
            client_id: "portfolio-insight".into(),
            session_timeout: Duration::from_secs(6),
            request_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
        }
    }

    /// What every client starts from. Reconnecting is quick, so that a broker's restart costs little; metadata is
    /// asked for often, so that a topic made anew is soon found again.
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &*self.brokers)
            .set("client.id", &*self.client_id)
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "2000")
            .set("topic.metadata.refresh.interval.ms", "10000")
            .set("topic.metadata.propagation.max.ms", "5000")
            .set("allow.auto.create.topics", "false");
        config
    }
}
