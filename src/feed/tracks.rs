//! The shards of one feed: which are mine, how far each has been followed, what to ask the store, what to tell. Pure;
//! the time is an argument.
//!
//! A shard is **waiting** from its assignment until the consumer resumes it; what arrives for it meanwhile is let go, since
//! the repair at the resume brings it. From then on it is **followed**. The store is asked about a followed shard
//!
//! - at once after a resume, at a gap, and after the connection to the store was lost;
//! - once a second while nothing arrives for it, which tells how far it is complete and makes up for a silent bus;
//! - every ten seconds in any case, so that a restored store is noticed by a busy reader too. What that brings is no reason to
//!   go on asking: the bus is bringing the rest.
//!
//! What the bus brings moves a shard on, but is not handed on before the store has vouched for the last event of it: by the chain
//! it has then vouched for all of them. A topic may hold another history than a restored store, and continue what
//! both have in common without a break.
//!
//! A shard that the group took back because it thought this member dead is followed on as **adrift** until the next
//! assignment: with no broker to be reached nobody else will take it. If somebody else has, the checkpoint's
//! revision says so, the consumer resumes, and an adrift shard that is resumed is given up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::chain::{ChainCursor, Completeness, Dropped, Link, Verdict};
use crate::domain::ids::{Epoch, Position, Shard};
use crate::event_store::Place;
use crate::event_store::read::Slice;
use crate::events::Envelope;

/// How long nothing may arrive for a shard before the store is asked.
const SILENT: Duration = Duration::from_secs(1);
/// The same while there is a backlog, in which something of the shard may be waiting.
const SILENT_IN_BACKLOG: Duration = Duration::from_secs(3);
/// How long the store may go unasked about a busy shard.
const UNCONFIRMED: Duration = Duration::from_secs(10);
/// How often progress without events is told.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// The shards of one feed.
#[derive(Debug, Default)]
pub(crate) struct Tracks {
    waiting: BTreeSet<Shard>,
    followed: BTreeMap<Shard, Track>,
    told_at: Option<Instant>,
}

#[derive(Debug)]
struct Track {
    cursor: ChainCursor,
    /// Where the cursor stood when the store last vouched for it.
    sure: ChainCursor,
    /// The store is to be asked as soon as possible.
    doubtful: bool,
    adrift: bool,
    /// When an event last came by the bus.
    heard: Instant,
    /// When the store was last asked.
    confirmed: Instant,
    told: Position,
}

/// How much was taken of what has arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Taken {
    Everything,
    Some,
}

/// What an assignment changes for the consumer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) revoked: Vec<Shard>,
    pub(crate) assigned: Vec<Shard>,
}

/// What became of an event that arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It comes next: hand it on.
    Next,
    /// Of no use.
    Dropped(Dropped),
    /// Let go; the repair will bring it.
    Gap,
    /// Of a shard that is not followed.
    NotFollowed,
    /// The reason.
    Fork(String),
}

impl Tracks {
    /// The group gives these to me. Those that were adrift go on where they are; what stays adrift is given up.
    pub(crate) fn assign(&mut self, shards: &[Shard]) -> Change {
        let mut change = Change::default();
        for (shard, track) in &mut self.followed {
            if track.adrift && !shards.contains(shard) {
                change.revoked.push(*shard);
            } else if track.adrift {
                track.adrift = false;
                track.doubtful = true;
            }
        }
        self.forget(&change.revoked);
        for shard in shards {
            if !self.followed.contains_key(shard) && self.waiting.insert(*shard) {
                change.assigned.push(*shard);
            }
        }
        change
    }

    /// The group takes these back in good order. Returns those that were mine.
    pub(crate) fn revoke(&mut self, shards: &[Shard]) -> Vec<Shard> {
        let (mine, _) = self.mine(shards);
        self.forget(&mine);
        mine
    }

    /// The group took these back without asking. Returns those the consumer must drop; the others are adrift.
    pub(crate) fn lose(&mut self, shards: &[Shard]) -> Vec<Shard> {
        let (mine, followed) = self.mine(shards);
        for shard in &followed {
            if let Some(track) = self.followed.get_mut(shard) {
                track.adrift = true;
            }
        }
        let dropped: Vec<_> = mine.into_iter().filter(|shard| !followed.contains(shard)).collect();
        self.forget(&dropped);
        dropped
    }

    /// Everything is taken back.
    pub(crate) fn revoke_all(&mut self) -> Vec<Shard> {
        let all: Vec<_> = self.waiting.iter().chain(self.followed.keys()).copied().collect();
        self.revoke(&all)
    }

    /// Follows shards from these places on. Returns the adrift ones, which are given up instead.
    pub(crate) fn resume(&mut self, places: Vec<(Shard, Place)>, now: Instant) -> Vec<Shard> {
        let mut given_up = Vec::new();
        for (shard, place) in places {
            match self.followed.get(&shard) {
                Some(track) if track.adrift => given_up.push(shard),
                Some(_) => {}
                None if self.waiting.remove(&shard) => {}
                None => continue,
            }
            let cursor = ChainCursor::new(place);
            let told = cursor.scanned_to();
            let sure = cursor.clone();
            let track =
                Track { cursor, sure, doubtful: true, adrift: false, heard: now, confirmed: now, told };
            self.followed.insert(shard, track);
        }
        self.forget(&given_up);
        given_up
    }

    /// An event came by the bus.
    pub(crate) fn see(&mut self, link: &Link, event: &Envelope, now: Instant) -> Seen {
        let Some(track) = self.followed.get_mut(&event.shard) else {
            return Seen::NotFollowed;
        };
        track.heard = now;
        match track.cursor.judge(link) {
            Verdict::Apply => {
                track.cursor.apply(event);
                Seen::Next
            }
            Verdict::Drop(why) => Seen::Dropped(why),
            Verdict::Gap => {
                track.doubtful = true;
                Seen::Gap
            }
            Verdict::Fork(reason) => Seen::Fork(format!("shard {}: {reason}", event.shard)),
        }
    }

    /// The places that shards have come to by the bus alone since the store last vouched for them.
    pub(crate) fn unsure(&self) -> Vec<Place> {
        let unsure = self.followed.values().filter(|track| track.cursor.place() != track.sure.place());
        unsure.map(|track| track.cursor.place().clone()).collect()
    }

    /// The store vouches for where all shards are.
    pub(crate) fn confirm(&mut self, now: Instant) {
        for track in self.followed.values_mut() {
            if track.cursor.place() != track.sure.place() {
                track.confirmed = now;
            }
            track.sure = track.cursor.clone();
        }
    }

    /// The store does not vouch for where these shards are, or for any if none are named: they go back, and the store is to be
    /// asked. Returns the shards.
    pub(crate) fn go_back(&mut self, from: Option<&[Place]>) -> Vec<Shard> {
        let mut back = Vec::new();
        for (shard, track) in &mut self.followed {
            let place = track.cursor.place();
            let is_meant = from.is_none_or(|places| places.contains(place));
            if is_meant && place != track.sure.place() {
                track.cursor = track.sure.clone();
                track.doubtful = true;
                back.push(*shard);
            }
        }
        back
    }

    /// An event came from the store in the order of the whole log. Whether it is to be handed on.
    pub(crate) fn read(&mut self, event: &Envelope) -> bool {
        match self.followed.get_mut(&event.shard) {
            Some(track) if event.position > track.cursor.scanned_to() => {
                track.cursor.apply(event);
                true
            }
            _ => false,
        }
    }

    /// The reader of the whole log has come to `position`.
    pub(crate) fn passed(&mut self, position: Position) {
        for track in self.followed.values_mut() {
            track.cursor.passed(position);
        }
    }

    /// How far all followed shards are complete; none if none is followed.
    pub(crate) fn least_scanned_to(&self) -> Option<Position> {
        self.followed.values().map(|track| track.cursor.scanned_to()).min()
    }

    /// The last event of a shard that was handed on.
    pub(crate) fn position(&self, shard: Shard) -> Option<Position> {
        self.followed.get(&shard).map(|track| track.cursor.position())
    }

    /// The store may be another one than before: ask it about every shard.
    pub(crate) fn doubt_all(&mut self) {
        for track in self.followed.values_mut() {
            track.doubtful = true;
        }
    }

    /// These shards are behind `position`, where the memory of the reader of the whole log begins.
    pub(crate) fn doubt_behind(&mut self, position: Position) {
        for track in self.followed.values_mut() {
            track.doubtful |= track.cursor.scanned_to() < position;
        }
    }

    /// About which shards the store is to be asked at once, and from where.
    pub(crate) fn doubtful(&self) -> Vec<(Shard, Position)> {
        self.asking(|track| track.doubtful)
    }

    /// Whether there are such shards.
    pub(crate) fn in_doubt(&self) -> bool {
        self.followed.values().any(|track| track.doubtful)
    }

    /// Shards of which nothing came for too long are in doubt; sooner if everything was `taken` that has arrived.
    pub(crate) fn notice_silence(&mut self, taken: Taken, now: Instant) {
        let silent = match taken {
            Taken::Everything => SILENT,
            Taken::Some => SILENT_IN_BACKLOG,
        };
        for track in self.followed.values_mut() {
            track.doubtful |= now >= track.last_word() + silent;
        }
    }

    /// Those of which it is time to ask whether the store still knows them.
    pub(crate) fn unconfirmed(&self, now: Instant) -> Vec<(Shard, Position)> {
        self.asking(|track| now >= track.unconfirmed_at())
    }

    /// When the next shard will be silent or unconfirmed.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let due = |track: &Track| (track.last_word() + SILENT).min(track.unconfirmed_at());
        self.followed.values().map(due).min()
    }

    /// Takes the store's answer about `asked` and returns what is to be handed on, in the order of the log.
    ///
    /// # Errors
    /// The reason for a fork.
    pub(crate) fn repaired(
        &mut self,
        asked: &[(Shard, Position)],
        slice: Slice,
        limit_per_shard: usize,
        epoch: Epoch,
        now: Instant,
    ) -> Result<Vec<Arc<Envelope>>, String> {
        let mut by_shard: BTreeMap<Shard, Vec<Arc<Envelope>>> = BTreeMap::new();
        for event in slice.events {
            by_shard.entry(event.shard).or_default().push(Arc::new(event));
        }
        let mut brought = Vec::new();
        for (shard, _) in asked {
            let Some(track) = self.followed.get_mut(shard) else { continue };
            let events = by_shard.remove(shard).unwrap_or_default();
            let more = events.len() >= limit_per_shard;
            let whole = Completeness { epoch, head: slice.head, more };
            let next =
                track.cursor.repaired(events, whole).map_err(|reason| format!("shard {shard}: {reason}"))?;
            track.sure = track.cursor.clone();
            brought.extend(next);
            track.doubtful &= more;
            track.confirmed = now;
        }
        brought.sort_by_key(|event| event.position);
        Ok(brought)
    }

    /// What is to be told about completeness with a batch of `events`: their shards, and from time to time all.
    pub(crate) fn tell(&mut self, events: &[Arc<Envelope>], now: Instant) -> Vec<(Shard, Position)> {
        let all = self.tell_due().is_none_or(|due| now >= due);
        if all {
            self.told_at = Some(now);
        }
        let named: BTreeSet<Shard> = events.iter().map(|event| event.shard).collect();
        let mut told = Vec::new();
        for (shard, track) in &mut self.followed {
            let scanned_to = track.cursor.scanned_to();
            if scanned_to > track.told && (all || named.contains(shard)) {
                track.told = scanned_to;
                told.push((*shard, scanned_to));
            }
        }
        told
    }

    /// When progress without events is to be told next; none if it never was.
    pub(crate) fn tell_due(&self) -> Option<Instant> {
        self.told_at.map(|at| at + TELL_EVERY)
    }

    /// Whether there is progress that was not told yet.
    pub(crate) fn untold(&self) -> bool {
        self.followed.values().any(|track| track.cursor.scanned_to() > track.told)
    }

    fn asking(&self, which: impl Fn(&Track) -> bool) -> Vec<(Shard, Position)> {
        let asked = self.followed.iter().filter(|(_, track)| which(track));
        asked.map(|(shard, track)| (*shard, track.cursor.read_from())).collect()
    }

    /// Of `shards`, those that are mine, and of these those that are followed.
    fn mine(&self, shards: &[Shard]) -> (Vec<Shard>, Vec<Shard>) {
        let followed: Vec<_> =
            shards.iter().copied().filter(|shard| self.followed.contains_key(shard)).collect();
        let mine =
            shards.iter().copied().filter(|s| self.waiting.contains(s) || followed.contains(s)).collect();
        (mine, followed)
    }

    fn forget(&mut self, shards: &[Shard]) {
        for shard in shards {
            self.waiting.remove(shard);
            self.followed.remove(shard);
        }
    }
}

impl Track {
    fn last_word(&self) -> Instant {
        self.heard.max(self.confirmed)
    }

    fn unconfirmed_at(&self) -> Instant {
        self.confirmed + UNCONFIRMED
    }
}

#[cfg(test)]
mod tests;
