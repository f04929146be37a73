//! The log against its seals: those stored beside it, and those that somebody kept elsewhere.
//!
//! | seal | what agrees with it | what it is good for |
//! | --- | --- | --- |
//! | marks of a block | each event by itself | names the very event that was altered, inserted or removed |
//! | a stored seal | the block's events upon the stored seal before | proves the block, unless the seals were rewritten as well |
//! | a kept seal | all events from the first one on | proves everything up to it, whoever owns the database |
//!
//! Stored seals are judged block by block, so that one altered event does not make every later block a difference.

use std::collections::VecDeque;

use sqlx::PgConnection;

use super::report::Report;
use crate::domain::ids::Position;
use crate::event_store;
use crate::event_store::seal::{BLOCK, Chain, EventHash, MARK_BYTES, Seal, SealAt};
use crate::event_store::seals::{self, Stored};
use crate::events::Envelope;

/// The comparison as it goes on, event by event.
#[derive(Debug)]
pub(super) struct SealCheck {
    /// Made of the log alone, from its first event on.
    chain: Chain,
    block: Option<Block>,
    /// The last position under a stored seal.
    newest: i64,
    /// Ordered by position; what is left has not been reached.
    kept: VecDeque<SealAt>,
    /// The last kept seal that agreed.
    agreed: i64,
    /// Kept seals that agreed.
    pub agreeing: usize,
    /// Where the log first is not what was sealed, if that is known to the event.
    first_bad: Option<i64>,
    position: i64,
    /// Events that were compared with stored marks.
    pub sealed_events: i64,
}

/// The block that is being read.
#[derive(Debug)]
struct Block {
    last: i64,
    stored: Option<Stored>,
    /// Made of the stored seal before and of this block's events.
    chain: Chain,
    bad: Option<(i64, usize)>,
}

impl SealCheck {
    /// Seals that were kept elsewhere, in any order.
    pub(super) async fn start(
        conn: &mut PgConnection,
        mut kept: Vec<SealAt>,
    ) -> Result<Self, event_store::Error> {
        kept.sort_by_key(|it| it.position);
        let newest = seals::newest(conn).await?.map_or(0, |stored| stored.at.position.0);
        Ok(Self {
            chain: Chain::after(Position(0), Seal::ORIGIN),
            block: None,
            newest,
            kept: kept.into(),
            agreed: 0,
            agreeing: 0,
            first_bad: None,
            position: 0,
            sealed_events: 0,
        })
    }

    /// Takes in the next event in the order of positions.
    pub(super) async fn take(
        &mut self,
        conn: &mut PgConnection,
        event: &Envelope,
        report: &mut Report,
    ) -> Result<(), event_store::Error> {
        let position = event.position.0;
        let last = (position + BLOCK - 1) / BLOCK * BLOCK;
        if self.block.as_ref().is_none_or(|block| block.last != last) {
            self.close(report);
            self.open(conn, last).await?;
        }
        if position != self.position + 1 {
            report.differs(
                format_args!("position {}", self.position + 1),
                format_args!("is missing: {position} comes next"),
            );
            self.bad(self.position + 1);
        }
        self.position = position;
        let hash = EventHash::of(event);
        self.chain.add(&hash);
        let Some(block) = &mut self.block else { return Ok(()) };
        block.chain.add(&hash);
        if let Some(stored) = &block.stored {
            self.sealed_events += 1;
            let place = usize::try_from(position + BLOCK - 1 - last).unwrap_or_default();
            let mark = stored.marks.get(place * MARK_BYTES..).unwrap_or_default();
            if !mark.starts_with(&hash.mark()) {
                block.bad = Some(block.bad.map_or((position, 1), |(first, count)| (first, count + 1)));
                self.bad(position);
            }
        }
        self.compare_kept(report);
        Ok(())
    }

    /// What can only be said after the last event.
    pub(super) fn finish(&mut self, report: &mut Report) {
        self.close(report);
        if self.newest > self.position {
            let found = format!("the log ends at {}", self.position);
            report.differs(format_args!("seal at position {}", self.newest), found);
            self.bad(self.position + 1);
        }
        for SealAt { position, .. } in std::mem::take(&mut self.kept) {
            let found = format!("the log ends at {}", self.position);
            report.differs(format_args!("kept seal at position {position}"), found);
        }
        report.sealed_events = self.sealed_events;
    }

    async fn open(&mut self, conn: &mut PgConnection, last: i64) -> Result<(), event_store::Error> {
        let before = match last - BLOCK {
            0 => Some(Seal::ORIGIN),
            before => seals::find(&mut *conn, Position(before)).await?.map(|stored| stored.at.seal),
        };
        // Where the seal before is missing, that is said of the block before, and this one is judged by the log.
        let before = before.unwrap_or(self.chain.seal().seal);
        let stored = seals::find(conn, Position(last)).await?;
        let chain = Chain::after(Position(last - BLOCK), before);
        self.block = Some(Block { last, stored, chain, bad: None });
        Ok(())
    }

    fn close(&mut self, report: &mut Report) {
        let Some(Block { last, stored, chain, bad }) = self.block.take() else { return };
        let is_whole = chain.seal().position.0 == last;
        match (stored, bad) {
            (Some(_), Some((first, count))) => {
                let more = if count > 1 {
                    format!(", nor are {} after it up to {last}", count - 1)
                } else {
                    String::new()
                };
                report.differs(
                    format_args!("position {first}"),
                    format_args!("is not the event that was sealed{more}"),
                );
            }
            (Some(stored), None) if is_whole && chain.seal().seal != stored.at.seal => {
                let found = "is not made of the events before it and of the seal before: a seal was altered";
                report.differs(format_args!("seal at position {last}"), found);
            }
            (None, _) if last < self.newest => {
                report
                    .differs(format_args!("seal at position {last}"), "is missing, and there are later ones");
            }
            _ => {}
        }
    }

    fn compare_kept(&mut self, report: &mut Report) {
        while let Some(kept) = self.kept.front().filter(|kept| kept.position.0 <= self.position).copied() {
            self.kept.pop_front();
            let position = kept.position.0;
            if self.chain.seal() == kept {
                (self.agreed, self.agreeing) = (position, self.agreeing + 1);
                continue;
            }
            let first = match self.first_bad.filter(|bad| (self.agreed + 1..=position).contains(bad)) {
                Some(bad) => format!("the first of them is {bad}"),
                None => "which of them, no stored seal tells: the seals were rewritten as well, or do not reach so far".to_owned(),
            };
            let found = format!(
                "is not that of this log: something from {} to {position} was altered, inserted or removed; {first}",
                self.agreed + 1
            );
            report.differs(format_args!("kept seal at position {position}"), found);
        }
    }

    fn bad(&mut self, position: i64) {
        self.first_bad = Some(self.first_bad.map_or(position, |first| first.min(position)));
    }
}
