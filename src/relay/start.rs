//! Finding out where to go on, at every start and after every trouble: the shell around [`super::walk`].

use std::collections::BTreeMap;

use sqlx::PgPool;

use super::walk::{Begin, Confirmation, Known, Step, Walk, begin, confirm};
use super::window::{Progress, Tail};
use super::{Error, progress};
use crate::domain::ids::{Epoch, Shard};
use crate::event_store::read;
use crate::kafka::scan::{self, Extent};
use crate::kafka::{KafkaSettings, Record, topics};
use crate::postgres::answered;

/// How many events of the store are fetched at once for a comparison.
const FETCH: i64 = 500;

/// For every shard, the last event that its topic is known to hold in an unbroken run from the beginning, and the offset
/// behind its last record.
pub(super) async fn ends(
    settings: &KafkaSettings,
    pool: &PgPool,
) -> Result<BTreeMap<Shard, (Option<Tail>, i64)>, Error> {
    let rows = answered(progress::load(pool, settings)).await?;
    let newest = answered(read::epoch_at_head(pool)).await?;
    // What they hold was committed before this moment: every later look at the store must find it.
    let extents = scan::extents(settings, topics::all_shards().collect()).await?;
    let mut walks = BTreeMap::new();
    let mut stretches = BTreeMap::new();
    let mut anew = Vec::new();
    for (shard, extent) in &extents {
        let known = known(pool, *shard, rows.get(shard).copied(), *extent).await?;
        let (walk, from) = match begin(&known).map_err(Error::Fork)? {
            Begin::Confirm(stored, offset) => {
                (ShardWalk::new(*shard, Some(stored), newest, First::Confirm(stored, offset)), offset)
            }
            Begin::Trust(tail, offset) => (ShardWalk::new(*shard, tail, newest, First::Seen), offset),
            Begin::Anew => {
                anew.push(*shard);
                continue;
            }
        };
        walks.insert(*shard, walk);
        stretches.insert(*shard, Extent { low: from, ..*extent });
    }
    let mut tails = show(settings, pool, &mut walks, stretches).await?;
    anew.extend(walks.values().filter(|walk| walk.must_confirm()).map(|walk| walk.shard));

    let mut walks: BTreeMap<_, _> =
        anew.iter().map(|shard| (*shard, ShardWalk::new(*shard, None, newest, First::Adopt))).collect();
    let stretches = extents.clone().into_iter().filter(|(shard, _)| walks.contains_key(shard)).collect();
    tails.extend(show(settings, pool, &mut walks, stretches).await?);
    let end = |shard: Shard| extents.get(&shard).map_or(0, |extent| extent.end);
    Ok(tails.into_iter().map(|(shard, tail)| (shard, (tail, end(shard)))).collect())
}

async fn known(pool: &PgPool, shard: Shard, row: Option<Progress>, extent: Extent) -> Result<Known, Error> {
    let Some(row) = row else {
        return Ok(Known { progress: None, stored: None, later_epoch: None, extent });
    };
    let stored = answered(read::find(pool, row.position)).await?;
    let stored = stored.filter(|event| event.shard == shard && event.epoch == row.epoch);
    let later_epoch = answered(progress::epoch_after(pool, row.epoch)).await?;
    Ok(Known { progress: Some(row), stored: stored.as_ref().map(Tail::from), later_epoch, extent })
}

/// Reads these stretches and shows each record to the walk of its shard.
async fn show(
    settings: &KafkaSettings,
    pool: &PgPool,
    walks: &mut BTreeMap<Shard, ShardWalk>,
    stretches: BTreeMap<Shard, Extent>,
) -> Result<BTreeMap<Shard, Option<Tail>>, Error> {
    let mut records = scan::scan(settings, stretches);
    while let Some(some) = records.recv().await {
        for record in some? {
            if let Some(walk) = walks.get_mut(&record.event.shard) {
                walk.see(pool, &record).await?;
            }
        }
    }
    Ok(walks.values().map(|walk| (walk.shard, walk.walk.tail())).collect())
}

/// The walk of one shard, with its first record.
struct ShardWalk {
    shard: Shard,
    newest: Epoch,
    walk: Walk,
    first: First,
}

/// What to make of the first record.
enum First {
    /// It must be this event, at this offset.
    Confirm(Tail, i64),
    /// It was not.
    Unconfirmed,
    /// Retention has passed the shard's first event: where the store knows the record, the run begins with it.
    Adopt,
    /// Nothing more.
    Seen,
}

impl ShardWalk {
    fn new(shard: Shard, tail: Option<Tail>, newest: Epoch, first: First) -> Self {
        Self { shard, newest, walk: Walk::new(tail, newest), first }
    }

    /// Whether the row still lacks its confirmation, so that the walk was for nothing.
    fn must_confirm(&self) -> bool {
        matches!(self.first, First::Confirm(..) | First::Unconfirmed)
    }

    async fn see(&mut self, pool: &PgPool, record: &Record) -> Result<(), Error> {
        let found = Tail::from(&*record.event);
        match self.first {
            First::Confirm(stored, offset) => {
                let at_the_offset = record.offset == offset;
                self.first = match confirm(stored, found, self.newest) {
                    Confirmation::Same if at_the_offset => First::Seen,
                    Confirmation::Fork(reason) if at_the_offset => return Err(Error::Fork(reason)),
                    _ => First::Unconfirmed,
                };
                return Ok(());
            }
            First::Unconfirmed => return Ok(()),
            First::Adopt => {
                self.first = First::Seen;
                if record.offset > 0 {
                    self.adopt(pool, found).await?;
                }
            }
            First::Seen => {}
        }
        loop {
            match self.walk.see(found) {
                Step::Next => return Ok(()),
                Step::Fork(reason) => return Err(Error::Fork(format!("shard {}: {reason}", self.shard))),
                Step::Fetch(after) => {
                    let slice = answered(read::shard_after(pool, self.shard, after, FETCH)).await?;
                    self.walk.expect(slice.events.iter().map(Tail::from));
                }
            }
        }
    }

    async fn adopt(&mut self, pool: &PgPool, found: Tail) -> Result<(), Error> {
        let stored = answered(read::find(pool, found.position)).await?;
        if stored.as_ref().map(Tail::from) == Some(found) {
            self.walk = Walk::new(Some(found), self.newest);
        }
        Ok(())
    }
}
