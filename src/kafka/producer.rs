//! Writing records: idempotent, acknowledged by all, in order, and never dropped by time.
//!
//! With `enable.gapless.guarantee` a record that cannot be written stops everything behind it, so that a partition never
//! holds what follows a record without the record. The producer is of no use then: the relay makes a new one.

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, NoCustomPartitioner, ProducerContext, ThreadedProducer};
use tokio::sync::mpsc;

use super::headers::{self, Previous};
use super::{Error, KafkaSettings, broker_log, topics};
use crate::domain::ids::{Position, Shard};
use crate::events::Envelope;

/// A record was written, or will not be.
#[derive(Debug)]
pub struct Delivery {
    /// Its shard.
    pub shard: Shard,
    /// The position of its event.
    pub position: Position,
    /// Its offset.
    pub outcome: Result<i64, Undelivered>,
}

/// Why a record was not written.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct Undelivered {
    /// What the broker or the library said.
    pub reason: String,
    /// Whether it is about this very record (too large, not allowed), so that it will be refused again.
    pub refused: bool,
}

/// What became of handing a record over.
#[derive(Debug)]
pub enum Handed {
    /// It is on its way; a [`Delivery`] will follow.
    Over,
    /// The producer has as much as it takes: wait for deliveries.
    Full,
    /// The producer does not take it.
    Refused(Undelivered),
}

/// An idempotent producer. Dropping it drops what is on its way.
pub struct Producer {
    settings: KafkaSettings,
    /// In an option for the drop, which must not block the caller's thread.
    inner: Option<ThreadedProducer<Reports>>,
    deliveries: mpsc::UnboundedReceiver<Delivery>,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Producer({})", self.settings.brokers)
    }
}

impl Producer {
    /// Makes a producer. The brokers need not be there.
    ///
    /// # Errors
    /// [`Error::Settings`].
    pub fn open(settings: &KafkaSettings) -> Result<Self, Error> {
        let (sender, deliveries) = mpsc::unbounded_channel();
        let mut config = settings.client();
        config
            .set("enable.idempotence", "true")
            .set("enable.gapless.guarantee", "true")
            .set("acks", "all")
            .set("message.timeout.ms", "0")
            .set("linger.ms", "2")
            .set("compression.type", "lz4")
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", "65536")
            .set_log_level(RDKafkaLogLevel::Info);
        let reports = Reports { settings: settings.clone(), sender };
        let inner = config.create_with_context(reports).map_err(Error::Settings)?;
        Ok(Self { settings: settings.clone(), inner: Some(inner), deliveries })
    }

    /// Hands an event over, to the partition of its shard.
    pub fn send(&self, event: &Envelope, previous: Previous) -> Handed {
        let (Some(producer), Some((topic, partition))) = (&self.inner, topics::partition_of(event.shard))
        else {
            return refused(format!("{} is no shard of any topic", event.shard), true);
        };
        let name = self.settings.topic_name(topic);
        let record = BaseRecord::with_opaque_to(&name, event.position.0 as usize)
            .partition(partition)
            .key(event.stream_id.as_str())
            .payload(&*event.payload)
            .headers(headers::encode(event, previous));
        match producer.send(record) {
            Ok(()) => Handed::Over,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Handed::Full,
            Err((error, _)) => {
                let is_refused = error.rdkafka_error_code().is_some_and(is_about_the_record);
                refused(error.to_string(), is_refused)
            }
        }
    }

    /// The next report. Cancel-safe.
    pub async fn delivery(&mut self) -> Delivery {
        match self.deliveries.recv().await {
            Some(delivery) => delivery,
            // The sender lives in the producer, which lives here.
            None => std::future::pending().await,
        }
    }

    /// A report that is there already.
    pub fn try_delivery(&mut self) -> Option<Delivery> {
        self.deliveries.try_recv().ok()
    }

    /// Why this producer will never write again; none while it may.
    pub fn fatal(&self) -> Option<String> {
        use rdkafka::producer::Producer as _;
        let (_, reason) = self.inner.as_ref()?.client().fatal_error()?;
        Some(reason)
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // Joins its thread and waits for what is on its way.
        if let Some(inner) = self.inner.take() {
            std::thread::spawn(move || drop(inner));
        }
    }
}

fn refused(reason: String, refused: bool) -> Handed {
    Handed::Refused(Undelivered { reason, refused })
}

/// Errors that sending the same record again does not change.
fn is_about_the_record(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::MessageBatchTooLarge
            | RDKafkaErrorCode::InvalidMessage
            | RDKafkaErrorCode::InvalidRecord
            | RDKafkaErrorCode::InvalidMessageSize
            | RDKafkaErrorCode::PolicyViolation
    )
}

/// Takes the library's reports.
struct Reports {
    settings: KafkaSettings,
    sender: mpsc::UnboundedSender<Delivery>,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        broker_log::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "producer");
    }
}

impl ProducerContext<NoCustomPartitioner> for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, position: usize) {
        let (message, outcome) = match result {
            Ok(message) => (message, Ok(message.offset())),
            Err((error, message)) => {
                let refused = error.rdkafka_error_code().is_some_and(is_about_the_record);
                (message, Err(Undelivered { reason: error.to_string(), refused }))
            }
        };
        let Some(shard) = self.settings.shard_of(message.topic(), message.partition()) else { return };
        // Nobody listens when the producer is being dropped.
        let _ = self.sender.send(Delivery { shard, position: Position(position as i64), outcome });
    }
}
