//! What the feed said while a batch was being written: reading and writing go on side by side.
//!
//! Batches that follow each other become one, so the next flush takes all that has come meanwhile, as it would have done had
//! the feed not been asked before. Anything else keeps its place behind what came before it.

use std::collections::VecDeque;

use crate::domain::ids::Shard;
use crate::feed::{Error, Feed, FeedItem};

/// Items that wait for the projector.
#[derive(Debug, Default)]
pub(super) struct ReadAhead(VecDeque<Result<FeedItem, Error>>);

impl ReadAhead {
    /// What was said already, or is said next. Cancel-safe.
    pub(super) async fn next(&mut self, feed: &mut Feed) -> Result<FeedItem, Error> {
        match self.0.pop_front() {
            Some(item) => item,
            None => feed.next().await,
        }
    }

    /// Whether the feed is to be asked for more: not behind a change of shards, and not for more than a transaction takes.
    pub(super) fn has_room(&self, batch_events_max: usize) -> bool {
        match self.0.back() {
            None => true,
            Some(Ok(FeedItem::Batch(batch))) => batch.events.len() < batch_events_max,
            Some(_) => false,
        }
    }

    /// Keeps an item.
    pub(super) fn put(&mut self, item: Result<FeedItem, Error>) {
        match (self.0.back_mut(), item) {
            (Some(Ok(FeedItem::Batch(before))), Ok(FeedItem::Batch(batch))) => {
                before.events.extend(batch.events);
                before
                    .scanned_to
                    .retain(|(shard, _)| !batch.scanned_to.iter().any(|(newer, _)| newer == shard));
                before.scanned_to.extend(batch.scanned_to);
            }
            (_, item) => self.0.push_back(item),
        }
    }

    /// The shards of which the feed has said that they are no longer ours.
    pub(super) fn revoked(&self) -> impl Iterator<Item = Shard> {
        let shards = |item: &Result<FeedItem, Error>| match item {
            Ok(FeedItem::Revoked(shards)) => shards.clone(),
            _ => Vec::new(),
        };
        self.0.iter().flat_map(shards)
    }

    /// Lets go of events: the feed is about to resume all shards, and brings them again.
    pub(super) fn forget_batches(&mut self) {
        self.0.retain(|item| !matches!(item, Ok(FeedItem::Batch(_))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Position;
    use crate::feed::Batch;

    fn batch(position: i64) -> Result<FeedItem, Error> {
        let scanned_to = vec![(Shard(0), Position(position))];
        Ok(FeedItem::Batch(Batch { events: Vec::new(), scanned_to }))
    }

    #[test]
    fn batches_that_follow_each_other_become_one_and_a_change_keeps_its_place() {
        let mut ahead = ReadAhead::default();
        ahead.put(batch(1));
        ahead.put(batch(2));
        assert!(ahead.has_room(1));
        ahead.put(Ok(FeedItem::Revoked(vec![Shard(7)])));
        assert!(!ahead.has_room(1));
        ahead.put(batch(3));
        assert_eq!(ahead.revoked().collect::<Vec<_>>(), [Shard(7)]);
        assert!(
            matches!(&ahead.0[0], Ok(FeedItem::Batch(batch)) if batch.scanned_to == [(Shard(0), Position(2))])
        );
        assert_eq!(ahead.0.len(), 3);
        ahead.forget_batches();
        assert!(matches!(ahead.0.make_contiguous(), [Ok(FeedItem::Revoked(_))]));
    }
}
