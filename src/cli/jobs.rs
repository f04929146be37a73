//! The subcommands of `insight jobs`.

use clap::{Args, Subcommand};
use uuid::Uuid;

use crate::roles::jobs::{Told, Verb};

/// Rows of a list.
fn limit() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=500)
}

#[derive(Debug, Subcommand)]
pub(super) enum Jobs {
    /// Prints every job with when it is due next and how its last run went
    List,
    /// Prints all about one job
    Show {
        /// Id or name
        job: String,
    },
    /// Defines a job, due from now on
    Define {
        /// Its name: 1 to 64 small letters, digits or any of . _ -
        name: String,
        #[command(flatten)]
        settings: Flags,
    },
    /// Changes settings; those that are not told stay
    Change {
        /// Id or name
        job: String,
        #[command(flatten)]
        settings: Flags,
    },
    /// Removes a job and cancels its open runs
    Remove {
        /// Id or name
        job: String,
    },
    /// Asks for a run now
    Run {
        /// Id or name
        job: String,
    },
    /// Cancels a run, or every open run of a job
    Cancel {
        /// Id or name
        job: String,
        /// The run [default: every one that is open]
        run: Option<Uuid>,
    },
    /// Tries a run again that failed for good
    Retry {
        /// Id or name
        job: String,
        /// The run, as insight jobs failed prints it
        run: Uuid,
    },
    /// Prints runs of a job, the latest first
    Runs {
        /// Id or name
        job: String,
        /// In this state only
        #[arg(long, value_parser = ["scheduled", "running", "retrying", "finished", "failed", "cancelled", "skipped"])]
        state: Option<String>,
        /// So many at most
        #[arg(long, default_value_t = 20, value_name = "N", value_parser = limit())]
        limit: u32,
    },
    /// Prints runs that failed for good and were not tried again; the exit code tells whether there are any
    Failed {
        /// So many at most
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = limit())]
        limit: u32,
    },
}

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// What it does
    #[arg(long, value_parser = ["fetch-quotes", "fetch-history", "fetch-rates", "recompute-risk", "verify", "backup"])]
    kind: Option<String>,
    /// When it is due: minute, hour, day of month, month, day of week, as of crontab(5)
    #[arg(long, value_name = "FIELDS", conflicts_with = "every")]
    crontab: Option<String>,
    /// IANA time zone of the crontab [default: UTC]
    #[arg(long, value_name = "ZONE", conflicts_with = "every")]
    time_zone: Option<String>,
    /// When it is due: every so many seconds
    #[arg(long, value_name = "SECONDS")]
    every: Option<u32>,
    /// An attempt is asked to end after so many seconds [default: nine tenths of the time limit]
    #[arg(long, value_name = "SECONDS")]
    soft_limit: Option<u32>,
    /// An attempt has failed after so many seconds [default: 3600]
    #[arg(long, value_name = "SECONDS")]
    time_limit: Option<u32>,
    /// Attempts at one run [default: 3]
    #[arg(long, value_name = "N")]
    attempts: Option<u32>,
    /// Seconds before the second attempt, doubled for each further one [default: 60]
    #[arg(long, value_name = "SECONDS")]
    retry_pause: Option<u32>,
    /// At a due time while an earlier run is open: pass over it, or run beside it [default: skip]
    #[arg(long, value_parser = ["skip", "allow"])]
    overlap: Option<String>,
    /// What to fetch, with commas between [default: all that somebody holds]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    symbols: Option<Vec<String>>,
    /// Where to fetch it [default: the source of each asset]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

impl From<Flags> for Told {
    fn from(flags: Flags) -> Self {
        Self {
            kind: flags.kind,
            crontab: flags.crontab,
            time_zone: flags.time_zone,
            every: flags.every,
            soft_limit: flags.soft_limit,
            time_limit: flags.time_limit,
            attempts: flags.attempts,
            retry_pause: flags.retry_pause,
            overlap: flags.overlap,
            symbols: flags.symbols,
            source: flags.source,
        }
    }
}

impl From<Jobs> for Verb {
    fn from(jobs: Jobs) -> Self {
        match jobs {
            Jobs::List => Self::List,
            Jobs::Show { job } => Self::Show { job },
            Jobs::Define { name, settings } => Self::Define { name, told: settings.into() },
            Jobs::Change { job, settings } => Self::Change { job, told: settings.into() },
            Jobs::Remove { job } => Self::Remove { job },
            Jobs::Run { job } => Self::Run { job },
            Jobs::Cancel { job, run } => Self::Cancel { job, run },
            Jobs::Retry { job, run } => Self::Retry { job, run },
            Jobs::Runs { job, state, limit } => Self::Runs { job, state, limit },
            Jobs::Failed { limit } => Self::Failed { limit },
        }
    }
}
