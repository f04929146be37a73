//! Where a read model stands, shard by shard, and the statement that every flush begins with.
//!
//! [`Checkpoints`] is the part without I/O: it moves on as events are folded, and knows which shards the next flush
//! must write. It may run ahead of the rows, because after any failure it is dropped and loaded again.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::column;
use crate::domain::ids::{Epoch, Position, Shard};
use crate::event_store::Place;
use crate::events::Envelope;

/// Where a read model stands in one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The shard.
    pub shard: Shard,
    /// The last event whose effect is in the rows.
    pub place: Place,
    /// No event of the shard at or below it is missing from the rows.
    pub scanned_to: Position,
    /// The reader's place in the market shard, where prices are joined; else 0.
    pub price_position: Position,
    /// Changes with every flush; another one than ours means that the shard is lost.
    pub revision: i64,
}

/// The checkpoints of the shards that are ours.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    by_shard: BTreeMap<Shard, Checkpoint>,
    /// Shards whose events are folded but not flushed.
    moved: BTreeSet<Shard>,
    /// Shards that were only scanned further.
    scanned: BTreeSet<Shard>,
}

/// Which shards a flush writes beside those that have to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Idle {
    /// None.
    Leave,
    /// Those that were only scanned further, too.
    Write,
}

impl Checkpoints {
    pub(crate) fn insert(&mut self, loaded: Vec<Checkpoint>) {
        self.by_shard.extend(loaded.into_iter().map(|checkpoint| (checkpoint.shard, checkpoint)));
    }

    pub(crate) fn remove(&mut self, shards: &[Shard]) {
        for shard in shards {
            self.by_shard.remove(shard);
            self.moved.remove(shard);
            self.scanned.remove(shard);
        }
    }

    pub(crate) fn shards(&self) -> Vec<Shard> {
        self.by_shard.keys().copied().collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Checkpoint> {
        self.by_shard.values()
    }

    /// Whether the event is of a shard of ours and its effect is not in the rows.
    pub(crate) fn is_new(&self, event: &Envelope) -> bool {
        self.by_shard.get(&event.shard).is_some_and(|mine| mine.place.position < event.position)
    }

    /// Moves on past events that were folded or skipped.
    pub(crate) fn fold(&mut self, event: &Envelope) {
        if let Some(mine) = self.by_shard.get_mut(&event.shard) {
            mine.place = Place::from(event);
            mine.scanned_to = mine.scanned_to.max(event.position);
            self.moved.insert(event.shard);
        }
    }

    /// Notes how far shards were scanned.
    pub(crate) fn scan(&mut self, scanned_to: &[(Shard, Position)]) {
        for (shard, position) in scanned_to {
            if let Some(mine) = self.by_shard.get_mut(shard)
                && mine.scanned_to < *position
            {
                mine.scanned_to = *position;
                self.scanned.insert(*shard);
            }
        }
    }

    /// The checkpoints that a flush writes, in shard order: those with events, those whose rows changed for another
    /// reason, and, if wanted, the idle ones that were scanned or whose prices were read further.
    pub(crate) fn due(
        &self,
        changed: &BTreeSet<Shard>,
        idle: Idle,
        price_position: Position,
    ) -> Vec<Checkpoint> {
        let is_behind =
            |mine: &Checkpoint| self.scanned.contains(&mine.shard) || mine.price_position < price_position;
        let is_due = |mine: &&Checkpoint| {
            self.moved.contains(&mine.shard)
                || changed.contains(&mine.shard)
                || (idle == Idle::Write && is_behind(mine))
        };
        let due = self.by_shard.values().filter(is_due).cloned();
        due.map(|mine| Checkpoint { price_position: mine.price_position.max(price_position), ..mine })
            .collect()
    }

    /// Takes over what was written.
    pub(crate) fn written(&mut self, written: Vec<Checkpoint>) {
        for checkpoint in written {
            self.moved.remove(&checkpoint.shard);
            self.scanned.remove(&checkpoint.shard);
            self.by_shard.insert(checkpoint.shard, checkpoint);
        }
    }
}

/// The stored checkpoints of these shards; those that never were begin before the first event.
pub(super) async fn load(conn: &mut PgConnection, shards: &[Shard]) -> Result<Vec<Checkpoint>, sqlx::Error> {
    let shards = column(shards, |shard| shard.0);
    sqlx::query_file!("projections/insert_missing_checkpoints.sql", &shards).execute(&mut *conn).await?;
    stored(conn, &shards).await
}

/// The stored checkpoints among these shards.
pub(super) async fn stored(conn: &mut PgConnection, shards: &[i16]) -> Result<Vec<Checkpoint>, sqlx::Error> {
    let rows = sqlx::query_file!("projections/load_checkpoints.sql", shards).fetch_all(conn).await?;
    let checkpoints = rows.into_iter().map(|row| Checkpoint {
        shard: Shard(row.shard),
        place: Place {
            epoch: Epoch(row.epoch),
            position: Position(row.position),
            event_id: row.event_id.and_then(|id| id.parse().ok()),
            recorded_at: row.recorded_at,
        },
        scanned_to: Position(row.scanned_to),
        price_position: Position(row.price_position),
        revision: row.revision,
    });
    Ok(checkpoints.collect())
}

/// Writes the checkpoints of shards that have none.
pub(super) async fn begin(conn: &mut PgConnection, begun: &[Checkpoint]) -> Result<(), sqlx::Error> {
    const SQL: &str = "insert into checkpoints \
        (shard, epoch, position, event_id, recorded_at, scanned_to, price_position, revision) \
        select b.*, nextval('public.checkpoint_revisions') from unnest($1::smallint[], $2::integer[], $3::bigint[], \
        $4::text[], $5::timestamptz[], $6::bigint[], $7::bigint[]) b";
    sqlx::query(SQL)
        .bind(column(begun, |mine| mine.shard.0))
        .bind(column(begun, |mine| mine.place.epoch.0))
        .bind(column(begun, |mine| mine.place.position.0))
        .bind(column(begun, |mine| mine.place.event_id.map(|id| id.to_string())))
        .bind(column(begun, |mine| mine.place.recorded_at))
        .bind(column(begun, |mine| mine.scanned_to.0))
        .bind(column(begun, |mine| mine.price_position.0))
        .execute(conn)
        .await?;
    Ok(())
}

/// Writes the checkpoints where they are still ours. Fewer come back than were given: another process owns a shard.
pub(super) async fn advance(
    conn: &mut PgConnection,
    due: Vec<Checkpoint>,
) -> Result<Vec<Checkpoint>, sqlx::Error> {
    let rows = sqlx::query_file!(
        "projections/advance_checkpoints.sql",
        &column(&due, |mine| mine.shard.0),
        &column(&due, |mine| mine.place.epoch.0),
        &column(&due, |mine| mine.place.position.0),
        &column(&due, |mine| mine.place.event_id.map(|id| id.to_string())) as _,
        &column(&due, |mine| mine.place.recorded_at) as _,
        &column(&due, |mine| mine.scanned_to.0),
        &column(&due, |mine| mine.price_position.0),
        &column(&due, |mine| mine.revision),
    )
    .fetch_all(conn)
    .await?;
    let revisions: BTreeMap<i16, i64> = rows.into_iter().map(|row| (row.shard, row.revision)).collect();
    let written = due.into_iter().filter_map(|mine| {
        let revision = *revisions.get(&mine.shard.0)?;
        Some(Checkpoint { revision, ..mine })
    });
    Ok(written.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(shard: i16, position: i64) -> Checkpoint {
        let place = Place { position: Position(position), ..Place::origin(Epoch(1)) };
        Checkpoint {
            shard: Shard(shard),
            place,
            scanned_to: Position(position),
            price_position: Position(0),
            revision: 7,
        }
    }

    fn shards(due: &[Checkpoint]) -> Vec<i16> {
        column(due, |mine| mine.shard.0)
    }

    #[test]
    fn idle_shards_are_written_only_when_wanted() {
        let mut mine = Checkpoints::default();
        mine.insert(vec![checkpoint(3, 10), checkpoint(1, 10), checkpoint(2, 10)]);
        mine.scan(&[(Shard(1), Position(12)), (Shard(2), Position(9)), (Shard(9), Position(99))]);
        let changed = BTreeSet::from([Shard(3)]);

        let leave = mine.due(&changed, Idle::Leave, Position(0));
        assert_eq!(shards(&leave), [3]);
        assert_eq!(shards(&mine.due(&changed, Idle::Write, Position(0))), [1, 3]);
        let write = mine.due(&changed, Idle::Write, Position(5));
        assert_eq!(shards(&write), [1, 2, 3]);
        assert_eq!(write[0].scanned_to, Position(12));
        assert_eq!(write[1].price_position, Position(5));

        mine.written(write);
        assert!(mine.due(&BTreeSet::new(), Idle::Write, Position(5)).is_empty());
    }

    #[test]
    fn a_shard_that_was_taken_away_is_no_longer_written() {
        let mut mine = Checkpoints::default();
        mine.insert(vec![checkpoint(1, 10)]);
        mine.scan(&[(Shard(1), Position(12))]);
        mine.remove(&[Shard(1)]);
        assert!(mine.due(&BTreeSet::from([Shard(1)]), Idle::Write, Position(0)).is_empty());
    }
}
