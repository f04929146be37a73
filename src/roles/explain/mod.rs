//! `insight explain`: how PostgreSQL goes about every statement of the read models, with what stands in the tables now.

pub mod plan;
mod statements;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::bail;

use self::plan::{Asking, Explained, explain};
pub use self::statements::{STATEMENTS, Statement};
use super::process::log_format;
use super::visit::Visit;
use crate::config::{self, Settings};

/// Prints the plans of these statements, of a read model's, or of all; fails when one of them reads a large table from end to
/// end without leave.
///
/// # Errors
/// A database that cannot be reached, a name that nothing has, a statement that cannot be planned.
pub async fn run(settings: Settings, options: config::Explain) -> anyhow::Result<ExitCode> {
    crate::telemetry::init_logs(log_format(&settings), "warn")?;
    let wanted = wanted(&options.names)?;
    let visit = Visit::open(&settings).await?;
    let asking = Asking { analyze: options.analyze, large_from: options.large_from };
    let told = tell(&visit.pool, &wanted, asking).await;
    visit.close().await?;
    Ok(if told? == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The statements of these names; a read model's name stands for all of its own.
fn wanted(names: &[String]) -> anyhow::Result<Vec<&'static Statement>> {
    for name in names {
        if !STATEMENTS.iter().any(|statement| statement.is_called(name)) {
            bail!(
                "no statement is called {name}: they are called like their files, such as directory/find_asset"
            );
        }
    }
    let is_wanted =
        |statement: &&Statement| names.is_empty() || names.iter().any(|name| statement.is_called(name));
    Ok(STATEMENTS.iter().filter(is_wanted).collect())
}

/// Prints each plan; how many scans there are that should not be.
async fn tell(pool: &sqlx::PgPool, wanted: &[&Statement], asking: Asking) -> anyhow::Result<usize> {
    let mut out = std::io::stdout().lock();
    let (red, plain) = if out.is_terminal() { ("\u{1b}[31m", "\u{1b}[0m") } else { ("", "") };
    let (mut plans, mut scans) = (0, 0);
    for statement in wanted {
        for explained in explain(pool, statement, asking).await? {
            let Explained { case, plan, scans: found } = &explained;
            writeln!(
                out,
                "── {}{}",
                statement.name,
                if case.is_empty() { String::new() } else { format!(": {case}") }
            )?;
            writeln!(out, "{plan}")?;
            for scan in found {
                let (table, rows) = (&scan.table, scan.rows);
                match scan.leave {
                    Some(reason) => writeln!(out, "reads all {rows} rows of {table}: {reason}")?,
                    None => writeln!(out, "{red}reads all {rows} rows of {table} in sequence{plain}")?,
                }
            }
            writeln!(out)?;
            plans += 1;
            scans += explained.offences().count();
        }
    }
    let mark = if scans == 0 { "" } else { red };
    writeln!(
        out,
        "{mark}{plans} plans of {} statements, {scans} scans of large tables that should not be{plain}",
        wanted.len()
    )?;
    Ok(scans)
}
