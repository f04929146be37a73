//! What goes wrong between us and the brokers.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

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
    /// The broker did not create, change or describe a topic.
    #[error("topic {topic}: {code}")]
    Topic {
        /// Its name.
        topic: String,
        /// What the broker said.
        code: RDKafkaErrorCode,
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
        match self {
            Self::Request { .. } | Self::Stalled(_) => true,
            Self::Settings(_) | Self::Partitions { .. } => false,
            Self::Topic { code, .. } => !is_refusal(*code),
        }
    }
}

/// Whether the broker would say the same to the same request for ever. It is not so where there are too few brokers for as many
/// copies as they make by default, since more may be starting.
fn is_refusal(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::InvalidPartitions
            | RDKafkaErrorCode::InvalidConfig
            | RDKafkaErrorCode::PolicyViolation
            | RDKafkaErrorCode::InvalidRequest
            | RDKafkaErrorCode::UnsupportedVersion
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_broker_says_of_a_topic_passes_unless_it_will_never_change() {
        let is_transient = |code| Error::Topic { topic: "jobs.v1".to_owned(), code }.is_transient();
        for passes in [
            RDKafkaErrorCode::RequestTimedOut,
            RDKafkaErrorCode::OperationTimedOut,
            RDKafkaErrorCode::NotController,
            RDKafkaErrorCode::UnknownTopicOrPartition,
            RDKafkaErrorCode::LeaderNotAvailable,
            RDKafkaErrorCode::BrokerNotAvailable,
            RDKafkaErrorCode::ThrottlingQuotaExceeded,
            RDKafkaErrorCode::InvalidReplicationFactor,
            RDKafkaErrorCode::Partial,
            RDKafkaErrorCode::Unknown,
        ] {
            assert!(is_transient(passes), "{passes}");
        }
        for stays in [
            RDKafkaErrorCode::TopicAuthorizationFailed,
            RDKafkaErrorCode::ClusterAuthorizationFailed,
            RDKafkaErrorCode::InvalidConfig,
            RDKafkaErrorCode::PolicyViolation,
            RDKafkaErrorCode::InvalidPartitions,
            RDKafkaErrorCode::InvalidTopic,
        ] {
            assert!(!is_transient(stays), "{stays}");
        }
    }
}
