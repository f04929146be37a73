//! A look at the data by a verb that needs no process of its own: beside the processes that run, or without any.
//!
//! In the embedded form the private server may be another process's: then it is visited there, and left running.

use anyhow::Context;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;

use super::process;
use crate::config::Settings;
use crate::postgres::{self, EmbeddedError, EmbeddedPostgres, FolderError};

pub(super) struct Visit {
    pub pool: PgPool,
    pub options: PgConnectOptions,
    embedded: Option<EmbeddedPostgres>,
}

impl Visit {
    /// Opens the database, or the private one, starting it where nobody else has.
    pub(super) async fn open(settings: &Settings) -> anyhow::Result<Self> {
        let (options, embedded) = reach(settings).await?;
        let pool = process::connect(&options, settings).await?;
        Ok(Self { pool, options, embedded })
    }

    /// Ends the visit; a server that was started for it is stopped.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        process::close(&self.pool).await;
        match self.embedded {
            Some(embedded) => embedded.stop().await.context("the private PostgreSQL did not stop"),
            None => Ok(()),
        }
    }
}

/// How to reach the database: as told, or the private one, which is started where nobody else has.
pub(super) async fn reach(
    settings: &Settings,
) -> anyhow::Result<(PgConnectOptions, Option<EmbeddedPostgres>)> {
    if let Some(url) = &settings.storage.database_url {
        return Ok((postgres::options(url)?, None));
    }
    let folder = settings.storage.data_folder();
    match EmbeddedPostgres::start(folder.clone()).await {
        Ok(embedded) => Ok((embedded.options(), Some(embedded))),
        Err(EmbeddedError::Folder(FolderError::InUse { .. })) => {
            Ok((EmbeddedPostgres::options_of_running(&folder), None))
        }
        Err(error) => Err(error.into()),
    }
}
