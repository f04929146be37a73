//! The market model in use, and the making of the next one when closes have come.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::analysis::{MarketModel, Pool, Settings, load_inputs};
use crate::domain::ids::Position;
use crate::projectors::Error;

/// A model is made this long after the last close …
const CLOSES_PAUSE: Duration = Duration::from_secs(2);
/// … or this long after the first, if they go on coming.
const CLOSES_WAIT_MAX: Duration = Duration::from_secs(10);
/// How often `prices` is asked whether the closes are in its rows.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// How risk is computed.
#[derive(Debug, Clone, Copy)]
pub struct Engine {
    /// Days of returns.
    pub window: usize,
    /// The simulation's seed, degrees of freedom and paths.
    pub simulation: Settings,
    /// Threads that compute; 0 for one a core.
    pub threads: usize,
}

impl Default for Engine {
    fn default() -> Self {
        Self { window: 1_000, simulation: Settings::default(), threads: 0 }
    }
}

type Making = JoinHandle<Result<MarketModel, Error>>;

pub(super) struct Models {
    pool: PgPool,
    settings: Engine,
    engine: Arc<Pool>,
    current: Arc<MarketModel>,
    /// The last market event with closes that we have seen.
    wanted: Position,
    first_wanted: Option<Instant>,
    last_wanted: Option<Instant>,
    making: Option<Making>,
}

impl Models {
    /// Makes a model of the closes that there are.
    pub(super) async fn open(pool: PgPool, settings: Engine, engine: Arc<Pool>) -> Result<Self, Error> {
        let current = Arc::new(make(pool.clone(), settings, Arc::clone(&engine), Position(0)).await?);
        let wanted = Position(current.cut() as i64);
        let (first_wanted, last_wanted, making) = (None, None, None);
        Ok(Self { pool, settings, engine, current, wanted, first_wanted, last_wanted, making })
    }

    pub(super) fn current(&self) -> Arc<MarketModel> {
        Arc::clone(&self.current)
    }

    /// The market position up to which closes are in the model.
    pub(super) fn cut(&self) -> Position {
        Position(self.current.cut() as i64)
    }

    /// Whether closes were seen that are not in the model.
    pub(super) fn is_behind(&self) -> bool {
        self.cut() < self.wanted
    }

    /// Closes were seen up to this position.
    pub(super) fn wanted(&mut self, closes: Position) {
        if closes > self.wanted {
            self.wanted = closes;
            let now = Instant::now();
            self.first_wanted.get_or_insert(now);
            self.last_wanted = Some(now);
        }
    }

    /// Makes a model that knows everything up to a position, unless the one in use does.
    pub(super) async fn reach(&mut self, position: Position) -> Result<(), Error> {
        if self.cut() < position {
            let made = make(self.pool.clone(), self.settings, Arc::clone(&self.engine), position).await?;
            self.current = Arc::new(made);
        }
        Ok(())
    }

    /// Makes a model of the closes that there are, and says whether it knows more than the one in use did.
    pub(super) async fn make_now(&mut self) -> Result<bool, Error> {
        let cut = self.cut();
        let made = make(self.pool.clone(), self.settings, Arc::clone(&self.engine), Position(0)).await?;
        self.current = Arc::new(made);
        Ok(self.cut() > cut)
    }

    /// Returns when there is another model. Safe to cancel: what is being made goes on.
    pub(super) async fn next(&mut self) -> Result<(), Error> {
        let made = loop {
            if let Some(making) = &mut self.making {
                let made = making.await;
                self.making = None;
                break made;
            }
            match self.last_wanted.zip(self.first_wanted) {
                None => std::future::pending::<()>().await,
                Some((last, first)) => {
                    tokio::time::sleep_until((last + CLOSES_PAUSE).min(first + CLOSES_WAIT_MAX)).await;
                }
            }
            (self.first_wanted, self.last_wanted) = (None, None);
            let making = make(self.pool.clone(), self.settings, Arc::clone(&self.engine), self.wanted);
            self.making = Some(tokio::spawn(making));
        };
        match made {
            Ok(Ok(model)) => self.current = Arc::new(model),
            Ok(Err(error)) => {
                // The closes are still wanted.
                (self.first_wanted, self.last_wanted) = (Some(Instant::now()), Some(Instant::now()));
                return Err(error);
            }
            Err(panic) if panic.is_panic() => std::panic::resume_unwind(panic.into_panic()),
            // The runtime is going down.
            Err(_) => {}
        }
        Ok(())
    }
}

/// Makes a model once `prices` has everything up to `wanted` in its rows.
async fn make(
    pool: PgPool,
    settings: Engine,
    engine: Arc<Pool>,
    wanted: Position,
) -> Result<MarketModel, Error> {
    let inputs = loop {
        let inputs = load_inputs(&pool, settings.window, settings.simulation).await?;
        if inputs.cut as i64 >= wanted.0 {
            break inputs;
        }
        tokio::time::sleep(ASK_EVERY).await;
    };
    let started = Instant::now();
    let built = tokio::task::spawn_blocking(move || MarketModel::build(inputs, &engine));
    let model = match built.await {
        Ok(model) => model?,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    };
    tracing::info!(
        cut = model.cut(),
        columns = model.columns().len(),
        excluded = model.excluded().len(),
        took_ms = started.elapsed().as_millis() as u64,
        "market model made"
    );
    Ok(model)
}
