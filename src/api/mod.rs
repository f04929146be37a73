//! The HTTP face: commands in, answers out. The only home of axum.
//!
//! A handler reads a request strictly into a domain command or a query and writes the answer; it decides nothing. Everything
//! that is no success is a problem document, also what axum itself would refuse. The OpenAPI document is made from the
//! handlers, so that it cannot say something else than they do.
//!
//! | module | what |
//! | --- | --- |
//! | `write`, `answer`, `headers`, `body`, `fields` | commands |
//! | `read`, `query` | queries |
//! | [`problem`] | failures |
//! | [`operations`], [`observe`], [`server`] | running it |

mod answer;
mod body;
mod fields;
mod headers;
pub mod observe;
mod openapi;
pub mod operations;
mod parameters;
mod path;
pub mod problem;
mod query;
mod read;
mod schema;
pub mod server;
#[cfg(test)]
mod tests;
mod write;

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use sqlx::PgPool;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::operations::{Check, RenderMetrics};
use self::problem::Problem;
use self::read::conflated::Conflated;
use self::read::remembered::Remembered;
pub use self::read::status::AskStatus;
use crate::clock::Clock;
use crate::commands::Commands;
use crate::queries::freshness::Freshness;
use crate::queries::log::tail::LogTail;
use crate::queries::pulse::Pulse;

/// What the handlers stand on.
pub struct Parts {
    /// The write side.
    pub commands: Commands,
    /// Where the read models are, for queries.
    pub pool: PgPool,
    /// Tells whether an instant lies ahead.
    pub clock: Clock,
    /// What must work for this process to be ready, by name.
    pub checks: Vec<(&'static str, Check)>,
    /// Writes the metrics of this process.
    pub render_metrics: RenderMetrics,
    /// Tells how the installation is doing.
    pub status: AskStatus,
    /// How many clients may follow the log at once.
    pub event_streams_max: usize,
    /// The process ends: so do connections that would not end by themselves.
    pub stop: CancellationToken,
}

/// The state of the handlers.
struct Api {
    commands: Commands,
    pool: PgPool,
    freshness: Freshness,
    pulse: Pulse,
    holdings: Remembered,
    conflated: Conflated,
    /// A turn to read what takes long.
    analysing: Semaphore,
    clock: Clock,
    checks: Vec<(&'static str, Check)>,
    render_metrics: RenderMetrics,
    status: AskStatus,
    tail: LogTail,
    event_streams: Arc<Semaphore>,
    stop: CancellationToken,
    actor: Arc<str>,
    document: Bytes,
}

/// The whole service, to be [served](server::serve).
pub fn router(parts: Parts) -> Router {
    let (router, document) = endpoints().split_for_parts();
    let document = pretty(&document).into();
    let Parts { commands, pool, clock, checks, render_metrics, status, event_streams_max, stop } = parts;
    let pulse = Pulse::new(pool.clone());
    let api = Api {
        commands,
        freshness: Freshness::new(pool.clone()),
        pulse: pulse.clone(),
        holdings: Remembered::default(),
        conflated: Conflated::default(),
        analysing: Semaphore::new(1),
        clock,
        checks,
        render_metrics,
        status,
        tail: LogTail::new(pool.clone()),
        event_streams: Arc::new(Semaphore::new(event_streams_max)),
        stop,
        actor: headers::ACTOR.into(),
        document,
        pool,
    };
    router
        .merge(operations::docs())
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(pulse, read::while_postgres_answers))
        .layer(middleware::from_fn(observe::observe))
        .with_state(Arc::new(api))
}

/// The OpenAPI document, as it is served and committed.
pub fn openapi_json() -> String {
    pretty(&endpoints().into_openapi())
}

fn pretty(document: &utoipa::openapi::OpenApi) -> String {
    document.to_pretty_json().expect("a document of strings is always JSON") + "\n"
}

fn endpoints() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(openapi::Document::openapi())
        .routes(routes!(write::investors::register))
        .routes(routes!(write::assets::list))
        .routes(routes!(write::assets::rank_sources))
        .routes(routes!(write::earnings::report))
        .routes(routes!(write::portfolios::open))
        .routes(routes!(write::portfolio_bulk::post))
        .routes(routes!(write::portfolios::change_settings))
        .routes(routes!(write::trades::buy))
        .routes(routes!(write::trades::sell))
        .routes(routes!(write::cash::deposit))
        .routes(routes!(write::cash::withdraw))
        .routes(routes!(write::prices::post))
        .routes(routes!(write::held_prices::accept))
        .routes(routes!(write::held_prices::dismiss))
        .routes(routes!(read::held_prices::list))
        .routes(routes!(read::investors::list))
        .routes(routes!(read::investors::find))
        .routes(routes!(read::portfolios::list))
        .routes(routes!(read::portfolios::find_top))
        .routes(routes!(read::portfolio_stats::find))
        .routes(routes!(read::portfolios::find))
        .routes(routes!(read::holdings::find))
        .routes(routes!(read::valuation::find))
        .routes(routes!(read::risk::find))
        .routes(routes!(read::activity::list))
        .routes(routes!(read::events::list))
        .routes(routes!(read::feed::follow))
        .routes(routes!(read::assets::list))
        .routes(routes!(read::analytics::find))
        .routes(routes!(read::assets::find))
        .routes(routes!(read::assets::list_prices))
        .routes(routes!(write::jobs::define))
        .routes(routes!(write::jobs::change))
        .routes(routes!(write::jobs::remove))
        .routes(routes!(write::jobs::run))
        .routes(routes!(write::jobs::cancel_open))
        .routes(routes!(write::jobs::cancel))
        .routes(routes!(write::jobs::retry))
        .routes(routes!(read::jobs::list))
        .routes(routes!(read::jobs::find))
        .routes(routes!(read::jobs::list_runs))
        .routes(routes!(read::jobs::find_run))
        .routes(routes!(read::jobs::list_failed))
        .routes(routes!(read::earnings::list))
        .routes(routes!(read::status::show))
        .routes(routes!(operations::health))
        .routes(routes!(operations::readiness))
        .routes(routes!(operations::metrics))
        .routes(routes!(operations::openapi))
        .routes(routes!(problem::explain))
}

async fn unknown_route() -> Problem {
    Problem::not_found("address")
}

/// axum adds the header `Allow`.
async fn unknown_method(request: Request) -> Problem {
    Problem::new(problem::METHOD_NOT_ALLOWED, format!("{} is not possible here", request.method()))
}

/// A bug: told to the log, with what it said; to the client as any other fault of ours.
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
    Problem::internal(format!("a handler panicked: {}", message.unwrap_or("without a word"))).into_response()
}
