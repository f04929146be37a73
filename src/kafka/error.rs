//! What goes wrong between us and the brokers.

use rdkafka::error::KafkaError;

/// An error of the bus, with what it was about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that the client library refuses: nothing will work until it is changed.
    #[error("Kafka client settings: {0}")]
    Settings(#[source] KafkaError),
    /// A request that failed; mostly a broker that is away.
    #[error("{what}: {source}")]
    Request {
        /// What was asked.
        what: String,
        /// What the library said.
        source: KafkaError,
    },
    /// A topic has another number of partitions than declared.
    #[error(
        "topic {topic} has {found} partitions and must have {declared}: a partition is a shard for ever, so move the \
         topic away and let the relay fill a new one"
    )]
    Partitions {
        /// Its name.
        topic: String,
        /// What there is.
        found: usize,
        /// What is declared.
        declared: usize,
    },
    /// The broker refused to create or change a topic.
    #[error("topic {topic}: {reason}")]
    Topic {
        /// Its name.
        topic: String,
        /// What the broker said.
        reason: String,
    },
    /// Reading stood still although there is more to read.
    #[error("reading the topics stood still for {0:?}")]
    Stalled(std::time::Duration),
}

impl Error {
    /// Names what was asked.
    pub(super) fn request(what: impl Into<String>) -> impl FnOnce(KafkaError) -> Self {
        let what = what.into();
        move |source| Self::Request { what, source }
    }

    /// Whether trying again later can help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Request { .. } | Self::Stalled(_))
    }
}
