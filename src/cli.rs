//! The command line: one subcommand a role or verb.

mod jobs;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Settings};
use crate::roles::fetch::What;
use crate::roles::{self, Role};

/// Portfolio Insight: an event-sourced ledger for investment portfolios, with live valuations and risk
#[derive(Debug, Parser)]
#[command(name = "insight", version, disable_help_subcommand = true, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Everything in one process: with a private PostgreSQL in the data folder unless DATABASE_URL is set
    All,
    /// HTTP: commands in, answers out
    Api,
    /// Copies the log to Kafka; one is active, others wait
    Relay,
    /// Turns events into the rows of read models: directory, holdings, prices, valuations, activity
    Project {
        /// Names of read models
        #[arg(required = true, value_name = "NAME", value_parser = roles::projector_names())]
        names: Vec<String>,
    },
    /// Recomputes the risk of a portfolio when something relevant happens
    Risk,
    /// Turns due times of jobs into runs; one acts, others wait
    Schedule,
    /// Carries out the runs of jobs; processes share them
    Work,
    /// Makes read models anew from the log, beside the ones that are read, and puts them in their place
    Rebuild(Rebuild),
    /// Compares the log with its promises and every read model with a reference ledger
    Verify(config::Verify),
    /// Seals the log as far as whole blocks of 4,096 events go, and prints the seals to keep elsewhere
    Seal {
        /// Print every stored seal, not only the newest
        #[arg(long)]
        all: bool,
    },
    /// Streams that hold an event which could not be applied
    Parked {
        /// What to do
        #[command(subcommand)]
        what: Parked,
    },
    /// Scheduled work: shows, defines and changes jobs, and runs, cancels and retries them
    Jobs {
        /// What to do
        #[command(subcommand)]
        what: jobs::Jobs,
    },
    /// Says how the installation is doing; the exit code tells whether something is stuck
    Status {
        /// One JSON document, as GET /v1/status answers it
        #[arg(long)]
        json: bool,
    },
    /// Says how PostgreSQL goes about every statement of the read models, and whether one reads a large table whole
    Explain(config::Explain),
    /// Prints events of the log, a line of JSON each, for other programs
    Replay(config::Replay),
    /// Moves a whole log between installations as a file
    Log {
        /// What to do
        #[command(subcommand)]
        what: Log,
    },
    /// Creates the topics of kafka/topics.toml, or compares them
    Topics {
        /// What to do
        #[command(subcommand)]
        what: Topics,
    },
    /// Numbers the histories of the log: shows them, or begins the next one after a restore
    Epoch {
        /// What to do
        #[command(subcommand)]
        what: Epoch,
    },
    /// Fetches prices: once with a verb; without one, quotes of what somebody holds and rates, every FETCH_EVERY seconds, and closes once a day
    Fetch {
        /// What to fetch, once
        #[command(subcommand)]
        what: Option<Fetch>,
    },
    /// Plays a believable history on real prices through the HTTP API, and shows what came of it
    #[command(args_conflicts_with_subcommands = true)]
    Demo {
        /// What else there is to play
        #[command(subcommand)]
        what: Option<OtherDemo>,
        #[command(flatten)]
        options: config::Demo,
    },
    /// Asks the API at LISTEN_ADDRESS whether it is ready; the exit code tells
    Healthcheck,
    /// Writes the generated documents (openapi.json, kafka/messages) below a folder
    #[command(hide = true)]
    Generate {
        /// The folder
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Rebuild {
    /// Names of read models
    #[arg(value_name = "NAME", value_parser = roles::read_model_names(), required_unless_present = "all")]
    names: Vec<String>,
    /// Every read model, in the order in which they are made from each other
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// At most so many events a second, so that others have the database too
    #[arg(long, value_name = "EVENTS_PER_SECOND", value_parser = clap::value_parser!(u32).range(1..))]
    throttle: Option<u32>,
    /// Puts what the last rebuild replaced back in its place, caught up first
    #[arg(long, conflicts_with = "drop_old")]
    rollback: bool,
    /// Drops what rebuilds have replaced, and what older versions of the program served
    #[arg(long)]
    drop_old: bool,
    /// With --drop-old: also what an older program seems to serve still
    #[arg(long, requires = "drop_old")]
    force: bool,
}

impl From<Rebuild> for roles::rebuild::Wanted {
    fn from(told: Rebuild) -> Self {
        use roles::rebuild::{Dropping, Verb};
        let dropping = if told.force { Dropping::Everything } else { Dropping::Unserved };
        let verb = match (told.rollback, told.drop_old) {
            (true, _) => Verb::RollBack,
            (_, true) => Verb::DropOld(dropping),
            _ => Verb::Rebuild,
        };
        Self { names: told.names, throttle: told.throttle, verb }
    }
}

#[derive(Debug, Subcommand)]
enum Parked {
    /// Prints them, with the reason
    List {
        /// Of this read model only
        #[arg(value_name = "READ_MODEL", value_parser = roles::read_model_names())]
        read_model: Option<String>,
    },
    /// Applies the events after all, with this version of the program, beside whatever runs
    Retry {
        /// The read model
        #[arg(value_name = "READ_MODEL", value_parser = roles::read_model_names())]
        read_model: String,
        /// The stream [default: every one that is parked]
        stream: Option<String>,
    },
    /// Does without the bad event and goes on after it; a rebuild parks the stream again
    Skip {
        /// The read model
        #[arg(value_name = "READ_MODEL", value_parser = roles::read_model_names())]
        read_model: String,
        /// The stream
        stream: String,
        /// Why; it is kept
        #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
enum Log {
    /// Writes the log to a file
    Export {
        /// The file, compressed if its name ends in .gz; - for standard output
        file: PathBuf,
        /// Names and e-mails of investors as well, which are not in the log
        #[arg(long)]
        with_personal_data: bool,
    },
    /// Takes a file that export wrote into an empty log: all of it or nothing
    Import {
        /// The file; - for standard input
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum OtherDemo {
    /// Many clients buy and sell one holding at once, on a server that runs; the sum must be exact
    Race(config::Race),
    /// Investors, assets with closes, and portfolios to try things on, on a server that runs; safe to repeat
    Seed(config::Seed),
}

#[derive(Debug, Subcommand)]
enum Fetch {
    /// The latest price of each asset
    Quotes(config::Fetch),
    /// Closes by day
    History(config::Fetch),
    /// Closes of exchange rates by day
    Rates(config::Fetch),
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Topics {
    /// Creates what is missing; refuses a topic whose partitions differ
    Apply,
    /// Shows each topic beside what it should be
    Show,
}

#[derive(Debug, Clone, Subcommand)]
enum Epoch {
    /// Shows every epoch, with its positions and its reason
    Show,
    /// Begins the next epoch behind the head: to be run once after every restore, before the roles start again
    New {
        /// Why, for those who look later
        #[arg(long, default_value = "restored to an earlier moment", value_name = "TEXT")]
        reason: String,
        /// A number that the new one must exceed; without it, with KAFKA_BROKERS set, the topics are asked
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..1_000_000_000))]
        above: Option<i32>,
    },
}

impl Cli {
    /// Reads the command line and the environment; prints help or what is wrong and ends the process where that is
    /// all there is to do.
    pub fn read() -> Self {
        Self::parse()
    }

    /// Runs the verb until it is done or the process is asked to end.
    ///
    /// # Errors
    /// The one reason why it could not; `main` prints it in one line.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.settings;
        match self.verb {
            Verb::All => roles::run(settings, roles::all).await,
            Verb::Api => roles::run(settings, |_| vec![Role::Api]).await,
            Verb::Relay => roles::run(settings, |_| vec![Role::Relay]).await,
            Verb::Project { names } => {
                roles::run(settings, |_| names.into_iter().map(Role::Project).collect()).await
            }
            Verb::Risk => roles::run(settings, |_| vec![Role::Project("risk".into())]).await,
            Verb::Schedule => roles::run(settings, |_| vec![Role::Schedule]).await,
            Verb::Work => roles::run(settings, |_| vec![Role::Work]).await,
            Verb::Rebuild(told) => roles::rebuild::run(settings, told.into()).await,
            Verb::Verify(options) => roles::verify::run(settings, options).await,
            Verb::Seal { all } => roles::seal::run(settings, all).await,
            Verb::Parked { what: Parked::List { read_model } } => {
                roles::parked::list(settings, read_model).await
            }
            Verb::Parked { what: Parked::Retry { read_model, stream } } => {
                roles::parked::retry(settings, &read_model, stream.as_deref()).await
            }
            Verb::Parked { what: Parked::Skip { read_model, stream, reason } } => {
                roles::parked::skip(settings, &read_model, &stream, &reason).await
            }
            Verb::Jobs { what } => roles::jobs::run(settings, what.into()).await,
            Verb::Status { json } => roles::status::run(settings, json).await,
            Verb::Explain(options) => roles::explain::run(settings, options).await,
            Verb::Replay(wanted) => roles::replay::run(settings, wanted).await,
            Verb::Log { what: Log::Export { file, with_personal_data } } => {
                roles::log_transfer::export(settings, &file, with_personal_data).await
            }
            Verb::Log { what: Log::Import { file } } => roles::log_transfer::import(settings, &file).await,
            Verb::Topics { what: Topics::Apply } => roles::topics::apply(&settings).await,
            Verb::Topics { what: Topics::Show } => roles::topics::show(&settings).await,
            Verb::Epoch { what: Epoch::Show } => roles::epoch::show(settings).await,
            Verb::Epoch { what: Epoch::New { reason, above } } => {
                roles::epoch::new(settings, &reason, above).await
            }
            Verb::Fetch { what: None } => roles::fetch::follow(settings).await,
            Verb::Fetch { what: Some(Fetch::Quotes(told)) } => {
                roles::fetch::once(settings, What::Quotes, told).await
            }
            Verb::Fetch { what: Some(Fetch::History(told)) } => {
                roles::fetch::once(settings, What::History, told).await
            }
            Verb::Fetch { what: Some(Fetch::Rates(told)) } => {
                roles::fetch::once(settings, What::Rates, told).await
            }
            Verb::Demo { what: None, options } => roles::demo::run(settings, options).await,
            Verb::Demo { what: Some(OtherDemo::Race(options)), .. } => {
                roles::play::race(settings, options).await
            }
            Verb::Demo { what: Some(OtherDemo::Seed(options)), .. } => {
                roles::play::seed(settings, options).await
            }
            Verb::Healthcheck => roles::healthcheck::run(&settings).await,
            Verb::Generate { folder } => roles::generate::run(&folder),
        }
    }
}
