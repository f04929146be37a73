//! One run: start, load, faults, settling, judgement.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::join_all;
use tokio::task::JoinHandle;

use crate::caller::{Caller, Seen};
use crate::contests::{self, Held};
use crate::faults::Hand;
use crate::figures::Figures;
use crate::followers::{self, Followed, Isolation};
use crate::load::{Load, tally};
use crate::owner::{self, Compared};
use crate::plan::{back_up_at, plan};
use crate::system::{self, System};
use crate::{jobs, judge, restore, violation};

/// Between two commands of a client: the machine is to be shared by all processes, and the log not to outgrow the judge.
const PAUSE: Duration = Duration::from_millis(25);
const OWNERS: u64 = 3;

/// Which form of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Roles as processes on PostgreSQL and Kafka.
    Distributed,
    /// One process with a private PostgreSQL.
    Embedded,
}

/// What a run is.
#[derive(Debug, Clone)]
pub struct Run {
    pub name: &'static str,
    pub form: Form,
    pub seed: u64,
    pub length: Duration,
    pub clients: u64,
    pub keep_logs: bool,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.length.as_secs();
        write!(
            f,
            "{}: seed {}, {length} s of faults, {} clients, {:?}",
            self.name, self.seed, self.clients, self.form
        )
    }
}

impl Run {
    /// The same once more.
    pub fn flags(&self) -> String {
        let form = if self.form == Form::Embedded { " --embedded" } else { "" };
        format!("--seed {} --minutes {:.2}{form}", self.seed, self.length.as_secs_f64() / 60.0)
    }

    /// Where logs are kept of a run that has failed.
    pub fn kept_logs(&self) -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{}", self.seed))
    }

    /// Carries it out.
    ///
    /// # Errors
    /// The first statement that did not hold.
    pub async fn carry_out(&self) -> Result<(), String> {
        let mut system = match self.form {
            Form::Distributed => System::distributed().await,
            Form::Embedded => System::embedded().await,
        };
        let judged = AssertUnwindSafe(self.clients_and_faults(&mut system)).catch_unwind().await;
        let violated = violation().or_else(|| judged.is_err().then(|| "the run ended early".to_owned()));
        if violated.is_some() || self.keep_logs {
            system::keep(&system.all_logs(), &self.kept_logs());
        }
        violated.map_or(Ok(()), Err)
    }

    async fn clients_and_faults(&self, system: &mut System) {
        let began = Instant::now();
        let (addresses, straight) = (system.addresses(), system.straight());
        let (seen, stop) = (Arc::<Seen>::default(), Arc::<AtomicBool>::default());
        let (held, compared) = (Arc::<Held>::default(), Arc::<Compared>::default());
        let mut figures = Figures::default();

        let load = Load::start_at(&addresses, self.seed, self.clients, PAUSE, Arc::clone(&seen)).await;
        let mut clients: Vec<JoinHandle<()>> = Vec::new();
        let contest = contests::run(
            addresses.clone(),
            self.seed ^ 1,
            Arc::clone(&seen),
            Arc::clone(&held),
            Arc::clone(&stop),
        );
        clients.push(tokio::spawn(contest));
        for n in 0..OWNERS {
            let seed = self.seed ^ (n + 2) << 40;
            let owner = owner::run(
                addresses.clone(),
                seed,
                Arc::clone(&seen),
                Arc::clone(&compared),
                Arc::clone(&stop),
            );
            clients.push(tokio::spawn(owner));
        }
        let follow =
            |isolation| tokio::spawn(followers::follow(straight.clone(), isolation, Arc::clone(&stop)));
        let followers = [follow(Isolation::ReadCommitted), follow(Isolation::RepeatableRead)];

        let mut caller = Caller::new(&addresses, self.seed ^ 3, Arc::clone(&seen));
        let defined = jobs::define(&mut caller).await;
        let plan = plan(self.seed, self.form == Form::Embedded, self.length);
        let back_up_at = back_up_at(self.seed, self.length);
        Hand::new(system, &mut figures, back_up_at).carry_out(&plan, self.length).await;
        if violation().is_some() {
            return;
        }

        // Everything runs again: what was begun is finished, then there is silence.
        let mut memory = load.finish().await;
        stop.store(true, Ordering::Relaxed);
        join_all(clients).await.into_iter().for_each(|ended| ended.expect("a client that lived"));
        let pool = system.pool().await;
        let retried = judge::retry_given_up(&pool, &mut caller, &mut memory).await;
        let settled = judge::settle(&pool).await;
        jobs::carried_out(&pool).await;
        let removed = jobs::remove(&mut caller, &pool).await;
        for (request, answer) in [defined, removed] {
            memory.take(&request, &answer);
        }
        judge::settle(&pool).await;
        let followed: Vec<Followed> = join_all(followers)
            .await
            .into_iter()
            .map(|followed| followed.expect("a follower that lived"))
            .collect();
        followers::assert_nothing_missed(straight, followed).await;
        let deleted = system.deleted.lock().expect("nobody panicked").clone();
        judge::judge(&pool, system.bus().as_ref(), &deleted, &memory).await;
        let runs = jobs::judge(&pool).await;
        pool.close().await;
        let restored = match self.form {
            Form::Distributed => Some(restore::fail_over(system, self.seed).await),
            Form::Embedded => None,
        };

        let (accepted, refused, _) = tally(&memory);
        figures.count("commands of the mixed load that were acknowledged", accepted);
        figures.count("lost", 0);
        figures.count("doubled", 0);
        figures.count("refused", refused);
        figures.count("given up, and sent again at the end", retried);
        figures
            .count("contests: 20 for one version, 50 for 10 units", held.oversells.load(Ordering::Relaxed));
        figures.count("commands whose outcome was certain", compared.commands.load(Ordering::Relaxed));
        figures.count("reads held against what was acknowledged", compared.reads.load(Ordering::Relaxed));
        figures.count("runs of a scheduled job, each with one end", runs);
        figures.count(
            "reads told that their place is not visible yet",
            compared.not_yet.load(Ordering::Relaxed),
        );
        figures.count("time until everything had caught up", format!("{:.2} s", settled.as_secs_f64()));
        if let Some(took) = restored {
            let what = "from a lost server to work on its standby, rebuilt";
            figures.count(what, format!("{:.1} s", took.as_secs_f64()));
        }
        figures.count("the run as a whole", format!("{:.0} s", began.elapsed().as_secs_f64()));
        figures.print(&seen);
    }
}
