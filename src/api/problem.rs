//! Every failure as an RFC 9457 problem document.
//!
//! The kinds are one table, because `type` is what programs branch on: a kind is added, never renamed. What a program needs
//! beside it (`errors`, `held`, `current_version`, …) is a member of [`Members`], so that the OpenAPI document lists them all.

use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::NaiveDate;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::schema::Decimal;
use crate::domain::ids::Version;
use crate::domain::money::{Amount, Quantity};
use crate::domain::rejection::{FieldError, Rejection};

/// A kind of failure: what never changes between two of the same.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Last part of the `type`.
    pub slug: &'static str,
    /// Status of the answer.
    pub status: StatusCode,
    /// A few words for a person.
    pub title: &'static str,
    /// What it means and what to do about it.
    pub meaning: &'static str,
}

macro_rules! kinds {
    ($($name:ident = $slug:literal $status:ident $title:literal: $meaning:literal;)*) => {
        $(
            #[doc = $meaning]
            pub const $name: &Kind =
                &Kind { slug: $slug, status: StatusCode::$status, title: $title, meaning: $meaning };
        )*

        /// Every kind, in the order of status.
        pub const KINDS: &[&Kind] = &[$($name),*];
    };
}

kinds! {
    MALFORMED_BODY = "malformed-body" BAD_REQUEST "Malformed body":
        "The body is not JSON. `line` and `column` say where reading stopped.";
    MALFORMED_HEADER = "malformed-header" BAD_REQUEST "Malformed header":
        "A header cannot be used as it was sent. `errors` names it.";
    NOT_FOUND = "not-found" NOT_FOUND "Not found":
        "Nothing has this address: an unknown route, or an id that nothing has.";
    METHOD_NOT_ALLOWED = "method-not-allowed" METHOD_NOT_ALLOWED "Method not allowed":
        "The address exists, the method does not. The header `Allow` lists those that do.";
    REQUEST_TIMEOUT = "request-timeout" REQUEST_TIMEOUT "Request timed out":
        "The body did not arrive in time. Nothing of it was used; send it again.";
    ALREADY_EXISTS = "already-exists" CONFLICT "Already exists":
        "It was created before.";
    SYMBOL_TAKEN = "symbol-taken" CONFLICT "Symbol taken":
        "The symbol names another asset. Symbols are unique, for ever.";
    EMAIL_TAKEN = "email-taken" CONFLICT "E-mail taken":
        "Another investor is registered with this e-mail.";
    INSUFFICIENT_HOLDING = "insufficient-holding" CONFLICT "Insufficient holding":
        "More would be sold than is held. `day` is the first day on which that would be so, `held` what is held then.";
    INSUFFICIENT_CASH = "insufficient-cash" CONFLICT "Insufficient cash":
        "More would be paid than is there. `day` is the first day on which that would be so, `available` what is there then.";
    CASH_UNTRACKED = "cash-untracked" CONFLICT "Cash is not tracked":
        "The portfolio was opened without a cash ledger, so cash cannot be moved.";
    NOT_TRADABLE = "not-tradable" CONFLICT "Not tradable":
        "The asset cannot be traded: exchange rates never can, a delisted asset no longer.";
    ADJUSTMENT_FIXED = "adjustment-fixed" CONFLICT "Adjustment is fixed":
        "The adjustment of a source of prices is given at first use and never changes.";
    NAME_TAKEN = "name-taken" CONFLICT "Name taken":
        "A job of this name is there already, with other settings. Change that one, or take another name.";
    RUN_OPEN = "run-open" CONFLICT "A run is open":
        "Runs of this job must not overlap, and `run` is still open. Wait for it, or cancel it.";
    RUN_NOT_OPEN = "run-not-open" CONFLICT "The run is not open":
        "The run has ended, so there is nothing to cancel or to end.";
    RUN_NOT_FAILED = "run-not-failed" CONFLICT "The run has not failed":
        "Only what failed for good can be tried again, and once.";
    ALREADY_SETTLED = "already-settled" CONFLICT "Already settled":
        "The held price was accepted or dismissed before, and the other cannot be said any more.";
    DEAD_EPOCH = "dead-epoch" CONFLICT "Place of a dead history":
        "`min_position`, `after` or `Last-Event-ID` names a place that this log does not have: of an epoch that a restore has \
         ended, or beyond the end. What was written then may be gone; read without it, and follow the log from the beginning \
         or from a place both histories have.";
    STALE_VERSION = "stale-version" PRECONDITION_FAILED "Stale version":
        "`If-Match` names another version than the stream has. Read again, decide again.";
    BODY_TOO_LARGE = "body-too-large" PAYLOAD_TOO_LARGE "Body too large":
        "The body is larger than this address takes. `limit_bytes` says how large it may be.";
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type" UNSUPPORTED_MEDIA_TYPE "Unsupported media type":
        "The header `Content-Type` is missing, or names something that this address does not read.";
    INVALID_FIELDS = "invalid-fields" UNPROCESSABLE_ENTITY "Invalid fields":
        "Fields or query parameters are unknown, missing or impossible. `errors` lists them.";
    KEY_REUSED = "idempotency-key-reused" UNPROCESSABLE_ENTITY "Idempotency key reused":
        "The idempotency key was used before, with another body. A new wish takes a new key.";
    INTERNAL = "internal" INTERNAL_SERVER_ERROR "Internal error":
        "A fault of this server. It is in its log under the correlation id of the answer.";
    BUSY = "busy" SERVICE_UNAVAILABLE "Busy":
        "It could not be done in time. Come back after `Retry-After` seconds; a command may be sent again with the same \
         idempotency key and has one effect at most.";
    NOT_YET_VISIBLE = "not-yet-visible" GATEWAY_TIMEOUT "Not yet visible":
        "What `min_position` names was not visible within `max_wait_ms`. `place` is how far the answer would have reached.";
}

/// A failure on its way to the client.
#[derive(Debug)]
pub struct Problem {
    kind: &'static Kind,
    detail: String,
    members: Box<Members>,
    retry_after_seconds: Option<u64>,
}

/// The body of every answer that is not a success (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Document<'a> {
    /// The kind of failure, stable: what a program branches on.
    #[schema(example = "/problems/insufficient-holding")]
    r#type: String,
    /// The kind in a few words.
    #[schema(example = "Insufficient holding")]
    title: &'static str,
    /// The status of the answer.
    #[schema(example = 409)]
    status: u16,
    /// What happened here.
    #[schema(example = "on 2024-03-01 only 12 would be held")]
    detail: &'a str,
    #[serde(flatten)]
    members: &'a Members,
}

/// What a program needs to react. Each kind has those that make sense for it.
#[derive(Debug, Default, PartialEq, Serialize, ToSchema)]
#[schema(as = ProblemMembers)]
pub struct Members {
    /// The fields, parameters or headers that are wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<InvalidField>,
    /// Where reading stopped: the line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Where reading stopped: the column, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The first day on which a holding or cash would not suffice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day: Option<NaiveDate>,
    /// What is held on that day.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Decimal>)]
    pub held: Option<Quantity>,
    /// The cash that is there on that day.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Decimal>)]
    pub available: Option<Amount>,
    /// The currency of `available`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// The symbol that is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// The source of prices whose adjustment is fixed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The name that is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The run that is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<Uuid>,
    /// The version that the stream has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_version: Option<i64>,
    /// How large the body may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<usize>,
    /// The command, whose fate may be unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_id: Option<Uuid>,
    /// The place that a read has reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "1:901")]
    pub place: Option<String>,
}

/// A field and what is wrong with it.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct InvalidField {
    /// The field, parameter or header, as the client wrote it.
    #[schema(example = "quantity")]
    pub field: String,
    /// What is wrong with it.
    #[schema(example = "must be greater than 0")]
    pub reason: String,
}

impl Problem {
    /// A problem of a kind, with what happened here.
    pub fn new(kind: &'static Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), members: Box::default(), retry_after_seconds: None }
    }

    /// A problem with one field, parameter or header.
    pub fn field(kind: &'static Kind, field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::fields(kind, vec![FieldError { field: field.into(), reason: reason.into() }])
    }

    /// A problem with fields, parameters or headers.
    pub fn fields(kind: &'static Kind, errors: Vec<FieldError>) -> Self {
        let told: Vec<_> = errors.iter().map(|error| format!("{} {}", error.field, error.reason)).collect();
        let errors = errors.into_iter().map(|FieldError { field, reason }| InvalidField { field, reason });
        Self::new(kind, told.join("; ")).with(Members { errors: errors.collect(), ..Members::default() })
    }

    /// No such thing.
    pub fn not_found(thing: &str) -> Self {
        Self::new(NOT_FOUND, format!("there is no such {thing}"))
    }

    /// A fault of ours, logged here and told to nobody else.
    pub fn internal(error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(INTERNAL, "the request failed for a reason that is not yours")
    }

    /// Come back later.
    pub fn busy(reason: impl Into<String>, retry_after_seconds: u64) -> Self {
        Self { retry_after_seconds: Some(retry_after_seconds), ..Self::new(BUSY, reason) }
    }

    /// What happened here.
    #[cfg(test)]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The same with what a program needs.
    #[must_use]
    pub fn with(self, members: Members) -> Self {
        Self { members: Box::new(members), ..self }
    }

    /// The same about a line of a body.
    #[must_use]
    pub fn on_line(mut self, line: u64) -> Self {
        for error in &mut self.members.errors {
            error.field = format!("line {line}: {}", error.field);
        }
        let told = self.members.errors.iter().map(|error| format!("{} {}", error.field, error.reason));
        self.detail = told.collect::<Vec<_>>().join("; ");
        self.members.line = usize::try_from(line).ok();
        self.members.column = None;
        self
    }

    /// The same with the command that it is about.
    #[must_use]
    pub fn about(mut self, command_id: Uuid) -> Self {
        self.members.command_id = Some(command_id);
        self
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let detail = rejection.to_string();
        let none = Members::default();
        let (kind, members) = match rejection {
            Rejection::InvalidFields(errors) => return Self::fields(INVALID_FIELDS, errors),
            Rejection::NotFound { kind: _ } => (NOT_FOUND, none),
            Rejection::AlreadyExists { kind: _ } => (ALREADY_EXISTS, none),
            Rejection::StaleVersion { current_version: Version(version) } => {
                (STALE_VERSION, Members { current_version: Some(version), ..none })
            }
            Rejection::SymbolTaken { symbol } => (SYMBOL_TAKEN, Members { symbol: Some(symbol), ..none }),
            Rejection::EmailTaken => (EMAIL_TAKEN, none),
            Rejection::InsufficientHolding { day, held } => {
                (INSUFFICIENT_HOLDING, Members { day: Some(day), held: Some(held), ..none })
            }
            Rejection::InsufficientCash { day, currency, available } => {
                let available = Some(available);
                (INSUFFICIENT_CASH, Members { day: Some(day), currency: Some(currency), available, ..none })
            }
            Rejection::CashUntracked => (CASH_UNTRACKED, none),
            Rejection::NotTradable { reason: _ } => (NOT_TRADABLE, none),
            Rejection::AdjustmentFixed { source_name } => {
                (ADJUSTMENT_FIXED, Members { source: Some(source_name), ..none })
            }
            Rejection::NameTaken { name } => (NAME_TAKEN, Members { name: Some(name), ..none }),
            Rejection::RunOpen { run_id } => (RUN_OPEN, Members { run: Some(run_id.0), ..none }),
            Rejection::RunNotOpen { reason: _ } => (RUN_NOT_OPEN, none),
            Rejection::RunNotFailed { reason: _ } => (RUN_NOT_FAILED, none),
            Rejection::AlreadySettled { how: _ } => (ALREADY_SETTLED, none),
        };
        Self::new(kind, detail).with(members)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document {
            r#type: format!("/problems/{}", self.kind.slug),
            title: self.kind.title,
            status: self.kind.status.as_u16(),
            detail: &self.detail,
            members: &self.members,
        };
        let body = serde_json::to_vec(&document).expect("strings and numbers are always JSON");
        let content_type = HeaderValue::from_static("application/problem+json");
        let mut response = (self.kind.status, [(header::CONTENT_TYPE, content_type)], body).into_response();
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Text for a person who follows a problem's `type`.
#[utoipa::path(get, path = "/problems/{kind}", tag = "operations", summary = "What a kind of problem means",
    params(("kind" = String, Path, description = "Last part of a problem's `type`", example = "busy")),
    responses((status = 200, description = "What it means", body = String, content_type = "text/plain"),
        super::openapi::NotFound))]
pub(super) async fn explain(Path(slug): Path<String>) -> Result<String, Problem> {
    let kind =
        KINDS.iter().find(|kind| kind.slug == slug).ok_or_else(|| Problem::not_found("kind of problem"))?;
    Ok(format!("{} ({})\n\n{}\n", kind.title, kind.status, kind.meaning))
}
