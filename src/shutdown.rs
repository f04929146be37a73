//! How a process ends: everything it does is a named task, and either all of them run or none.
//!
//! A signal asks the tasks to end; so does the first task that fails, panics or ends before it was asked to, because half a
//! process that looks alive is worse than none. [`Shutdown::finish`] then waits for the others, but not for ever, and hands
//! `main` the first failure. Restart is the only recovery path, so there is nothing else to it.

use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long tasks may take to end once they were asked to.
pub const PATIENCE: Duration = Duration::from_secs(7);

/// How long may be spent on closing what is left when the tasks have ended: with [`PATIENCE`] less than ten seconds, after which
/// those who start processes lose theirs.
pub const CLOSING: Duration = Duration::from_secs(2);

type BoxError = Box<dyn StdError + Send + Sync>;

/// The end of this process, shared by its tasks. Cheap to clone; clones are the same shutdown.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// How many tasks of a name are running, to be able to say who does not end.
    running: BTreeMap<String, usize>,
    first_failure: Option<Failure>,
}

/// Why a process ended that was not asked to, or did not end as asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A task returned an error.
    #[error("{task} failed")]
    Failed {
        /// The name it was spawned with.
        task: String,
        /// What it returned.
        source: BoxError,
    },
    /// A task panicked; a bug.
    #[error("{task} panicked: {message}")]
    Panicked {
        /// The name it was spawned with.
        task: String,
        /// What it said.
        message: String,
    },
    /// A task returned although nobody had asked it to.
    #[error("{task} ended early")]
    EndedEarly {
        /// The name it was spawned with.
        task: String,
    },
    /// Tasks were still running when the patience was at its end.
    #[error("still running {patience:?} after being asked to end: {tasks}")]
    Stuck {
        /// Their names.
        tasks: String,
        /// How long they were waited for.
        patience: Duration,
    },
}

impl Shutdown {
    /// A process that nobody has asked to end yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `future` as a task of this process until it was [requested](Self::requested) to end. An error, a panic or an end
    /// before that ends the process.
    pub fn spawn<F, E>(&self, name: impl Into<String>, future: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let task = name.into();
        *self.state().running.entry(task.clone()).or_default() += 1;

        let shutdown = self.clone();
        self.tasks.spawn(async move {
            let outcome = AssertUnwindSafe(future).catch_unwind().await;
            shutdown.ended(task, outcome.map(|result| result.map_err(Into::into)));
        });
    }

    /// Asks every task to end. A second call changes nothing.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// Waits until the process is asked to end: the other branch of every `select!` in a loop.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// Waits until the process was asked to end and has had its time: for what is no task yet.
    pub async fn overdue(&self) {
        self.requested().await;
        tokio::time::sleep(PATIENCE).await;
    }

    /// Whether the process was asked to end: for threads and loops without an await.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// The token behind it, for libraries that want one, or for a child that ends sooner.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Lets SIGTERM and SIGINT ask the process to end from now on. The second signal ends it at once.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn on_signals(&self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        // Not a task of the process: it has nothing to finish and must outlive the others.
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if shutdown.is_requested() {
                    tracing::warn!(signal = name, "second signal: ending at once");
                    std::process::exit(130);
                }
                tracing::info!(signal = name, "asked to end");
                shutdown.request();
            }
        });
        Ok(())
    }

    /// Waits until the process is asked to end or a task fails, then for the tasks, at most [`PATIENCE`].
    ///
    /// # Errors
    /// The first failure of all, which is the reason for the others.
    pub async fn finish(&self) -> Result<(), Failure> {
        self.finish_within(PATIENCE).await
    }

    async fn finish_within(&self, patience: Duration) -> Result<(), Failure> {
        self.requested().await;
        self.tasks.close();
        let in_time = tokio::time::timeout(patience, self.tasks.wait()).await.is_ok();

        let mut state = self.state();
        if let Some(failure) = state.first_failure.take() {
            return Err(failure);
        }
        if in_time {
            return Ok(());
        }
        let names: Vec<_> = state.running.keys().map(String::as_str).collect();
        Err(Failure::Stuck { tasks: names.join(", "), patience })
    }

    /// Notes the end of a task. Its failure is kept if it is the first one, and logged if it is not.
    fn ended(&self, task: String, outcome: Result<Result<(), BoxError>, Box<dyn Any + Send>>) {
        let mut state = self.state();
        if let Some(count) = state.running.get_mut(&task) {
            *count -= 1;
            if *count == 0 {
                state.running.remove(&task);
            }
        }
        let failure = match outcome {
            Ok(Ok(())) if self.is_requested() => return,
            Ok(Ok(())) => Failure::EndedEarly { task },
            Ok(Err(source)) => Failure::Failed { task, source },
            Err(panic) => Failure::Panicked { task, message: message(panic.as_ref()) },
        };
        match &state.first_failure {
            None => state.first_failure = Some(failure),
            Some(_) => {
                tracing::warn!(
                    error = &failure as &dyn StdError,
                    "another task failed while the process was ending"
                );
            }
        }
        drop(state);
        self.request();
    }

    /// A panic in a task is caught before it gets here, so a poisoned lock still guards whole data.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A task that ends when it is asked to.
    async fn well_behaved(shutdown: Shutdown) -> Result<(), io::Error> {
        shutdown.requested().await;
        Ok(())
    }

    #[tokio::test]
    async fn a_requested_end_waits_for_the_tasks_and_is_no_failure() {
        let shutdown = Shutdown::new();
        shutdown.spawn("one", well_behaved(shutdown.clone()));
        shutdown.spawn("one", well_behaved(shutdown.clone()));
        shutdown.request();
        shutdown.finish().await.unwrap();
    }

    #[tokio::test]
    async fn the_first_failure_ends_the_others_and_is_the_one_reported() {
        let shutdown = Shutdown::new();
        shutdown.spawn("good", well_behaved(shutdown.clone()));
        shutdown.spawn("bad", async { Err(io::Error::other("disk full")) });
        let later = shutdown.clone();
        shutdown.spawn("worse", async move {
            later.requested().await;
            Err(io::Error::other("as a consequence"))
        });
        let failure = shutdown.finish().await.unwrap_err();
        assert_eq!(failure.to_string(), "bad failed");
        assert_eq!(failure.source().unwrap().to_string(), "disk full");
    }

    #[tokio::test]
    async fn a_task_that_ends_unasked_is_a_failure() {
        let shutdown = Shutdown::new();
        shutdown.spawn("lazy", async { Ok::<_, io::Error>(()) });
        assert_eq!(shutdown.finish().await.unwrap_err().to_string(), "lazy ended early");
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_with_its_message() {
        let shutdown = Shutdown::new();
        let number = 3;
        shutdown.spawn("shaky", async move {
            assert_eq!(number, 4, "numbers differ");
            Ok::<_, io::Error>(())
        });
        let text = shutdown.finish().await.unwrap_err().to_string();
        assert!(text.starts_with("shaky panicked: assertion") && text.contains("numbers differ"), "{text}");
    }

    #[tokio::test]
    async fn a_task_that_does_not_end_is_waited_for_and_named() {
        let shutdown = Shutdown::new();
        shutdown.spawn("stubborn", std::future::pending::<Result<(), io::Error>>());
        shutdown.spawn("good", well_behaved(shutdown.clone()));
        shutdown.request();
        let failure = shutdown.finish_within(Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(failure.to_string(), "still running 20ms after being asked to end: stubborn");
    }
}
