//! One fetch from beginning to end, and what it stands on.

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use super::summary::{Request, Summary};
use crate::clock::Clock;
use crate::commands::Commands;

/// What a fetcher stands on.
pub struct Parts {
    /// Where the read models are.
    pub pool: PgPool,
    /// The write side of this process.
    pub commands: Commands,
    /// Tells whether a price lies ahead.
    pub clock: Clock,
    /// Where prices come from.
    pub settings: super::Settings,
}

/// Why nothing could be fetched at all. What goes wrong with one asset is in [`Summary::refused`].
#[derive(Debug, thiserror::Error)]
pub enum Error {}

/// Fetches prices.
pub struct Fetcher {}

impl Fetcher {
    /// Opens one. Keep it: it remembers what sources have said, and how they are.
    ///
    /// # Errors
    /// [`Error`]: the settings cannot be met.
    pub fn open(parts: Parts) -> Result<Self, Error> {
        unimplemented!()
    }

    /// Fetches. `progress` is told how many assets are done, of how many. Cancelled, it ends soon, and what was appended stays.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn fetch(
        &self,
        request: Request,
        progress: impl Fn(u64, u64) + Send + Sync,
        cancel: CancellationToken,
    ) -> Result<Summary, Error> {
        unimplemented!()
    }
}
