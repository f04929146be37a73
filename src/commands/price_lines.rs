//! Reading a body of prices: lines, windows of lines, and what each says.
//!
//! All of it is a function of the body's bytes alone. What is refused is told in words of ours: a client's text may be
//! a megabyte, and the refused lines of a window stand in the log.

use std::borrow::Cow;
use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::prices::BodyFormat;
use crate::domain::currency::Currency;
use crate::domain::money::{Price, Quantity};
use crate::domain::price::PriceLine;
use crate::domain::rejection::{FieldError, Rejection};

/// Most lines of a body.
const LINES_MAX: usize = 100_000;
const WINDOW_LINES_MAX: usize = 2_000;
const WINDOW_BYTES_MAX: usize = 512 * 1_024;
/// The fields of a line.
const FIELDS: [&str; 7] = ["asset", "price", "at", "day", "source", "volume", "currency"];
/// How much of an unknown field's name is repeated.
const NAME_CHARS_MAX: usize = 50;

/// Lines that become one command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Window<'a> {
    pub lines: Vec<(u64, &'a [u8])>,
}

/// A line as it was sent. Text only: numbers would have passed through a binary float.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineBody<'a> {
    #[serde(borrow)]
    asset: Cow<'a, str>,
    #[serde(borrow)]
    price: Cow<'a, str>,
    at: Option<String>,
    day: Option<String>,
    source: Option<String>,
    volume: Option<String>,
    currency: Option<String>,
}

/// A line whose fields have the right form.
pub(super) struct ParsedLine {
    pub asset: String,
    pub line: PriceLine,
}

pub(super) fn parse_line(text: &[u8]) -> Result<ParsedLine, Vec<FieldError>> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let body: Result<LineBody<'_>, _> = serde_path_to_error::deserialize(&mut json);
    let body = body.map_err(|error| vec![unreadable(&error)])?;
    json.end().map_err(|_| vec![whole_line("is not one JSON object")])?;

    let mut errors = Vec::new();
    let mut refuse = |field: &str, reason: String| {
        errors.push(FieldError { field: field.into(), reason });
    };
    let price = body.price.parse::<Price>().map_err(|e| refuse("price", e.to_string())).unwrap_or_default();
    let volume = body.volume.map(|v| v.parse::<Quantity>().map_err(|e| refuse("volume", e.to_string())));
    let currency = body.currency.map(|c| c.parse::<Currency>().map_err(|e| refuse("currency", e.into())));
    let at = body.at.map(|at| {
        instant(&at).ok_or_else(|| refuse("at", "is not an instant such as \"2026-03-02T14:30:00Z\"".into()))
    });
    let day = body.day.map(|text| {
        calendar_day(&text).ok_or_else(|| refuse("day", "is not a day such as \"2026-03-02\"".into()))
    });
    if !errors.is_empty() {
        return Err(errors);
    }
    let line = PriceLine {
        price,
        at: at.and_then(Result::ok),
        day: day.and_then(Result::ok),
        source: body.source,
        volume: volume.and_then(Result::ok),
        currency: currency.and_then(Result::ok),
    };
    Ok(ParsedLine { asset: body.asset.into_owned(), line })
}

/// An instant has one spelling: RFC 3339 with a `T`.
fn instant(text: &str) -> Option<DateTime<Utc>> {
    let parsed =
        DateTime::parse_from_rfc3339(text).ok().filter(|_| text.as_bytes().get(10) == Some(&b'T'))?;
    // A leap second is no instant that PostgreSQL keeps.
    Some(parsed.with_timezone(&Utc)).filter(|at| at.timestamp_subsec_nanos() < 1_000_000_000)
}

/// A day has one spelling.
fn calendar_day(text: &str) -> Option<NaiveDate> {
    NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().filter(|day| day.to_string() == text)
}

fn whole_line(reason: &str) -> FieldError {
    FieldError { field: String::new(), reason: reason.into() }
}

/// What is wrong with a line that has not the form of a price.
fn unreadable(error: &serde_path_to_error::Error<serde_json::Error>) -> FieldError {
    let reason = error.inner().to_string();
    let named = |what: &str| reason.strip_prefix(what)?.strip_prefix('`')?.split('`').next();
    let field = |name: &str, reason: &str| FieldError {
        field: name.chars().take(NAME_CHARS_MAX).collect(),
        reason: reason.into(),
    };
    if let Some(name) = named("unknown field ") {
        return field(name, "is unknown");
    }
    if let Some(name) = named("duplicate field ") {
        return field(name, "is there twice");
    }
    if let Some(name) = named("missing field ") {
        return field(name, "is missing");
    }
    let path = error.path().to_string();
    match (error.inner().classify(), FIELDS.contains(&path.as_str())) {
        (serde_json::error::Category::Data, true) => field(&path, "must be a string"),
        (serde_json::error::Category::Data, false) => {
            whole_line("is not an object with the fields of a price")
        }
        _ => whole_line("is not JSON"),
    }
}

/// The numbered lines of a body. Blank lines count and hold nothing.
pub(super) fn split(body: &[u8], format: BodyFormat) -> Result<Vec<(u64, &[u8])>, Rejection> {
    #[derive(Deserialize)]
    struct Many<'a> {
        #[serde(borrow)]
        prices: Vec<&'a RawValue>,
    }
    let lines: Vec<(u64, &[u8])> = match format {
        BodyFormat::Ndjson => (1..)
            .zip(body.split(|byte| *byte == b'\n'))
            .filter(|(_, line)| !line.trim_ascii().is_empty())
            .collect(),
        BodyFormat::Json => {
            let whole: &RawValue =
                serde_json::from_slice(body).map_err(|_| Rejection::field("body", "is not JSON"))?;
            let members: HashMap<String, &RawValue> = serde_json::from_str(whole.get()).unwrap_or_default();
            if members.contains_key("prices") {
                if let Some(other) = members.keys().find(|name| *name != "prices") {
                    let name: String = other.chars().take(NAME_CHARS_MAX).collect();
                    return Err(Rejection::field(name, "is unknown"));
                }
                let many: Many<'_> = serde_json::from_str(whole.get())
                    .map_err(|_| Rejection::field("prices", "must be a list"))?;
                (1..).zip(many.prices.iter().map(|line| line.get().as_bytes())).collect()
            } else {
                vec![(1, whole.get().as_bytes())]
            }
        }
    };
    if lines.is_empty() {
        return Err(Rejection::field("body", "holds no prices"));
    }
    if lines.len() > LINES_MAX {
        let reason = format!("has {} lines, at most {LINES_MAX} are taken at once", lines.len());
        return Err(Rejection::field("body", reason));
    }
    Ok(lines)
}

/// Cuts lines into windows of at most 2,000 lines and 512 KiB.
pub(super) fn windows<'a>(lines: &[(u64, &'a [u8])]) -> Vec<Window<'a>> {
    let mut windows = Vec::new();
    let mut lines_of_window: Vec<(u64, &[u8])> = Vec::new();
    let mut bytes = 0;
    for &(number, line) in lines {
        let is_full = lines_of_window.len() == WINDOW_LINES_MAX || bytes + line.len() > WINDOW_BYTES_MAX;
        if is_full && !lines_of_window.is_empty() {
            windows.push(Window { lines: std::mem::take(&mut lines_of_window) });
            bytes = 0;
        }
        bytes += line.len();
        lines_of_window.push((number, line));
    }
    if !lines_of_window.is_empty() {
        windows.push(Window { lines: lines_of_window });
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_bounded_in_lines_and_bytes() {
        let lines: Vec<(u64, &[u8])> = (1..=4_001).map(|n| (n, b"x".as_slice())).collect();
        let sizes: Vec<usize> = windows(&lines).iter().map(|w| w.lines.len()).collect();
        assert_eq!(sizes, [2_000, 2_000, 1]);
        let long = vec![b'y'; 300 * 1_024];
        let lines: Vec<(u64, &[u8])> = (1..=3).map(|n| (n, long.as_slice())).collect();
        assert_eq!(windows(&lines).len(), 3);
    }

    #[test]
    fn blank_lines_count_but_hold_nothing() {
        let lines = split(b"{}\n\r\n{}\n", BodyFormat::Ndjson).unwrap();
        assert_eq!(lines, [(1, b"{}".as_slice()), (3, b"{}".as_slice())]);
    }

    #[test]
    fn a_broken_line_is_named_with_its_field_in_our_words() {
        let error = |text: &str| {
            let error = parse_line(text.as_bytes()).err().unwrap().remove(0);
            (error.field, error.reason)
        };
        let is = |field: &str, reason: &str| (field.to_owned(), reason.to_owned());
        assert_eq!(error(r#"{"asset":"A","price":5}"#), is("price", "must be a string"));
        assert_eq!(error(r#"{"asset":"A","price":"1","colour":"red"}"#), is("colour", "is unknown"));
        assert_eq!(error(r#"{"asset":"A","asset":"A"}"#), is("asset", "is there twice"));
        assert_eq!(error(r#"{"asset":"A"}"#), is("price", "is missing"));
        assert_eq!(error(r#"{"asset":"A","price":"1e400","at":"x"}"#).0, "price");
        for bad in ["yesterday", "2026-11-20 00:00:00Z", "2026-11-20T23:59:60Z"] {
            assert_eq!(error(&format!(r#"{{"asset":"A","price":"1","at":"{bad}"}}"#)).0, "at", "{bad}");
        }
        for bad in ["2026-3-2", "+2026-11-20", "2026-02-30"] {
            assert_eq!(error(&format!(r#"{{"asset":"A","price":"1","day":"{bad}"}}"#)).0, "day", "{bad}");
        }
        assert_eq!(error("{"), is("", "is not JSON"));
        assert_eq!(error("[0]"), is("", "is not an object with the fields of a price"));
        let long = format!(r#"{{"{}":1}}"#, "z".repeat(100_000));
        assert_eq!(error(&long).0.len(), NAME_CHARS_MAX);
        assert_eq!(parse_line(b"{\"asset\":\"\xff\"}").err().unwrap()[0].reason, "is not JSON");
    }
}
