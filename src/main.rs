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
            eprintln!("insight: {}", line(&error));
            ExitCode::FAILURE
        }
    }
}

/// One line: what failed, and why, and why that; a cause that its effect has told already is left out.
fn line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}
