//! Queries: a GET each on read models. They read rows and decide nothing.
//!
//! Every answer says `as_of` which place of the log it is. `min_position` makes a read wait until it has seen a place, such as
//! that of the command which the client has just sent.

pub(super) mod activity;
pub(super) mod analytics;
mod answer;
pub(super) mod assets;
pub(super) mod conflated;
pub(super) mod earnings;
pub(super) mod events;
pub(super) mod feed;
pub(super) mod held_prices;
pub(super) mod holdings;
pub(super) mod investors;
pub(super) mod jobs;
pub(super) mod portfolio_stats;
pub(super) mod portfolios;
pub(super) mod remembered;
pub(super) mod risk;
pub(super) mod status;
pub(super) mod valuation;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::IntoParams;

use self::answer::{Answered, Page};
use super::Api;
use super::fields::Field;
use super::problem::{self, Members, Problem};
use super::query::{Freshness, Limit, Place, WaitMs};
use crate::domain::fields::Fields;
use crate::domain::ids::PortfolioId;
use crate::queries::freshness::Visibility;
use crate::queries::pulse::Pulse;
use crate::queries::{Error, LIMIT_DEFAULT, PageRequest};

/// SQLSTATE of a statement on a table that nobody has made: the projectors have not been there.
const UNDEFINED_TABLE: &str = "42P01";

/// Parameters of a query about one thing.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct One {
    /// A place that the answer must have seen: the `place` of a command's answer, such as `1:901`.
    #[param(value_type = Option<String>)]
    min_position: Field<Place>,
    /// How long to wait for it, in milliseconds: 0 to 10,000; 2,000 if not told.
    #[param(value_type = Option<u32>)]
    max_wait_ms: Field<WaitMs>,
}

impl One {
    fn read(self) -> Result<Freshness, Problem> {
        let mut fields = Fields::new();
        let freshness = Freshness::read(self.min_position, self.max_wait_ms, &mut fields);
        fields.finish()?;
        Ok(freshness)
    }
}

/// Parameters of every list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    /// Where the page begins: `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Field<String>,
    /// Rows of the page: 1 to 500; 50 if not told.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Field<Limit>,
    /// A place that the answer must have seen: the `place` of a command's answer, such as `1:901`.
    #[param(value_type = Option<String>)]
    min_position: Field<Place>,
    /// How long to wait for it, in milliseconds: 0 to 10,000; 2,000 if not told.
    #[param(value_type = Option<u32>)]
    max_wait_ms: Field<WaitMs>,
}

impl List {
    fn read(self, fields: &mut Fields) -> (PageRequest, Freshness) {
        let after = self.after.optional("after", fields);
        let limit = self.limit.optional("limit", fields).map_or(LIMIT_DEFAULT, |Limit(limit)| limit);
        let freshness = Freshness::read(self.min_position, self.max_wait_ms, fields);
        (PageRequest { after, limit }, freshness)
    }
}

impl Api {
    /// Waits until these read models have what the client wants them to have seen.
    async fn wait_for(
        &self,
        wanted: &Freshness,
        read_models: &[&'static str],
        portfolio: Option<PortfolioId>,
    ) -> Result<(), Problem> {
        let Some(Place { epoch, position }) = wanted.min_position else { return Ok(()) };
        let deadline = Instant::now() + wanted.max_wait;
        let seen = self.freshness.wait_for(epoch, position, read_models, portfolio, deadline).await;
        match seen.map_err(failed)? {
            Visibility::Reached => Ok(()),
            Visibility::NotYet { reached } => {
                let place = Some(super::answer::place(epoch, reached));
                let detail = format!("{epoch}:{position} was not visible within {:?}", wanted.max_wait);
                Err(Problem::new(problem::NOT_YET_VISIBLE, detail)
                    .with(Members { place, ..Members::default() }))
            }
            Visibility::DeadEpoch => {
                let detail = format!("{epoch}:{position} is a place of another history than this log's");
                Err(Problem::new(problem::DEAD_EPOCH, detail))
            }
        }
    }
}

/// Goes around every read: it may take its time, but only on a server that answers. Commands look after themselves, since
/// of them something has to be said.
pub(super) async fn while_postgres_answers(
    State(pulse): State<Pulse>,
    request: Request,
    next: Next,
) -> Response {
    if request.method() != Method::GET || !request.uri().path().starts_with("/v1/") {
        return next.run(request).await;
    }
    match pulse.while_alive(next.run(request)).await {
        Ok(response) => response,
        Err(away) => {
            tracing::warn!(%away, "a read was given up");
            Problem::busy("the read models cannot be reached", 1).into_response()
        }
    }
}

/// Why rows could not be read, as a problem.
pub(super) fn failed(error: Error) -> Problem {
    let bad_cursor = || Problem::field(problem::INVALID_FIELDS, "after", "is not a cursor of this list");
    let database = match &error {
        Error::BadCursor => return bad_cursor(),
        Error::Database(database) => database,
        Error::Log(log) if log.is_transient() => return Problem::busy("the log cannot be reached", 1),
        Error::Log(_) => return Problem::internal(error),
    };
    let code = database.as_database_error().and_then(|refused| refused.code()).unwrap_or_default();
    match (database, &*code) {
        // Every other parameter was checked: only a made-up cursor can hold what PostgreSQL cannot.
        (_, code) if code.starts_with("22") => bad_cursor(),
        (_, UNDEFINED_TABLE) => Problem::busy("the read models were not made yet", 1),
        (sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_), _) => {
            tracing::warn!(%error, "the read models cannot be reached");
            Problem::busy("the read models cannot be reached", 1)
        }
        // The server is short of something, going down or coming up.
        (_, code) if ["08", "53", "57"].iter().any(|class| code.starts_with(class)) => {
            tracing::warn!(%error, "the read models cannot be reached");
            Problem::busy("the read models cannot be reached", 1)
        }
        _ => Problem::internal(error),
    }
}
