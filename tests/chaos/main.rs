//! The program that kills: the system as processes on servers of its own, under load from many clients, while roles and
//! servers are killed, frozen, stopped and cut off at random; then the judgement.
//!
//! | file | what |
//! | --- | --- |
//! | `plan` | what is done when: a function of the seed |
//! | `system`, `faults`, `operator` | servers and roles, and what is done to them |
//! | `load`, `contests`, `owner`, `followers`, `jobs` | clients, each of which knows what it must be told |
//! | `restore` | at the end, the server is killed, and a backup from the middle of the run takes over |
//! | `judge` | the log, the topic, the read models, and all promises, held against each other |
//! | `figures` | the table |
//!
//! Run by `cargo test` without arguments, it is three runs: of a fixed seed, of a random one, and of the embedded form.
//! `just chaos --minutes 30` is one long run. The first statement that does not hold ends it, with its seed and its logs.

#![allow(clippy::disallowed_methods, reason = "a test is where time comes from")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails, also in a function that tests share")]

#[allow(dead_code, reason = "shared with the integration tests, which use other parts of it")]
#[path = "../it/caller.rs"]
mod caller;
mod contests;
mod faults;
mod figures;
mod followers;
mod jobs;
mod judge;
#[allow(dead_code, reason = "shared with the integration tests, which use other parts of it")]
#[path = "../it/line.rs"]
mod line;
#[allow(dead_code, reason = "shared with the integration tests, which use other parts of it")]
#[path = "../it/load.rs"]
mod load;
mod operator;
#[allow(dead_code, reason = "shared with the integration tests, which use other parts of it")]
#[path = "../it/own_servers.rs"]
mod own_servers;
mod owner;
mod plan;
#[allow(dead_code, reason = "shared with the integration tests, which use other parts of it")]
#[path = "../it/processes.rs"]
mod processes;
#[allow(dead_code, reason = "shared with the integration tests, which use other parts of it")]
#[path = "../it/read_models.rs"]
mod read_models;
mod restore;
mod run;
mod system;

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use clap::Parser;

use crate::run::{Form, Run};

/// The seed that every run of the tests has in common.
const FIXED_SEED: u64 = 20_240_229;
const TEST_LENGTH: Duration = Duration::from_secs(60);
const EMBEDDED_LENGTH: Duration = Duration::from_secs(15);

/// Kills the system at random under load, and judges what is left. Without flags: the runs of the test suite.
#[derive(Debug, Parser)]
#[command(name = "insight-chaos")]
struct Arguments {
    /// How long faults are made
    #[arg(long, value_name = "N")]
    minutes: Option<f64>,
    /// What the faults and the load are a function of; drawn if not told
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// One process with a private PostgreSQL, instead of the roles on PostgreSQL and Kafka
    #[arg(long)]
    embedded: bool,
    /// Clients of the mixed load
    #[arg(long, value_name = "N", default_value_t = 8)]
    clients: u64,
    /// Keep the logs of all processes, also when all is well
    #[arg(long)]
    keep_logs: bool,
    /// Only runs of the test suite whose name contains one of these
    names: Vec<String>,
    /// Taken for the sake of `cargo test`, which gives its flags to every target; nothing is ever captured here
    #[arg(long, hide = true)]
    nocapture: bool,
    /// The same: runs come one after the other
    #[arg(long, hide = true)]
    test_threads: Option<usize>,
}

/// The first statement that did not hold.
static VIOLATION: Mutex<Option<String>> = Mutex::new(None);

/// What was violated, if anything was: a run that has failed need not go on.
fn violation() -> Option<String> {
    VIOLATION.lock().ok().and_then(|violation| violation.clone())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Every check is an assertion, in whatever task it stands: the first one that fails ends the run.
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if let Ok(mut violation) = VIOLATION.lock() {
            violation.get_or_insert_with(|| panic.to_string());
        }
        loud(panic);
    }));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for run in runs(&arguments) {
        println!("{run}");
        if let Err(violation) = runtime.block_on(run.carry_out()) {
            println!("\nVIOLATED  {violation}");
            println!("again: just chaos {}", run.flags());
            println!("logs:  {}", run.kept_logs().display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// One run, as the flags say; or those of the test suite.
fn runs(arguments: &Arguments) -> Vec<Run> {
    let Arguments { minutes, seed, embedded, clients, keep_logs, ref names, .. } = *arguments;
    let form = if embedded { Form::Embedded } else { Form::Distributed };
    let drawn = seed.unwrap_or_else(rand::random);
    if minutes.is_some() || seed.is_some() || embedded {
        let length = Duration::from_secs_f64(60.0 * minutes.unwrap_or(1.0));
        return vec![Run { name: "as told", form, seed: drawn, length, clients, keep_logs }];
    }
    let run = |name, form, seed, length| Run { name, form, seed, length, clients, keep_logs };
    let mut runs = vec![
        run("the embedded form keeps every promise", Form::Embedded, drawn, EMBEDDED_LENGTH),
        run("a fixed seed keeps every promise", Form::Distributed, FIXED_SEED, TEST_LENGTH),
        run("a random seed keeps every promise", Form::Distributed, drawn, TEST_LENGTH),
    ];
    runs.retain(|run| names.is_empty() || names.iter().any(|name| run.name.contains(name.as_str())));
    runs
}
