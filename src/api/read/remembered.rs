//! Bodies that were made before, for rows that have not changed since.
//!
//! A portfolio's holdings are a function of its last event, so the hottest read asks first where the rows stand, and only
//! reads and renders them where that has moved. Two generations bound the memory: what is asked for stays.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::answer::Rendered;
use crate::domain::ids::PortfolioId;

/// Bodies in a generation.
const GENERATION_MAX: usize = 2_000;
/// A body is good for so long: an asset's symbol in it may have become another.
const GOOD_FOR: Duration = Duration::from_secs(10);

/// Bodies by portfolio. Cheap to ask.
#[derive(Default)]
pub(crate) struct Remembered {
    generations: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    young: HashMap<PortfolioId, Body>,
    old: HashMap<PortfolioId, Body>,
}

#[derive(Clone)]
struct Body {
    /// Of the rows it was made of.
    position: i64,
    made: Instant,
    rendered: Arc<Rendered>,
}

impl Remembered {
    /// The body of rows that stand at this position, if it was made a short while ago.
    pub(super) fn get(&self, id: PortfolioId, position: i64) -> Option<Arc<Rendered>> {
        self.get_at(id, position, Instant::now())
    }

    fn get_at(&self, id: PortfolioId, position: i64, now: Instant) -> Option<Arc<Rendered>> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let body = match generations.young.get(&id) {
            Some(body) => body.clone(),
            None => {
                let body = generations.old.remove(&id)?;
                generations.put(id, body.clone());
                body
            }
        };
        let is_good = body.position == position && now.duration_since(body.made) < GOOD_FOR;
        is_good.then_some(body.rendered)
    }

    /// Keeps the body of rows that stand at this position.
    pub(super) fn put(&self, id: PortfolioId, position: i64, rendered: Arc<Rendered>) {
        let body = Body { position, made: Instant::now(), rendered };
        self.generations.lock().unwrap_or_else(PoisonError::into_inner).put(id, body);
    }
}

impl Generations {
    fn put(&mut self, id: PortfolioId, body: Body) {
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id, body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_body_is_good_for_its_position_and_for_a_while() {
        let remembered = Remembered::default();
        let id = PortfolioId(Uuid::from_u128(1));
        remembered.put(id, 7, Arc::new(Rendered::of(&serde_json::json!({"version": 3}))));
        assert!(remembered.get(id, 7).is_some());
        assert!(remembered.get(id, 8).is_none());
        assert!(remembered.get(PortfolioId(Uuid::from_u128(2)), 7).is_none());
        assert!(remembered.get_at(id, 7, Instant::now() + GOOD_FOR).is_none());
    }

    #[test]
    fn what_is_asked_for_outlives_a_generation() {
        let remembered = Remembered::default();
        let rendered = Arc::new(Rendered::of(&serde_json::json!({"version": 3})));
        let id = |n: usize| PortfolioId(Uuid::from_u128(n as u128));
        remembered.put(id(0), 1, Arc::clone(&rendered));
        for n in 1..3 * GENERATION_MAX {
            remembered.put(id(n), 1, Arc::clone(&rendered));
            assert!(remembered.get(id(0), 1).is_some(), "{n}");
        }
        assert!(remembered.get(id(1), 1).is_none());
    }
}
