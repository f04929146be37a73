//! The one integration binary: a module a subject. `scripts/test` starts the servers it needs; without them it fails.

#![allow(clippy::disallowed_methods, reason = "a test is where time comes from")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, also in a function that tests share")]

mod api;
mod api_queries;
mod appending;
mod bad_input;
mod bulk;
#[allow(dead_code, reason = "shared with the program that kills, which uses other parts of it")]
mod caller;
mod command_line;
mod commands;
mod demos;
mod earnings;
mod embedded;
mod environment;
mod epochs;
mod equivalence;
mod explain;
mod jobs;
mod jobs_lists;
mod jobs_outside;
mod kafka_away;
mod kafka_feed;
mod kafka_log;
mod kafka_relay;
mod kafka_truncated;
mod ledger;
#[allow(dead_code, reason = "shared with the program that kills, which uses other parts of it")]
mod line;
#[allow(dead_code, reason = "shared with the program that kills, which uses other parts of it")]
mod load;
mod log_verbs;
mod market_data;
mod market_data_failures;
mod market_data_processes;
mod market_data_series;
mod market_data_sources;
mod metrics;
#[allow(dead_code, reason = "shared with the program that kills, which uses other parts of it")]
mod own_servers;
mod parked;
mod portfolio_lists;
mod pressure;
#[allow(dead_code, reason = "shared with the program that kills, which uses other parts of it")]
mod processes;
mod projectors;
mod projectors_history;
mod provider;
mod public_feed;
mod queries;
mod random_history;
mod random_jobs;
mod read_models;
mod rebuild;
mod rebuild_processes;
mod rebuild_versions;
mod reference;
mod reference_rows;
mod risk;
mod scaling;
mod scheduling;
mod seals;
mod servers;
mod service;
mod silence;
mod small_disk;
mod stage;
mod status;
mod store_feed;
mod trader;
mod verify_damage;
mod verify_topic;
mod working;
mod working_backup;
mod working_clocks;
mod working_group;
mod working_parked;
mod working_stage;
