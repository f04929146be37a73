//! What a person sees while the demo plays: a bar for the step at hand, and a line for each that is done. All on standard error.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Where progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// A moving bar.
    Bar,
    /// A line when a step is done: for logs and pipes.
    Lines,
    /// Nothing.
    Hidden,
}

impl Progress {
    /// A bar if standard error is a terminal, else lines.
    pub fn stderr() -> Self {
        if std::io::stderr().is_terminal() { Self::Bar } else { Self::Lines }
    }

    /// Begins a step of so many things.
    pub(super) fn begin(self, what: &'static str, total: usize) -> Running {
        let bar = ProgressBar::new(total as u64).with_message(what);
        bar.set_draw_target(match self {
            Self::Bar => ProgressDrawTarget::stderr(),
            Self::Lines | Self::Hidden => ProgressDrawTarget::hidden(),
        });
        bar.set_style(
            ProgressStyle::with_template(
                "  {msg:<28} {wide_bar:.cyan/dim} {human_pos:>9} of {human_len}  {elapsed}",
            )
            .expect("the template is constant, and a test uses it")
            .progress_chars("━╸─"),
        );
        bar.enable_steady_tick(Duration::from_millis(100));
        Running { bar, what, progress: self, since: Instant::now() }
    }
}

/// A step that goes on.
pub(super) struct Running {
    bar: ProgressBar,
    what: &'static str,
    progress: Progress,
    since: Instant,
}

impl Running {
    /// So many more are done.
    pub fn advance(&self, by: usize) {
        self.bar.inc(by as u64);
    }

    /// Ends the step; its place on the screen is taken by one line.
    pub fn end(self) -> super::report::Step {
        let count = self.bar.position();
        let step = super::report::Step::new(self.what, count, self.since.elapsed());
        self.bar.finish_and_clear();
        if self.progress != Progress::Hidden {
            eprintln!("  {:<28} {:>9} in {:>6.2} s", self.what, HumanCount(count).to_string(), step.seconds);
        }
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_counts_what_was_done() {
        let running = Progress::Hidden.begin("closes", 10);
        running.advance(4);
        running.advance(6);
        let step = running.end();
        assert_eq!((step.what, step.count), ("closes", 10));
    }
}
