//! `insight generate FOLDER`: the documents that are made from the types and committed.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use crate::api;
use crate::events::{self, Event};

/// Writes `src/api/openapi.json` and `kafka/messages/*.schema.json` below `folder`.
///
/// # Errors
/// A file that cannot be written.
pub fn run(folder: &Path) -> anyhow::Result<ExitCode> {
    write(&folder.join("src/api/openapi.json"), &api::openapi_json())?;
    for (kind, (_, schema)) in Event::KINDS.iter().zip(events::schemas()) {
        write(&folder.join("kafka/messages").join(kind.schema_file()), &schema)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(path, text))
        .with_context(|| format!("cannot write {}", path.display()))
}
