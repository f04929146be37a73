//! Prices that this process has fetched itself: of one asset, from one source, already read. One command, one event.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::time::Instant;
use uuid::Uuid;

use super::answer::Refusal;
use super::execute::Commands;
use super::request::{AssetRef, Refused, Resolved, ResolvedCommand};
use crate::domain::ids::{AssetId, Position};
use crate::domain::price::{self, PRICES_PER_EVENT_MAX, PriceLine};
use crate::domain::rejection::Rejection;

/// So many prices at most do not stand between a person and their trade.
const FEW: usize = 16;

/// Prices on their way in.
#[derive(Debug, Clone)]
pub struct ObservedPrices {
    /// The command: a function of what is to be appended, so that whoever fetches the same has the same effect, once.
    pub command_id: Uuid,
    /// Opaque id of who fetched them.
    pub actor: Arc<str>,
    /// Joins everything that this fetch causes.
    pub correlation_id: Uuid,
    /// The asset.
    pub asset_id: AssetId,
    /// 1 to 1,000 of one source and one kind: they become one event.
    pub lines: Vec<PriceLine>,
    /// After this nobody waits for the answer.
    pub deadline: Instant,
}

/// What became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Where the event stands.
    pub position: Position,
    /// It stood there before: somebody has fetched the same.
    pub before: bool,
}

impl Commands {
    /// Appends prices of one asset, all or none.
    ///
    /// # Errors
    /// [`Refusal::Rejected`] when one of them is impossible; [`Refusal::Busy`] when time ran out: sending it again tells.
    pub async fn observe_prices(&self, wanted: ObservedPrices) -> Result<Appended, Refusal> {
        let deadline = wanted.deadline;
        let executed = tokio::time::timeout_at(deadline, self.observe(wanted));
        executed.await.unwrap_or(Err(Refusal::Busy {
            retry_after_seconds: 1,
            reason: "the prices were not stored in time; fetching them again finishes that",
        }))
    }

    async fn observe(&self, wanted: ObservedPrices) -> Result<Appended, Refusal> {
        let ObservedPrices { command_id, asset_id, lines, .. } = wanted;
        let asset = self.find_asset(&AssetRef::Id(asset_id)).await?;
        let now = self.clock().now();
        let observed: Result<Vec<_>, Rejection> =
            lines.iter().map(|line| price::observe(asset.as_deref(), line, now)).collect();
        let events = price::group(&observed?);
        if events.len() != 1 {
            let reason = format!("must be 1 to {PRICES_PER_EVENT_MAX} prices of one source and kind");
            return Err(Refusal::Rejected(Rejection::field("prices", reason)));
        }
        let resolved = Resolved {
            command_id,
            // The id says all of it already.
            request_hash: Arc::from(&Sha256::digest(command_id.as_bytes())[..]),
            actor: wanted.actor,
            correlation_id: wanted.correlation_id,
            if_match: None,
            occurred_at: None,
            deadline: wanted.deadline,
            target: asset_id.price_stream(),
            reads: Vec::new(),
            command: ResolvedCommand::Prices { events, refused: Refused::default() },
        };
        let resolved = Arc::new(resolved);
        let executed = if lines.len() <= FEW {
            self.run_command(resolved).await?
        } else {
            self.run_window(resolved).await?
        };
        Ok(Appended { position: executed.answer.position, before: executed.before.is_some() })
    }
}
