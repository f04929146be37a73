//! Log to Kafka.
