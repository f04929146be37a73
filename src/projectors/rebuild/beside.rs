//! The schema beside the live one, and what the last run left of it.

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgConnection};

use super::steps::{self, Found, Unfit};
use super::{Hear, News};
use crate::event_store::{Place, PlaceCheck, check_place, read};
use crate::projectors::Error;
use crate::projectors::checkpoint::{self, Checkpoint};
use crate::projectors::schema::{self, Schema};

/// Connections: for each worker that loads one, and some for what goes on beside.
const CONNECTIONS_MAX: u32 = 8;

/// What has been loaded and what is still to be done, beside the tables. Gone once the tables are whole.
const PROGRESS_TABLES: &str = "
    create table rebuild_sums (table_name text not null, columns text not null, rows bigint not null, checksum bigint not null);
    create table rebuild_deferred (table_name text not null, statement text not null, undone text not null);
";

/// The keys and indexes of a schema's tables, as statements that make them again, and that undo them; keys first.
const KEYS_AND_INDEXES: &str = "
    select table_name::text, statement, undone from (
    select c.relname as table_name,
        format('alter table %I.%I add constraint %I %s', n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid)) as statement,
        format('alter table %I.%I drop constraint %I', n.nspname, c.relname, k.conname) as undone, 1 as place
    from pg_constraint k
    join pg_class c on c.oid = k.conrelid
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = $1 and k.contype in ('p', 'u') and c.relname not in ('checkpoints', 'parked_streams')
    union all
    select c.relname, pg_get_indexdef(i.indexrelid), format('drop index %s', i.indexrelid::regclass), 2
    from pg_index i
    join pg_class c on c.oid = i.indrelid
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = $1 and c.relname not in ('checkpoints', 'parked_streams')
        and not exists (select from pg_constraint k where k.conindid = i.indexrelid)
    ) d
    order by place, table_name";

/// A read model's tables that nobody reads yet, or no longer.
#[derive(Debug)]
pub(super) struct Beside {
    /// Of which read model.
    pub(super) schema: Schema,
    /// The schema's name.
    pub(super) name: String,
    /// Its `search_path` is this schema, and its commits do not wait for the disk.
    pub(super) rows: PgPool,
}

/// What is there when a rebuild starts.
#[derive(Debug)]
pub(super) enum Begun {
    /// Tables without keys, with some shards in them or none.
    Loading(Beside),
    /// Whole tables.
    Loaded(Beside),
}

impl Begun {
    /// What the last run left, if it can be gone on with; else a new beginning.
    pub(super) async fn open(pool: &PgPool, schema: Schema, hear: Hear<'_>) -> Result<Self, Error> {
        let beside = Beside::new(pool, schema, schema.next());
        if let Some(unfit) = beside.unfit(pool).await? {
            if let Unfit::Useless(reason) = unfit {
                hear(News::Note(format!("{} is dropped and begun again: {reason}", beside.name)));
            }
            beside.begin(pool).await?;
            return Ok(Self::Loading(beside));
        }
        hear(News::Note(format!("going on with {}", beside.name)));
        Ok(if beside.is_loading().await? { Self::Loading(beside) } else { Self::Loaded(beside) })
    }
}

impl Beside {
    fn new(pool: &PgPool, schema: Schema, name: String) -> Self {
        let options: PgConnectOptions = (*pool.connect_options()).clone();
        let options = options.application_name("insight rebuild").options([
            ("search_path", name.as_str()),
            ("synchronous_commit", "off"),
            ("statement_timeout", "0"),
            ("maintenance_work_mem", "256MB"),
            ("jit", "off"),
        ]);
        let rows = PgPoolOptions::new().max_connections(CONNECTIONS_MAX).connect_lazy_with(options);
        Self { schema, name, rows }
    }

    /// What the last rebuild has replaced, if it can be served again.
    pub(super) async fn of_old(pool: &PgPool, schema: Schema) -> Result<Self, Error> {
        let beside = Self::new(pool, schema, schema.old());
        match beside.unfit(pool).await? {
            None => Ok(beside),
            Some(Unfit::Missing) => Err(Error::NothingOld { schema: beside.name }),
            Some(Unfit::Useless(reason)) => {
                Err(Error::OldUnfit { read_model: schema.name.to_owned(), schema: beside.name, reason })
            }
        }
    }

    /// Why these tables cannot be gone on with.
    async fn unfit(&self, pool: &PgPool) -> Result<Option<Unfit>, Error> {
        let wanted = self.schema.shape();
        let shape = schema::found_shape(&mut *pool.acquire().await?, &self.name).await?;
        let mut found = Found { shape, foreign: None };
        // Tables of another shape may have other checkpoints.
        if found.shape.as_ref() == Some(&wanted) {
            for mine in self.checkpoints(&mut *self.rows.acquire().await?).await? {
                if let Some(reason) = foreign(pool, &mine.place).await? {
                    found.foreign = Some(reason);
                    break;
                }
            }
        }
        Ok(steps::unfit(&found, &wanted))
    }

    /// Every checkpoint there is.
    pub(super) async fn checkpoints(&self, conn: &mut PgConnection) -> Result<Vec<Checkpoint>, Error> {
        let all: Vec<i16> = (0..crate::domain::ids::SHARDS).collect();
        Ok(checkpoint::stored(conn, &all).await?)
    }

    /// Drops what is there and makes the tables anew, without keys and indexes.
    async fn begin(&self, pool: &PgPool) -> Result<(), Error> {
        let name = &self.name;
        let mut tx = pool.begin().await?;
        schema::lock(&mut tx).await?;
        schema::drop_schema(&mut tx, name).await?;
        schema::create(&mut tx, self.schema, name).await?;
        let deferred: Vec<(String, String, String)> =
            sqlx::query_as(KEYS_AND_INDEXES).bind(name).fetch_all(&mut *tx).await?;
        let path = format!("set local search_path = {name}; {PROGRESS_TABLES}");
        sqlx::raw_sql(AssertSqlSafe(path)).execute(&mut *tx).await?;
        for (table, statement, undone) in deferred {
            const SQL: &str =
                "insert into rebuild_deferred (table_name, statement, undone) values ($1, $2, $3)";
            sqlx::query(SQL).bind(table).bind(statement).bind(&undone).execute(&mut *tx).await?;
            sqlx::raw_sql(AssertSqlSafe(undone)).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Whether not all of the log's beginning is in the tables.
    async fn is_loading(&self) -> Result<bool, Error> {
        let there = "select to_regclass('rebuild_deferred') is not null";
        Ok(sqlx::query_scalar(there).fetch_one(&self.rows).await?)
    }

    /// Closes its connections.
    pub(super) async fn close(self) {
        self.rows.close().await;
    }
}

/// Why a place is not of the log's history; none if it is.
async fn foreign(pool: &PgPool, place: &Place) -> Result<Option<String>, Error> {
    if let PlaceCheck::Fork { reason } = check_place(pool, place).await? {
        return Ok(Some(reason));
    }
    let found = read::find(pool, place.position).await?;
    let epoch = found.map(|event| event.epoch).filter(|epoch| *epoch != place.epoch);
    Ok(epoch
        .map(|epoch| format!("position {} is of epoch {epoch} and was of {}", place.position, place.epoch)))
}
