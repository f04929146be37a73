//! The figures that Portfolio Insight is judged by, measured on this machine: a table for people, then the same as JSON.
//!
//! ```text
//! cargo bench --bench insight                          all rows
//! cargo bench --bench insight -- buys-api reads        some of them
//! cargo bench --bench insight -- --seconds 5 --json    shorter, and JSON alone
//! cargo bench --bench insight -- --list                their names
//! ```
//!
//! Rows drive the real program as child processes, each on a private PostgreSQL in a folder of its own with `fsync` on. Wall-clock
//! figures want a quiet machine; CPU microseconds an event hold on a busy one too.

mod http;
mod load;
mod machine;
mod outcome;
mod processes;
mod rows;
mod world;

use std::time::Duration;

use anyhow::{Context, bail};

use outcome::Outcome;

/// What was asked for on the command line.
struct Arguments {
    rows: Vec<String>,
    seconds: u64,
    json_only: bool,
}

/// What every row is told.
#[derive(Clone, Copy)]
pub struct Settings {
    /// How long a row that takes as long as it likes is measured.
    pub measure_for: Duration,
}

fn main() -> anyhow::Result<()> {
    let Some(arguments) = arguments()? else { return Ok(()) };
    let runtime = tokio::runtime::Runtime::new().context("no runtime")?;
    runtime.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let settings = Settings { measure_for: Duration::from_secs(arguments.seconds) };
    let mut outcomes = Vec::new();
    for row in rows::ALL {
        if !arguments.rows.is_empty() && !arguments.rows.iter().any(|name| name == row.name) {
            continue;
        }
        eprintln!("measuring {} …", row.name);
        // A row that cannot be measured is said and does not cost us the others.
        let measured = (row.measure)(settings).await.map_err(|error| format!("{error:#}"));
        if let Err(error) = &measured {
            eprintln!("  {error}");
        }
        outcomes.push(Outcome { row, measured });
    }
    let conditions = machine::conditions()?;
    if !arguments.json_only {
        println!("{}", outcome::table(&conditions, &outcomes));
    }
    println!("{:#}", outcome::json(&conditions, &outcomes));
    match outcomes.iter().filter(|outcome| outcome.measured.is_err()).count() {
        0 => Ok(()),
        failed => bail!("{failed} of {} rows could not be measured", outcomes.len()),
    }
}

/// `None` when there is nothing to measure.
fn arguments() -> anyhow::Result<Option<Arguments>> {
    let mut arguments = Arguments { rows: Vec::new(), seconds: 10, json_only: false };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            // `cargo test --benches` runs benchmarks too, and must not wait for them.
            "--test" => return Ok(None),
            "--bench" => {}
            "--json" => arguments.json_only = true,
            "--list" => {
                rows::ALL.iter().for_each(|row| println!("{:<20} {}", row.name, row.what));
                return Ok(None);
            }
            "--seconds" => {
                let seconds = given.next().and_then(|text| text.parse().ok());
                arguments.seconds =
                    seconds.filter(|s| *s > 0).context("--seconds takes a positive number")?;
            }
            name if rows::ALL.iter().any(|row| row.name == name) => arguments.rows.push(name.to_owned()),
            other => bail!("no row and no option is called {other}; --list shows the rows"),
        }
    }
    Ok(Some(arguments))
}
