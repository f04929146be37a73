//! Parse, build the runtime, run the role, set the exit code.

use std::process::ExitCode;

use insight::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::read();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let ended = runtime.block_on(cli.run());
        // Blocking threads that wait for a broker or a disk must not hold up the end.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(code) => code,
        Err(error) => {
            // One line: what failed, and why, and why that.
            eprintln!("insight: {error:#}");
            ExitCode::FAILURE
        }
    }
}
