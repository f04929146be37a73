//! The one integration binary: a module a subject. `scripts/test` starts the servers it needs; without them it fails.

#![allow(clippy::disallowed_methods, reason = "a test is where time comes from")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, also in a function that tests share")]

mod api;
mod api_queries;
mod appending;
mod bad_input;
mod command_line;
mod commands;
mod crash;
mod embedded;
mod environment;
mod epochs;
mod equivalence;
mod kafka_away;
mod kafka_feed;
mod kafka_log;
mod kafka_relay;
mod ledger;
mod load;
mod log_verbs;
mod own_servers;
mod parked;
mod processes;
mod projectors;
mod projectors_history;
mod public_feed;
mod queries;
mod random_history;
mod read_models;
mod rebuild;
mod rebuild_processes;
mod reference;
mod reference_rows;
mod risk;
mod scaling;
mod seals;
mod servers;
mod service;
mod silence;
mod status;
mod trader;
mod verify_damage;
mod verify_topic;
