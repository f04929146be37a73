//! Prices in bulk: ticks and closes, one, an array, or a line each. Good lines are kept, bad ones reported.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use serde::de::IgnoredAny;
use tokio::time::Instant;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::Api;
use crate::api::answer::{place, refused};
use crate::api::body::{self, PRICES_BYTES_MAX};
use crate::api::headers::CommandHeaders;
use crate::api::openapi::CreateProblems;
use crate::api::parameters::CreateHeaders;
use crate::api::problem::{self, Problem};
use crate::api::schema::{Decimal, Place};
use crate::commands::prices::{BodyFormat, PriceBulk, PricesAnswer};
use crate::commands::{Refusal, RefusedLine};

/// How long a body of prices may take before the answer is 503; what is durable by then stays.
const DEADLINE: Duration = Duration::from_secs(30);

/// A price: a tick has `at`, a close has `day`.
#[derive(ToSchema)]
#[schema(as = Price, example = json!({"asset": "AAPL", "price": "182.31", "at": "2024-03-01T14:30:00Z", "source": "exchange"}))]
#[allow(dead_code, reason = "read by the write side, line by line; here it is described")]
pub(crate) struct PriceLine {
    /// The asset's id or symbol.
    asset: String,
    /// Price of one unit in quote units, more than 0.
    #[schema(value_type = Decimal)]
    price: String,
    /// The instant of a tick, with zone; at most 5 minutes ahead.
    at: Option<DateTime<Utc>>,
    /// The exchange's calendar day of a close.
    day: Option<NaiveDate>,
    /// Where it is from: 1 to 50 small letters, digits or any of `. _ -`; `manual` if not told.
    source: Option<String>,
    /// Units traded.
    #[schema(value_type = Option<Decimal>)]
    volume: Option<String>,
    /// Confirms the asset's currency: another one is refused.
    currency: Option<String>,
}

/// Several prices.
#[derive(ToSchema)]
#[schema(as = Prices)]
#[allow(dead_code, reason = "read by the write side; here it is described")]
pub(crate) struct Prices {
    /// At most 100,000.
    prices: Vec<PriceLine>,
}

/// One price or several.
#[derive(ToSchema)]
#[schema(as = PriceBody)]
#[serde(untagged)]
#[allow(dead_code, reason = "read by the write side; here it is described")]
pub(crate) enum PriceBody {
    /// One.
    One(PriceLine),
    /// Several.
    Many(Prices),
}

/// What became of a body of prices.
#[derive(Serialize, ToSchema)]
#[schema(as = PricesAnswer)]
pub(crate) struct Answer {
    /// The command.
    command_id: Uuid,
    /// Prices that are in the log.
    #[schema(example = 1998)]
    accepted: u64,
    /// Lines that were left out.
    #[schema(example = 2)]
    rejected: u64,
    /// The first 1,000 things that were wrong.
    rejected_lines: Vec<RejectedLine>,
    /// Every good line up to this one is in the log.
    #[schema(example = 2000)]
    last_durable_line: u64,
    /// Place of the last event: what `min_position` takes.
    #[schema(value_type = Option<Place>)]
    place: Option<String>,
}

/// A line that was left out.
#[derive(Serialize, ToSchema)]
pub(crate) struct RejectedLine {
    /// Its number, from 1.
    #[schema(example = 17)]
    line: u64,
    /// The field that is wrong, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "price")]
    field: Option<String>,
    /// What is wrong.
    #[schema(example = "must be greater than 0")]
    reason: String,
}

impl Answer {
    fn new(command_id: Uuid, answer: PricesAnswer) -> Self {
        let rejected_line = |RefusedLine { line, field, reason }| RejectedLine { line, field, reason };
        Self {
            command_id,
            accepted: answer.accepted,
            rejected: answer.rejected_count,
            rejected_lines: answer.rejected.into_iter().map(rejected_line).collect(),
            last_durable_line: answer.last_durable_line,
            place: answer.place.map(|(epoch, position)| place(epoch, position)),
        }
    }
}

/// Post prices
///
/// At most 100,000 lines and 16 MiB. Lines are checked one by one: good ones are stored, bad ones are reported; if none is
/// good, the answer is 422. Sent again with the same key, a body that was stored in part is finished.
#[utoipa::path(post, path = "/v1/prices", tag = "prices", operation_id = "postPrices",
    params(CreateHeaders),
    request_body(description = "One price, several, or one a line", content(
        (PriceBody = "application/json"),
        (String = "application/x-ndjson", example = "{\"asset\":\"AAPL\",\"price\":\"182.31\",\"day\":\"2024-03-01\"}\n"))),
    responses((status = 200, description = "Stored, but for the rejected lines", body = Answer), CreateProblems))]
pub(crate) async fn post(
    State(api): State<Arc<Api>>,
    headers: CommandHeaders,
    request: Request,
) -> Result<Response, Problem> {
    let headers = headers.without_version()?;
    let format = match body::media_type(request.headers()) {
        Some("application/json") => BodyFormat::Json,
        Some("application/x-ndjson") => BodyFormat::Ndjson,
        _ => return Err(body::unsupported("application/json or application/x-ndjson")),
    };
    let bulk = PriceBulk {
        command_id: headers.command_id,
        actor: api.actor.clone(),
        correlation_id: headers.correlation_id,
        deadline: Instant::now() + DEADLINE,
        body: body::read(request, PRICES_BYTES_MAX).await?,
        format,
    };
    let posted = api.pulse.while_alive(api.commands.post_prices(&bulk)).await;
    match posted.unwrap_or_else(|_| Err(Refusal::unreachable())) {
        Ok(answer) => Ok(Json(Answer::new(bulk.command_id, answer)).into_response()),
        Err(refusal) => Err(malformed(&refusal, &bulk).unwrap_or_else(|| refused(refusal, bulk.command_id))),
    }
}

/// Where reading stopped, if a body was refused because it is no JSON (or no text) at all.
fn malformed(refusal: &Refusal, bulk: &PriceBulk) -> Option<Problem> {
    if !matches!(refusal, Refusal::Rejected(_)) {
        return None;
    }
    match bulk.format {
        BodyFormat::Json if std::str::from_utf8(&bulk.body).is_err() => {
            Some(Problem::field(problem::MALFORMED_BODY, "body", "is not UTF-8"))
        }
        BodyFormat::Json => body::parse::<IgnoredAny>(&bulk.body).err(),
        BodyFormat::Ndjson => None,
    }
}
