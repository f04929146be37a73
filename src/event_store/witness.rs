//! What a process knows the log by: places that it has seen, to be found again wherever it connects.
//!
//! The log is append-only, so whoever finds his newest place again finds everything before it. That holds for one history: events
//! that were read over different connections may be of different ones, so a place takes the room of an older one only
//! after a single statement has found both.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::{PgExecutor, PgPool};
use tokio_util::sync::CancellationToken;

use super::place::{Place, check_places, head_place};
use super::{Error, PlaceCheck};
use crate::domain::ids::Position;
use crate::postgres::answered;

/// How many places are kept between two checks; the newest one always is.
const KEPT: usize = 64;
/// How often a process that watches the log looks.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Places seen by a process, or by one reader in it.
#[derive(Debug, Default)]
pub struct Witness(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// Rising, all found in one statement but for those that came after it.
    places: Vec<Place>,
}

impl Witness {
    /// Remembers a place, if it is the newest.
    pub fn saw(&self, place: Place) {
        self.with(|seen| seen.add(place));
    }

    /// The newest place.
    pub fn newest(&self) -> Option<Place> {
        self.with(|seen| seen.places.last().cloned())
    }

    /// Looks all of them up in one statement. To be called at every reconnect, and from time to time.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn check(&self, executor: impl PgExecutor<'_>) -> Result<PlaceCheck, Error> {
        let asked = self.with(|seen| seen.places.clone());
        let forks = check_places(executor, &asked).await?;
        if let Some((_, reason)) = forks.into_iter().next() {
            return Ok(PlaceCheck::Fork { reason });
        }
        if let Some(newest) = asked.last() {
            self.with(|seen| seen.found(newest.position));
        }
        Ok(PlaceCheck::Same)
    }

    /// Follows the head, and compares with the log what was seen of it: a process that remembers streams, or has told clients
    /// how far the log is, must notice a restore also while it only reads. Ends when cancelled.
    ///
    /// # Errors
    /// [`Error::Fork`].
    pub async fn watch(&self, pool: &PgPool, cancel: &CancellationToken) -> Result<(), Error> {
        while cancel.run_until_cancelled(tokio::time::sleep(WATCH_EVERY)).await.is_some() {
            let Some(looked) = cancel.run_until_cancelled(answered(self.look(pool))).await else { break };
            match looked {
                Ok(PlaceCheck::Same) => {}
                Ok(PlaceCheck::Fork { reason }) => return Err(Error::Fork { reason }),
                // Whoever needs the log says so.
                Err(error) => tracing::debug!(%error, "the log could not be looked at"),
            }
        }
        Ok(())
    }

    async fn look(&self, pool: &PgPool) -> Result<PlaceCheck, Error> {
        let check = self.check(pool).await?;
        if check == PlaceCheck::Same
            && let Some(head) = head_place(pool).await?
        {
            self.saw(head);
        }
        Ok(check)
    }

    fn with<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Seen {
    fn add(&mut self, place: Place) {
        if self.places.last().is_some_and(|newest| newest.position >= place.position) {
            return;
        }
        if self.places.len() >= KEPT {
            self.places.pop();
        }
        self.places.push(place);
    }

    /// Everything up to here was found: the newest of it stands for all.
    fn found(&mut self, position: Position) {
        let newer = self.places.partition_point(|place| place.position < position);
        self.places.drain(..newer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Epoch;

    fn at(position: i64) -> Place {
        Place { position: Position(position), ..Place::origin(Epoch(1)) }
    }

    fn positions(seen: &Seen) -> Vec<i64> {
        seen.places.iter().map(|place| place.position.0).collect()
    }

    #[test]
    fn an_older_place_is_kept_until_it_was_found_together_with_a_newer_one() {
        let mut seen = Seen::default();
        [5, 9, 7, 9, 12].into_iter().for_each(|position| seen.add(at(position)));
        assert_eq!(positions(&seen), [5, 9, 12]);
        seen.found(Position(9));
        assert_eq!(positions(&seen), [9, 12], "12 came while 9 was being looked up");
    }

    #[test]
    fn it_keeps_few_places_and_always_the_newest() {
        let mut seen = Seen::default();
        (1..=1_000).for_each(|position| seen.add(at(position)));
        assert_eq!(seen.places.len(), KEPT);
        assert_eq!(positions(&seen).last(), Some(&1_000));
    }
}
