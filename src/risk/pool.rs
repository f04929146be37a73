//! The threads that risk is computed on: rayon's, but never its global pool and never the async runtime's threads.

use super::Error;
use rayon::prelude::*;

/// A fixed number of threads, joined when dropped.
#[derive(Debug)]
pub struct Pool(rayon::ThreadPool);

impl Pool {
    /// `threads` threads; 0 is as many as the machine has cores.
    pub fn new(threads: usize) -> Result<Self, Error> {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("risk-{index}"))
            .build()
            .map(Self)
            .map_err(|error| Error::Pool { reason: error.to_string() })
    }

    /// Runs `work` on these threads and waits for it; parallel iterators inside use them too.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.0.install(work)
    }

    /// `compute` of every item, in the order of the items.
    pub fn map<I: Sync, T: Send>(&self, items: &[I], compute: impl Fn(&I) -> T + Sync) -> Vec<T> {
        self.run(|| items.par_iter().map(&compute).collect())
    }

    /// Threads.
    pub fn threads(&self) -> usize {
        self.0.current_num_threads()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_the_order_of_the_items() {
        let pool = Pool::new(3).unwrap();
        assert_eq!(pool.threads(), 3);
        let items: Vec<u32> = (0..1_000).collect();
        assert_eq!(pool.map(&items, |i| i * 2), items.iter().map(|i| i * 2).collect::<Vec<_>>());
        assert!(pool.run(|| std::thread::current().name().is_some_and(|name| name.starts_with("risk-"))));
    }
}
