//! `insight verify`: the log against its promises, the rows against a reference ledger.

use std::process::ExitCode;

use super::process::{database, log_format, prepare};
use crate::config::Settings;
use crate::verify;

/// Prints what differs; the exit code tells whether anything does.
///
/// # Errors
/// A database that cannot be reached or read.
pub async fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    crate::telemetry::init_logs(log_format(&settings), "warn")?;
    let (options, embedded) = database(&settings).await?;
    let pool = prepare(&options, &settings).await?;
    let verified = verify::verify(&pool).await;
    pool.close().await;
    if let Some(embedded) = embedded {
        embedded.stop().await?;
    }
    let report = verified?;
    println!("{report}");
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
