//! Answers that many ask for at once: the same question is read once and answered to all who ask within a moment.
//!
//! What is answered says which place it is of, as ever. Whoever names a place that it has not seen is read anew, so that nobody
//! misses their own write. Memory is bounded; what is too old is forgotten when room is needed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::answer::Rendered;
use crate::api::problem::Problem;
use crate::api::query::Place;
use crate::queries;

/// Questions that are remembered.
const QUESTIONS_MAX: usize = 512;
/// What their answers may take.
const BYTES_MAX: usize = 8 << 20;
/// How long somebody else's read is waited for before one reads by oneself.
const TURN_WITHIN: Duration = Duration::from_secs(1);

/// Answers by question. Cheap to ask.
#[derive(Default)]
pub(crate) struct Conflated {
    slots: Mutex<HashMap<String, Arc<Slot>>>,
}

/// An answer, of the moment it was read.
pub(super) struct Kept {
    pub rendered: Rendered,
    pub as_of: queries::AsOf,
    pub parked: bool,
    /// When reading it began.
    asked: Instant,
}

/// One question. Whoever holds it reads; the others wait for what is read.
#[derive(Default)]
struct Slot {
    kept: tokio::sync::Mutex<Option<Arc<Kept>>>,
    bytes: std::sync::atomic::AtomicUsize,
}

impl Kept {
    /// What was read, rendered.
    pub(super) fn of<R, T: serde::Serialize>(
        answer: queries::Answer<R>,
        document: impl FnOnce(R) -> T,
    ) -> Self {
        let queries::Answer { as_of, parked, data } = answer;
        // The moment is put in by who asked for it.
        Self { rendered: Rendered::of(&document(data)), as_of, parked, asked: Instant::now() }
    }

    fn has_seen(&self, place: Option<Place>) -> bool {
        place.is_none_or(|wanted| self.as_of.epoch == wanted.epoch && self.as_of.position >= wanted.position)
    }
}

impl Conflated {
    /// The answer to a question, at most so old, which has seen a place; read if there is none.
    ///
    /// # Errors
    /// Whatever reading says. Nothing of it is kept.
    pub(super) async fn get(
        &self,
        question: String,
        good_for: Duration,
        place: Option<Place>,
        read: impl Future<Output = Result<Kept, Problem>>,
    ) -> Result<Arc<Kept>, Problem> {
        let (slot, arrived) = (self.slot(question), Instant::now());
        let Ok(mut kept) = tokio::time::timeout(TURN_WITHIN, slot.kept.lock()).await else {
            return read.await.map(Arc::new);
        };
        // What was begun after somebody came is new enough for them, however long it took: else those who wait for a slow
        // answer would read it once more, one behind the other.
        if let Some(kept) = &*kept
            && (kept.asked >= arrived || kept.asked.elapsed() < good_for)
            && kept.has_seen(place)
        {
            return Ok(Arc::clone(kept));
        }
        let asked = Instant::now();
        let answer = Arc::new(Kept { asked, ..read.await? });
        slot.bytes.store(answer.rendered.bytes(), std::sync::atomic::Ordering::Relaxed);
        *kept = Some(Arc::clone(&answer));
        Ok(answer)
    }

    fn slot(&self, question: String) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(&question) {
            return Arc::clone(slot);
        }
        let bytes = |slot: &Arc<Slot>| slot.bytes.load(std::sync::atomic::Ordering::Relaxed);
        if slots.len() >= QUESTIONS_MAX || slots.values().map(bytes).sum::<usize>() >= BYTES_MAX {
            // Those whom somebody waits for stay.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(question).or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use serde_json::json;

    use super::*;
    use crate::domain::ids::{Epoch, Position};

    /// Answers that count how often they were read.
    #[derive(Default)]
    struct Source(AtomicI64);

    impl Source {
        async fn read(&self) -> Result<Kept, Problem> {
            tokio::task::yield_now().await;
            let position = Position(self.0.fetch_add(1, Ordering::Relaxed) + 1);
            let as_of = queries::AsOf { epoch: Epoch(1), position, recorded_at: None, changed_at: None };
            let answer = queries::Answer { as_of, parked: false, data: position.0 };
            Ok(Kept::of(answer, |n| json!({"n": n})))
        }
    }

    fn seen(position: i64) -> Option<Place> {
        Some(Place { epoch: Epoch(1), position: Position(position) })
    }

    #[tokio::test]
    async fn many_who_ask_at_once_are_one_read() {
        let (conflated, source) = (Conflated::default(), Source::default());
        const LONG: Duration = Duration::from_secs(600);
        let ask = |place| conflated.get("q".into(), LONG, place, source.read());
        let all = futures::future::join_all((0..32).map(|_| ask(None))).await;
        assert!(all.into_iter().all(|kept| kept.ok().unwrap().as_of.position == Position(1)));
        // A place that it has seen is no reason to read again, one that it has not is.
        assert_eq!(ask(seen(1)).await.ok().unwrap().as_of.position, Position(1));
        assert_eq!(ask(seen(2)).await.ok().unwrap().as_of.position, Position(2));
        let too_old = conflated.get("q".into(), Duration::ZERO, None, source.read()).await;
        assert_eq!(too_old.ok().unwrap().as_of.position, Position(3));
        let other = conflated.get("r".into(), LONG, None, source.read()).await;
        assert_eq!(other.ok().unwrap().as_of.position, Position(4));
    }

    #[tokio::test]
    async fn who_waits_for_a_slow_answer_takes_one_that_was_begun_since() {
        let (conflated, source) = (Conflated::default(), Source::default());
        // Slower than an answer is good for: what was read is too old the moment it is there.
        let slow = || async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            source.read().await
        };
        let ask = || conflated.get("q".into(), Duration::from_millis(1), None, slow());
        let others = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            futures::future::join_all((0..32).map(|_| ask())).await
        };
        let (first, others) = tokio::join!(ask(), others);
        assert_eq!(first.ok().unwrap().as_of.position, Position(1));
        let seen = others.into_iter().map(|kept| kept.ok().unwrap().as_of.position);
        assert!(seen.into_iter().all(|position| position == Position(2)), "one of them reads for all");
    }

    #[tokio::test]
    async fn a_failure_is_not_kept_and_memory_is_bounded() {
        let (conflated, source) = (Conflated::default(), Source::default());
        let failing = async { Err(Problem::busy("away", 1)) };
        assert!(conflated.get("q".into(), Duration::from_secs(1), None, failing).await.is_err());
        assert!(conflated.get("q".into(), Duration::from_secs(1), None, source.read()).await.is_ok());
        for n in 0..3 * QUESTIONS_MAX {
            let read = source.read();
            assert!(conflated.get(n.to_string(), Duration::from_secs(1), None, read).await.is_ok());
        }
        assert!(conflated.slots.lock().unwrap().len() <= QUESTIONS_MAX);
    }
}
