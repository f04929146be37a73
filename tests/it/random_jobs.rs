//! Jobs drawn from a seed: defined, changed, removed and defined again, due, skipped, tried again, cancelled. Many commands
//! are refused, as they should be: what is drawn knows only what it asked for.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use insight::clock::Clock;
use insight::commands::{Command, Commands, Refusal};
use insight::domain::ids::{JobId, RunId};
use insight::domain::job::calendar::first_due_after;
use insight::domain::job::{
    FailRun, FinishRun, JobCommand, JobKind, JobSettings, Overlap, Schedule, ScheduleRun,
};
use insight::domain::rejection::Rejection;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::ledger::request;

const NAMES: [&str; 4] = ["nightly", "often", "prices.eu", "backup_2"];

/// Draws commands and sends them.
pub struct RandomJobs {
    random: StdRng,
    due: BTreeMap<JobId, DateTime<Utc>>,
    /// Runs that may be open, with the attempt that may be on.
    runs: Vec<(JobId, RunId, u32)>,
}

impl RandomJobs {
    pub fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), due: BTreeMap::new(), runs: Vec::new() }
    }

    /// Sends one more command.
    pub async fn go_on(&mut self, commands: &Commands) {
        let name = NAMES[self.below(NAMES.len())];
        let job_id = JobId::named(name);
        let command = match self.below(100) {
            0..=9 => JobCommand::Define { name: name.to_owned(), settings: self.settings() },
            10..=14 => JobCommand::Change { settings: self.settings() },
            15 => JobCommand::Remove,
            16..=49 => self.next_due(job_id),
            50..=57 => {
                let run_id = self.id();
                self.runs.push((job_id, run_id, 1));
                JobCommand::RunNow { run_id }
            }
            58 => JobCommand::CancelOpen,
            _ => return self.end_a_run(commands).await,
        };
        self.send(commands, job_id, command).await;
    }

    async fn end_a_run(&mut self, commands: &Commands) {
        let Some(drawn) = self.runs.len().checked_sub(1 + self.below(5)) else { return };
        let (job_id, run_id, attempt) = self.runs[drawn];
        let started_at = Clock::System.now() - TimeDelta::seconds(2);
        let command = match self.below(10) {
            0..=3 => {
                let result = "12 prices, 3 unchanged".to_owned();
                JobCommand::FinishRun(FinishRun { run_id, attempt, started_at, result })
            }
            4..=7 => {
                self.runs[drawn].2 += 1;
                let reason = "nobody answered".to_owned();
                JobCommand::FailRun(FailRun { run_id, attempt, started_at, reason })
            }
            8 => JobCommand::CancelRun { run_id },
            _ => {
                let new_run_id = self.id();
                self.runs.push((job_id, new_run_id, 1));
                JobCommand::RetryRun { run_id, new_run_id }
            }
        };
        self.send(commands, job_id, command).await;
    }

    /// The due time after the one that was drawn last, or after one or two that nobody asked for. Those that are a little ahead
    /// are taken as well.
    fn next_due(&mut self, job_id: JobId) -> JobCommand {
        let now = Clock::System.now();
        let missed = TimeDelta::seconds(self.below(3) as i64);
        let after = self.due.get(&job_id).copied().unwrap_or(now) + missed;
        let due_at = first_due_after(&Schedule::Interval { seconds: 1 }, after).unwrap();
        self.due.insert(job_id, due_at.min(now + TimeDelta::minutes(4)));
        self.runs.push((job_id, job_id.run_due(due_at), 1));
        JobCommand::ScheduleRun(ScheduleRun { due_at })
    }

    fn settings(&mut self) -> JobSettings {
        let schedule = match self.below(4) {
            0 => Schedule::Crontab {
                expression: "30 2 * * mon-fri".to_owned(),
                time_zone: "Europe/Berlin".to_owned(),
            },
            _ => Schedule::Interval { seconds: 1 },
        };
        let fetches = self.below(2) == 0;
        JobSettings {
            kind: if fetches { JobKind::FetchQuotes } else { JobKind::Verify },
            schedule,
            soft_limit_seconds: 50,
            time_limit_seconds: 60 + u32::try_from(self.below(3)).unwrap(),
            attempts_max: 1 + u32::try_from(self.below(3)).unwrap(),
            retry_pause_seconds: 1,
            overlap: if self.below(3) == 0 { Overlap::Skip } else { Overlap::Allow },
            symbols: if fetches { vec!["ALPHA".to_owned(), "^GSPC".to_owned()] } else { Vec::new() },
            source: (fetches && self.below(2) == 0).then(|| "exchange".to_owned()),
        }
    }

    async fn send(&mut self, commands: &Commands, job_id: JobId, command: JobCommand) {
        match commands.execute(request(Command::Job { job_id, command: command.clone() })).await {
            Ok(_) => {}
            Err(Refusal::Rejected(
                Rejection::NotFound { .. }
                | Rejection::NameTaken { .. }
                | Rejection::RunOpen { .. }
                | Rejection::RunNotOpen { .. }
                | Rejection::RunNotFailed { .. },
            )) => {}
            Err(other) => panic!("{command:?}: {other}"),
        }
    }

    fn id(&mut self) -> RunId {
        RunId(uuid::Builder::from_random_bytes(self.random.random()).into_uuid())
    }

    fn below(&mut self, n: usize) -> usize {
        self.random.random_range(0..n)
    }
}
