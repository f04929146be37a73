//! Portfolios in bulk, by their investors' e-mails: all of them, or none.
//!
//! E-mails are looked up beside the log and go no further: the command, its hash and its facts know ids.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::Json as JsonAnswer;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::Api;
use crate::api::answer::{DEADLINE, place, refused};
use crate::api::body::{self, COMMAND_BYTES_MAX};
use crate::api::fields::Field;
use crate::api::headers::CommandHeaders;
use crate::api::openapi::CreateProblems;
use crate::api::parameters::CreateHeaders;
use crate::api::problem::{self, Problem};
use crate::api::read::failed;
use crate::api::schema::{self, Place};
use crate::commands::Refusal;
use crate::commands::portfolio_bulk::{
    BulkAnswer, ERRORS_MAX, LINES_MAX, PortfolioBulk, PortfolioLine, on_line,
};
use crate::domain::currency::Currency;
use crate::domain::fields::Fields;
use crate::domain::ids::InvestorId;
use crate::domain::portfolio::UpsertPortfolio;
use crate::domain::portfolio::event::{CashMode, CostBasis};
use crate::domain::rejection::{FieldError, Rejection};
use crate::queries::directory::{find_investors_by_email, find_portfolios_by_name};

/// A portfolio as it should be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = UpsertPortfolio, example = json!({
    "email": "investor@example.com", "name": "Retirement", "base_currency": "USD", "cost_basis": "fifo"
}))]
pub(crate) struct LineBody {
    /// E-mail of the investor whose it is.
    #[schema(value_type = String)]
    email: Field<String>,
    /// What it is called: with the investor, which portfolio is meant.
    #[schema(value_type = String)]
    name: Field<String>,
    /// The currency it reports in: needed for one that is not there yet. Never changes.
    #[schema(value_type = Option<String>, max_length = 8)]
    base_currency: Field<Currency>,
    /// IANA zone; `UTC` for a new one if not told. Never changes.
    #[schema(value_type = Option<String>)]
    time_zone: Field<String>,
    /// Which lots a sale takes; `fifo` for a new one if not told.
    #[schema(value_type = Option<schema::CostBasis>)]
    cost_basis: Field<CostBasis>,
    /// Whether fees and taxes of a buy are part of its cost; `false` for a new one if not told.
    #[schema(value_type = Option<bool>)]
    fees_in_cost: Field<bool>,
    /// Whether a cash ledger is kept; `untracked` for a new one if not told. Never changes.
    #[schema(value_type = Option<schema::CashMode>)]
    cash: Field<CashMode>,
    /// Whether more may be sold than is held; `false` for a new one if not told. Never changes.
    #[schema(value_type = Option<bool>)]
    allow_short: Field<bool>,
}

/// A line that has the right form.
struct ReadLine {
    line: u64,
    email: String,
    /// Its investor is put in once they are found.
    wish: UpsertPortfolio,
    /// What was sent, for the hash.
    sent: Value,
}

/// What became of a bulk. A resend with the same key gets the same document.
#[derive(Serialize, ToSchema)]
#[schema(as = BulkAnswer)]
pub(crate) struct Answer {
    /// The command.
    command_id: Uuid,
    /// Lines that were sent.
    #[schema(example = 3)]
    lines: usize,
    /// Portfolios that were opened.
    #[schema(example = 1)]
    opened: usize,
    /// Portfolios whose settings were changed.
    #[schema(example = 1)]
    changed: usize,
    /// Lines that said what was so already.
    #[schema(example = 1)]
    unchanged: usize,
    /// Place of the last event: what `min_position` takes.
    #[schema(value_type = Place)]
    place: String,
    /// The portfolios that were opened or changed, in the order of the lines.
    portfolios: Vec<Touched>,
}

/// A portfolio that was opened or changed.
#[derive(Serialize, ToSchema)]
pub(crate) struct Touched {
    /// The portfolio.
    id: String,
    /// What happened.
    #[schema(example = "PortfolioOpened")]
    r#type: String,
    /// Place of the event in the log.
    position: i64,
}

impl Answer {
    fn new(command_id: Uuid, lines: usize, answer: &BulkAnswer) -> Self {
        let touched = answer.events.iter().map(|event| Touched {
            id: event.stream_id.kind_and_rest().1.to_owned(),
            r#type: event.event_type.to_string(),
            position: event.position.0,
        });
        let portfolios: Vec<Touched> = touched.collect();
        let opened = portfolios.iter().filter(|it| it.r#type == "PortfolioOpened").count();
        let (epoch, position) = answer.place;
        Self {
            command_id,
            lines,
            opened,
            changed: portfolios.len() - opened,
            unchanged: lines.saturating_sub(portfolios.len()),
            place: place(epoch, position),
            portfolios,
        }
    }
}

/// Open or change portfolios in bulk
///
/// At most 1,000 portfolios and 1 MiB, each named by its investor's e-mail and its name. What is missing is opened, settings
/// that differ are changed, what is so already stays; all in one command, or, if one line cannot be, nothing at all. A portfolio
/// that was opened by hand is known here a moment later.
#[utoipa::path(post, path = "/v1/portfolios/bulk", tag = "portfolios", operation_id = "upsertPortfolios",
    params(CreateHeaders),
    request_body(description = "A list, or one a line", content(
        (Vec<LineBody> = "application/json"),
        (String = "application/x-ndjson",
            example = "{\"email\":\"investor@example.com\",\"name\":\"Retirement\",\"base_currency\":\"USD\"}\n"))),
    responses((status = 201, description = "Opened and changed", body = Answer),
        (status = 200, description = "All was so before", body = Answer), CreateProblems))]
pub(crate) async fn post(
    State(api): State<Arc<Api>>,
    headers: CommandHeaders,
    request: Request,
) -> Result<Response, Problem> {
    let headers = headers.without_version()?;
    let deadline = Instant::now() + DEADLINE;
    let is_list = match body::media_type(request.headers()) {
        Some("application/json") => true,
        Some("application/x-ndjson") => false,
        _ => return Err(body::unsupported("application/json or application/x-ndjson")),
    };
    let bytes = body::read(request, COMMAND_BYTES_MAX).await?;
    let read = read_lines(split(&bytes, is_list)?)?;
    let looked_up = tokio::time::timeout_at(deadline, api.pulse.while_alive(api.find_lines(read))).await;
    let Ok(Ok(found)) = looked_up else { return Err(refused(Refusal::unreachable(), headers.command_id)) };
    let (lines, request_hash) = found?;
    let count = lines.len();
    let bulk = PortfolioBulk {
        command_id: headers.command_id,
        request_hash,
        actor: api.actor.clone(),
        correlation_id: headers.correlation_id,
        deadline,
        lines,
    };
    let upserted = api.pulse.while_alive(api.commands.upsert_portfolios(bulk)).await;
    let upserted = upserted.unwrap_or_else(|_| Err(Refusal::unreachable()));
    let answer = upserted.map_err(|refusal| refused(refusal, headers.command_id))?;
    let status = if answer.events.is_empty() { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, JsonAnswer(Answer::new(headers.command_id, count, &answer))).into_response())
}

/// The numbered lines of a body. Blank lines count and hold nothing.
fn split(body: &[u8], is_list: bool) -> Result<Vec<(u64, &[u8])>, Problem> {
    let lines: Vec<(u64, &[u8])> = if is_list {
        let items: Vec<&RawValue> =
            serde_json::from_slice(body).map_err(|_| match body::parse::<Value>(body) {
                Ok(_) => Problem::field(problem::INVALID_FIELDS, "body", "must be a list"),
                Err(malformed) => malformed,
            })?;
        (1..).zip(items.into_iter().map(|item| item.get().as_bytes())).collect()
    } else {
        (1..)
            .zip(body.split(|byte| *byte == b'\n'))
            .filter(|(_, line)| !line.trim_ascii().is_empty())
            .collect()
    };
    let refuse = |reason: String| Err(Problem::field(problem::INVALID_FIELDS, "body", reason));
    match lines.len() {
        0 => refuse("holds no portfolios".into()),
        count if count > LINES_MAX => {
            refuse(format!("has {count} portfolios, at most {LINES_MAX} are taken at once"))
        }
        _ => Ok(lines),
    }
}

/// Reads every line; everything that is wrong is told.
fn read_lines(lines: Vec<(u64, &[u8])>) -> Result<Vec<ReadLine>, Problem> {
    let mut read = Vec::with_capacity(lines.len());
    let mut errors = Vec::new();
    for (line, text) in lines {
        let body: LineBody = body::parse(text).map_err(|problem| problem.on_line(line))?;
        let sent: Value = body::parse(text).map_err(|problem| problem.on_line(line))?;
        match wish(body) {
            Err(Rejection::InvalidFields(wrong)) => errors.extend(
                wrong
                    .into_iter()
                    .map(|error| FieldError { field: on_line(line, &error.field), reason: error.reason }),
            ),
            Err(other) => return Err(other.into()),
            Ok((email, wish)) => read.push(ReadLine { line, email, wish, sent }),
        }
        if errors.len() >= ERRORS_MAX {
            break;
        }
    }
    if errors.is_empty() { Ok(read) } else { Err(Problem::fields(problem::INVALID_FIELDS, errors)) }
}

fn wish(body: LineBody) -> Result<(String, UpsertPortfolio), Rejection> {
    let mut fields = Fields::new();
    let email = body.email.required("email", &mut fields);
    let name = body.name.required("name", &mut fields);
    let base_currency = body.base_currency.optional("base_currency", &mut fields);
    let time_zone = body.time_zone.optional("time_zone", &mut fields);
    let cost_basis = body.cost_basis.optional("cost_basis", &mut fields);
    let fees_in_cost = body.fees_in_cost.optional("fees_in_cost", &mut fields);
    let cash = body.cash.optional("cash", &mut fields);
    let allow_short = body.allow_short.optional("allow_short", &mut fields);
    // PostgreSQL, which is asked for it, cannot hold it.
    if email.as_ref().is_some_and(|email| email.contains('\0')) {
        fields.refuse("email", "is unknown");
    }
    if let Some(name) = &name {
        fields.text("name", name, crate::domain::portfolio::NAME_CHARS_MAX);
    }
    let (Some(email), Some(name)) = (email, name) else { return Err(fields.rejection()) };
    fields.finish()?;
    let investor_id = InvestorId(Uuid::nil());
    Ok((
        email,
        UpsertPortfolio {
            investor_id,
            name,
            base_currency,
            time_zone,
            cost_basis,
            fees_in_cost,
            cash,
            allow_short,
        },
    ))
}

impl Api {
    /// Puts investors in the place of their e-mails, and says where portfolios may be that were opened by hand.
    async fn find_lines(&self, read: Vec<ReadLine>) -> Result<(Vec<PortfolioLine>, Arc<[u8]>), Problem> {
        let emails: HashSet<&str> = read.iter().map(|line| line.email.as_str()).collect();
        let emails: Vec<String> = emails.into_iter().map(ToOwned::to_owned).collect();
        let investors = find_investors_by_email(&self.pool, &emails).await.map_err(failed)?;
        let mut hasher = Sha256::new();
        let mut errors = Vec::new();
        let mut lines = Vec::with_capacity(read.len());
        // By investor and not by e-mail: only the database knows which spellings are one.
        let mut first_of: HashMap<(InvestorId, String), u64> = HashMap::new();
        for ReadLine { line, email, mut wish, mut sent } in read {
            let Some(investor_id) = investors.get(&email) else {
                errors.push(FieldError { field: on_line(line, "email"), reason: "is unknown".into() });
                continue;
            };
            wish.investor_id = *investor_id;
            if let Some(first) = first_of.get(&(*investor_id, wish.name.clone())) {
                let reason = format!("is the portfolio of line {first} again");
                errors.push(FieldError { field: on_line(line, "name"), reason });
                continue;
            }
            first_of.insert((*investor_id, wish.name.clone()), line);
            if let Value::Object(fields) = &mut sent {
                fields.insert("email".into(), investor_id.to_string().into());
            }
            hasher.update(sent.to_string());
            hasher.update(b"\n");
            lines.push(PortfolioLine { line, wish, hint: None });
        }
        if !errors.is_empty() {
            errors.truncate(ERRORS_MAX);
            return Err(Problem::fields(problem::INVALID_FIELDS, errors));
        }
        let named: Vec<_> =
            lines.iter().map(|line| (line.wish.investor_id, line.wish.name.clone())).collect();
        let known = find_portfolios_by_name(&self.pool, &named).await.map_err(failed)?;
        for (line, named) in lines.iter_mut().zip(&named) {
            line.hint = known.get(named).copied();
        }
        Ok((lines, Arc::from(&hasher.finalize()[..])))
    }
}
