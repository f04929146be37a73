//! What the headers of a command say: which wish it is, which version it is for, what it belongs to.

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use uuid::Uuid;

use super::observe::CorrelationId;
use super::problem::{self, Problem};
use crate::domain::ids::Version;

/// Who sends, until there are access keys.
pub const ACTOR: &str = "local";
/// Characters of an idempotency key.
const KEY_CHARS_MAX: usize = 255;
/// Under which the ids of keyed commands are made. Changing it would give every resend a second effect.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f0d_5f6e_0c3b_4f0e_9a55_37f1_2b8c_d4a1);

/// The headers of a command.
#[derive(Debug, Clone, Copy)]
pub struct CommandHeaders {
    /// The command: the same for every resend with the same key.
    pub command_id: Uuid,
    /// The version that the stream must have.
    pub if_match: Option<Version>,
    /// Joins everything that this request causes.
    pub correlation_id: Uuid,
}

impl CommandHeaders {
    /// For commands that create something, or that no version applies to.
    ///
    /// # Errors
    /// 400, if there is an `If-Match` all the same.
    pub fn without_version(self) -> Result<Self, Problem> {
        match self.if_match {
            Some(_) => Err(malformed("If-Match", "does not apply here: there is no version to match")),
            None => Ok(self),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for CommandHeaders {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let command_id = match idempotency_key(&parts.headers)? {
            Some(key) => {
                let name = [ACTOR, parts.method.as_str(), parts.uri.path(), key].join("\n");
                Uuid::new_v5(&NAMESPACE, name.as_bytes())
            }
            None => Uuid::now_v7(),
        };
        let if_match = if_match(&parts.headers)?;
        Ok(Self { command_id, if_match, correlation_id: CorrelationId::of(&parts.extensions).0 })
    }
}

fn malformed(header: &str, reason: &str) -> Problem {
    Problem::field(problem::MALFORMED_HEADER, header, reason)
}

/// The key, if there is one: one value of 1 to 255 visible ASCII characters.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(key) = only(headers, "Idempotency-Key")? else {
        return Ok(None);
    };
    let is_visible = key.bytes().all(|b| b.is_ascii_graphic());
    if key.is_empty() || key.len() > KEY_CHARS_MAX || !is_visible {
        return Err(malformed("Idempotency-Key", "must be 1 to 255 visible characters without spaces"));
    }
    Ok(Some(key))
}

/// The version of `If-Match: "7"`. A weak tag, a list or `*` could not mean one version.
fn if_match(headers: &HeaderMap) -> Result<Option<Version>, Problem> {
    let Some(tag) = only(headers, "If-Match")? else {
        return Ok(None);
    };
    let digits = tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let digits = digits.filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    let version = digits.and_then(|digits| digits.parse().ok()).map(Version);
    version.map(Some).ok_or_else(|| malformed("If-Match", "must be one version in quotes, such as \"7\""))
}

/// The one value of a header, as text.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(malformed(name, "is there more than once"));
    }
    let text = first.map(|value| value.to_str().map(str::trim));
    text.transpose().map_err(|_| malformed(name, "has characters that are not visible ASCII"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_one_strong_version_matches() {
        let read = |tag| if_match(&headers(&[("if-match", tag)])).ok();
        assert_eq!(read("\"7\""), Some(Some(Version(7))));
        for tag in
            ["7", "W/\"7\"", "*", "\"7\", \"8\"", "\"\"", "\"+7\"", "\"-1\"", "\"99999999999999999999\""]
        {
            assert_eq!(read(tag), None, "{tag}");
        }
        assert_eq!(if_match(&headers(&[])).ok(), Some(None));
        assert!(if_match(&headers(&[("if-match", "\"7\""), ("if-match", "\"7\"")])).is_err());
    }

    #[test]
    fn a_key_is_visible_and_bounded() {
        let read = |key: String| {
            let mut headers = HeaderMap::new();
            headers.insert("idempotency-key", key.parse().unwrap());
            idempotency_key(&headers).map(|key| key.map(str::len)).ok()
        };
        assert_eq!(read("k".repeat(255)), Some(Some(255)));
        assert_eq!(read("k".repeat(256)), None);
        assert_eq!(read(String::new()), None);
        assert_eq!(read("two words".into()), None);
    }
}
