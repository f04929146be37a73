//! Request bodies: bounded, of the right type, read strictly, and hashed so that a resend can be told from another wish.

use std::time::Duration;

use axum::extract::{DefaultBodyLimit, FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;
use sha2::{Digest, Sha256};

use super::problem::{self, Members, Problem};
use crate::domain::ids::Version;

/// Largest body of a command.
pub const COMMAND_BYTES_MAX: usize = 1 << 20;
/// Largest body of bulk prices.
pub const PRICES_BYTES_MAX: usize = 16 << 20;
/// A body must have arrived within this time.
const ARRIVAL_MAX: Duration = Duration::from_secs(30);

/// The body of a command, read as JSON.
pub struct Json<T> {
    /// What was sent.
    pub value: T,
    pub(super) bytes: Bytes,
}

impl<T> Json<T> {
    /// SHA-256 of what the client wishes: of the body without the fields `left_out`, whatever its spaces and the order of its
    /// fields, and of `If-Match`. Personal data is left out, since a hash of it would be personal data in the log.
    ///
    /// # Errors
    /// 400 or 422, for what only a field that is wrong anyway can hold: a thousand brackets, or a number beyond all floats.
    pub fn hash(&self, if_match: Option<Version>, left_out: &[&str]) -> Result<Sha256Hash, Problem> {
        let mut body: Value = parse(&self.bytes)?;
        if let Value::Object(fields) = &mut body {
            fields.retain(|name, _| !left_out.contains(&name.as_str()));
        }
        let mut digest = Sha256::new();
        serde_json::to_writer(&mut digest, &body).expect("a digest takes everything");
        if let Some(Version(version)) = if_match {
            digest.update(format!("\nif-match {version}"));
        }
        Ok(digest.finalize().into())
    }
}

/// The body of a command that says all in its address: none, or an empty object.
pub struct NoBody(Json<Empty>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an empty object")]
struct Empty {}

impl NoBody {
    /// As [`Json::hash`].
    ///
    /// # Errors
    /// None, since the body was read.
    pub fn hash(&self, if_match: Option<Version>) -> Result<Sha256Hash, Problem> {
        self.0.hash(if_match, &[])
    }
}

impl<S: Sync> FromRequest<S> for NoBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let is_json = media_type(request.headers()) == Some("application/json");
        let bytes = read_any(request, COMMAND_BYTES_MAX).await?;
        if bytes.is_empty() {
            return Ok(Self(Json { value: Empty {}, bytes: Bytes::from_static(b"{}") }));
        }
        if !is_json {
            return Err(unsupported("application/json"));
        }
        parse(&bytes).map(|value| Self(Json { value, bytes }))
    }
}

/// A SHA-256.
pub type Sha256Hash = [u8; 32];

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        if media_type(request.headers()) != Some("application/json") {
            return Err(unsupported("application/json"));
        }
        let bytes = read(request, COMMAND_BYTES_MAX).await?;
        parse(&bytes).map(|value| Self { value, bytes })
    }
}

/// The media type of a body, in small letters, without parameters such as `charset`.
pub fn media_type(headers: &HeaderMap) -> Option<&str> {
    const KNOWN: [&str; 2] = ["application/json", "application/x-ndjson"];
    let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = content_type.split(';').next()?.trim();
    KNOWN.into_iter().find(|known| known.eq_ignore_ascii_case(essence))
}

/// A body of a type that the address does not read.
pub fn unsupported(wanted: &str) -> Problem {
    Problem::field(problem::UNSUPPORTED_MEDIA_TYPE, "Content-Type", format!("must be {wanted}"))
}

/// Takes in a whole body of 1 to `bytes_max` bytes.
pub async fn read(request: Request, bytes_max: usize) -> Result<Bytes, Problem> {
    let bytes = read_any(request, bytes_max).await?;
    if bytes.is_empty() {
        Err(Problem::field(problem::MALFORMED_BODY, "body", "is empty"))
    } else {
        Ok(bytes)
    }
}

/// Takes in a whole body of at most `bytes_max` bytes.
async fn read_any(mut request: Request, bytes_max: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("the body is larger than {bytes_max} bytes");
        let errors = vec![problem::InvalidField { field: "body".into(), reason: "is too large".into() }];
        let members = Members { errors, limit_bytes: Some(bytes_max), ..Members::default() };
        Problem::new(problem::BODY_TOO_LARGE, detail).with(members)
    };
    let told = request.headers().get(header::CONTENT_LENGTH);
    if told
        .and_then(|length| length.to_str().ok()?.parse().ok())
        .is_some_and(|length: usize| length > bytes_max)
    {
        return Err(too_large());
    }
    DefaultBodyLimit::max(bytes_max).apply(&mut request);
    let arrival = tokio::time::timeout(ARRIVAL_MAX, Bytes::from_request(request, &())).await;
    match arrival {
        Err(_) => Err(Problem::new(problem::REQUEST_TIMEOUT, "the body did not arrive in time")),
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(refused)) if refused.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(too_large()),
        Ok(Err(_)) => Err(Problem::field(problem::MALFORMED_BODY, "body", "ended early")),
    }
}

/// Reads JSON strictly: no unknown field, none twice, nothing after the end.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        unreadable(&path, error.inner())
    })?;
    json.end().map_err(|error| unreadable(".", &error))?;
    Ok(value)
}

fn unreadable(path: &str, error: &serde_json::Error) -> Problem {
    let (line, column) = (error.line(), error.column());
    let told = error.to_string();
    let reason = told.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&told);
    // serde names unknown and repeated fields in its message, between backticks.
    let named = |start: &str| reason.strip_prefix(start)?.split('`').nth(1);
    // The path ends with the field's name or with its parent, and has a `?` where it was lost.
    let path = path.trim_end_matches(['?', '.']);
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path if path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')) => {
            path.to_owned()
        }
        path => format!("{path}.{name}"),
    };
    let field = if path.is_empty() { "body" } else { path };
    let invalid = |field: String, reason: &str| (problem::INVALID_FIELDS, field, reason.to_owned());
    let (kind, field, reason) = match error.classify() {
        _ if reason == "number out of range" => invalid(field.to_owned(), "is a number out of range"),
        Category::Data => match (named("unknown field "), named("duplicate field "), named("missing field "))
        {
            (Some(name), _, _) => invalid(below(name), "is unknown"),
            (_, Some(name), _) => invalid(below(name), "is there twice"),
            (_, _, Some(name)) => invalid(below(name), "is missing"),
            _ => invalid(field.to_owned(), reason),
        },
        Category::Syntax | Category::Eof | Category::Io => {
            (problem::MALFORMED_BODY, field.to_owned(), format!("cannot be read: {reason}"))
        }
    };
    let detail = format!("{field} {reason} (line {line}, column {column})");
    let errors = vec![problem::InvalidField { field, reason }];
    Problem::new(kind, detail).with(Members {
        errors,
        line: Some(line),
        column: Some(column),
        ..Members::default()
    })
}
