//! `insight log export|import`: a whole log as a file, from one installation to another.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use sqlx::PgPool;
use tokio::time::Instant;

use super::process::log_format;
use super::visit::Visit;
use crate::config::Settings;
use crate::event_store::transfer::{self, Exported, Imported, Progress};

const BUFFER: usize = 1 << 18;

/// Writes the log to a file, or to standard output where the file is `-`.
///
/// # Errors
/// A file that is there already or cannot be written; a database that cannot be read.
pub async fn export(settings: Settings, file: &Path, with_persons: bool) -> anyhow::Result<ExitCode> {
    crate::telemetry::init_logs(log_format(&settings), "warn")?;
    let target = Target::open(file)?;
    let visit = Visit::open(&settings).await?;
    let started = Instant::now();
    let exported = export_to(&visit.pool, target, with_persons).await;
    visit.close().await?;
    let Exported { events, persons } = exported?;
    eprintln!("exported {}", rate(events, started));
    if with_persons {
        eprintln!("with personal data: name and e-mail of {persons} investors");
    } else {
        eprintln!(
            "without personal data: names and e-mails stay here; --with-personal-data takes them along"
        );
    }
    Ok(ExitCode::SUCCESS)
}

async fn export_to(pool: &PgPool, mut target: Target, with_persons: bool) -> anyhow::Result<Exported> {
    let mut shown = Shown::default();
    let out = target.out.as_mut().context("it is open until it is finished")?;
    let exported = transfer::export(pool, with_persons, &mut **out, |it| shown.show(&it)).await?;
    target.finish()?;
    Ok(exported)
}

/// Takes a file, or standard input where it is `-`, into the log, which must be empty.
///
/// # Errors
/// A file that is not as it was written, a log that is not empty, a database that cannot be written.
pub async fn import(settings: Settings, file: &Path) -> anyhow::Result<ExitCode> {
    crate::telemetry::init_logs(log_format(&settings), "warn")?;
    let mut source = source(file)?;
    let visit = Visit::open(&settings).await?;
    let started = Instant::now();
    let mut shown = Shown::default();
    let imported = transfer::import(&visit.pool, &mut *source, |it| shown.show(&it)).await;
    visit.close().await?;
    let Imported { events, persons, with_persons } = imported?;
    eprintln!("imported {}", rate(events, started));
    if with_persons {
        eprintln!("with personal data: name and e-mail of {persons} investors");
    } else {
        eprintln!("without personal data: the file holds no names and e-mails");
    }
    eprintln!("the read models follow as their projectors run; `insight verify` compares all of it");
    Ok(ExitCode::SUCCESS)
}

fn rate(events: i64, started: Instant) -> String {
    let seconds = started.elapsed().as_secs_f64();
    format!("{events} events in {seconds:.1} s, {:.0}/s", events as f64 / seconds.max(1e-9))
}

/// Says how far it is, once a second.
struct Shown(Instant);

impl Default for Shown {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Shown {
    fn show(&mut self, progress: &Progress) {
        if self.0.elapsed().as_secs() >= 1 {
            self.0 = Instant::now();
            eprintln!("{} of {} events", progress.position, progress.head);
        }
    }
}

/// Where an export goes: under a name of its own until it is whole.
struct Target {
    out: Option<Box<dyn Finish + Send>>,
    /// The unfinished file and what it will be called.
    names: Option<(PathBuf, PathBuf)>,
}

/// A writer that has an end.
trait Finish: Write {
    fn finish(self: Box<Self>) -> io::Result<()>;
}

impl Finish for BufWriter<io::Stdout> {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.flush()
    }
}

impl Finish for BufWriter<File> {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.flush()?;
        self.get_ref().sync_all()
    }
}

impl Finish for GzEncoder<BufWriter<File>> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        Box::new(GzEncoder::finish(*self)?).finish()
    }
}

impl Target {
    fn open(file: &Path) -> anyhow::Result<Self> {
        if file.as_os_str() == "-" {
            return Ok(Self { out: Some(Box::new(BufWriter::with_capacity(BUFFER, stdout()))), names: None });
        }
        if file.exists() {
            bail!("{} is there already: choose another name", file.display());
        }
        let mut unfinished = file.as_os_str().to_owned();
        unfinished.push(".unfinished");
        let unfinished = PathBuf::from(unfinished);
        let opened =
            File::create(&unfinished).with_context(|| format!("cannot write {}", unfinished.display()))?;
        let plain = BufWriter::with_capacity(BUFFER, opened);
        let out: Box<dyn Finish + Send> = if is_gzip(file) {
            Box::new(GzEncoder::new(plain, Compression::fast()))
        } else {
            Box::new(plain)
        };
        Ok(Self { out: Some(out), names: Some((unfinished, file.to_owned())) })
    }

    fn finish(mut self) -> anyhow::Result<()> {
        if let Some(out) = self.out.take() {
            out.finish().context("cannot write")?;
        }
        if let Some((unfinished, file)) = self.names.take() {
            fs::rename(&unfinished, &file).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(())
    }
}

impl Drop for Target {
    /// What is not whole is of no use.
    fn drop(&mut self) {
        if let Some((unfinished, _)) = &self.names {
            let _ = fs::remove_file(unfinished);
        }
    }
}

fn source(file: &Path) -> anyhow::Result<Box<dyn io::BufRead + Send>> {
    if file.as_os_str() == "-" {
        return Ok(Box::new(BufReader::with_capacity(BUFFER, stdin())));
    }
    let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(if is_gzip(file) {
        Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(BufReader::new(opened))))
    } else {
        Box::new(BufReader::with_capacity(BUFFER, opened))
    })
}

fn is_gzip(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "gz")
}
