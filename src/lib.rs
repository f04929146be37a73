#![doc = include_str!("ARCHITECTURE.md")]

pub mod analysis;
pub mod api;
pub mod cli;
pub mod clock;
pub mod closes;
pub mod commands;
pub mod config;
pub mod demo;
pub mod domain;
pub mod event_store;
pub mod events;
pub mod feed;
pub mod kafka;
pub mod market_data;
pub mod metrics;
pub mod postgres;
pub mod projectors;
pub mod queries;
pub mod reactors;
pub mod relay;
pub mod retry;
pub mod risk;
pub mod roles;
pub mod shutdown;
#[cfg(test)]
mod simulation;
pub mod telemetry;
pub mod verify;
