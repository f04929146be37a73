//! Load: callers that each wait for their answer before they ask again, and what became of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::task::JoinSet;

/// What a load came to.
#[derive(Default)]
pub struct Load {
    /// How long it went on.
    pub took: Duration,
    /// What was not done.
    pub refused: usize,
    /// Of what was done, in microseconds; ascending once the load has ended.
    latencies_us: Vec<u32>,
}

/// What one caller did.
#[derive(Default)]
pub struct Caller {
    latencies_us: Vec<u32>,
    refused: usize,
}

impl Caller {
    /// Notes something that was done since then.
    pub fn done(&mut self, since: Instant) {
        self.latencies_us.push(u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX));
    }

    /// Notes something that was not done.
    pub fn refused(&mut self) {
        self.refused += 1;
    }
}

impl Load {
    /// Runs so many callers until the time is up; each is told its number and when to stop.
    pub async fn run<F>(
        callers: usize,
        measure_for: Duration,
        call: impl Fn(usize, Instant) -> F,
    ) -> anyhow::Result<Self>
    where
        F: Future<Output = anyhow::Result<Caller>> + Send + 'static,
    {
        let since = Instant::now();
        let until = since + measure_for;
        let mut running = JoinSet::new();
        for caller in 0..callers {
            running.spawn(call(caller, until));
        }
        let mut load = Self::default();
        while let Some(ended) = running.join_next().await {
            let caller = ended.context("a caller panicked")??;
            load.latencies_us.extend(caller.latencies_us);
            load.refused += caller.refused;
        }
        load.took = since.elapsed();
        load.latencies_us.sort_unstable();
        Ok(load)
    }

    /// Of single times, in no order.
    pub fn of(took: Duration, latencies: &[Duration]) -> Self {
        let us = latencies.iter().map(|time| u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
        let mut latencies_us: Vec<u32> = us.collect();
        latencies_us.sort_unstable();
        Self { took, refused: 0, latencies_us }
    }

    /// How many were done.
    pub fn count(&self) -> usize {
        self.latencies_us.len()
    }

    /// How many a second.
    pub fn per_second(&self) -> f64 {
        self.count() as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// The time within which this share was done.
    pub fn latency_ms(&self, share: f64) -> f64 {
        let place = (self.count() as f64 * share).ceil() as usize;
        self.latencies_us.get(place.saturating_sub(1)).map_or(f64::NAN, |us| f64::from(*us) / 1_000.0)
    }
}

/// So many callers share these, in turn: caller 1 of 64 has the 1st, the 65th, …
pub fn share_of<T: Clone>(all: &Arc<[T]>, caller: usize, callers: usize) -> Vec<T> {
    all.iter().skip(caller).step_by(callers).cloned().collect()
}
