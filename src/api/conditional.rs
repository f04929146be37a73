//! Entity tags: a client that has the answer already is told so instead of being sent it again.
//!
//! A tag is over the positions of the rows, not over the text: `as_of` and the age of a price move on while the rows stay. Hence
//! tags are weak, and good for `If-None-Match` only.

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::domain::ids::{Epoch, Position};

/// Sends a document made of rows at these positions, or 304 to a client that has it.
pub fn answer(
    request: &HeaderMap,
    epoch: Epoch,
    rows: impl IntoIterator<Item = Position>,
    document: &impl Serialize,
) -> Response {
    let tag = tag(epoch, rows);
    let is_known = has(request, &tag);
    let tag = [(header::ETAG, HeaderValue::try_from(tag).expect("hexadecimal digits in quotes"))];
    if is_known {
        (StatusCode::NOT_MODIFIED, tag).into_response()
    } else {
        (tag, Json(document)).into_response()
    }
}

/// The order of the rows counts: a page in another order is another page.
fn tag(epoch: Epoch, rows: impl IntoIterator<Item = Position>) -> String {
    let mut digest = Sha256::new();
    digest.update(epoch.0.to_be_bytes());
    for Position(position) in rows {
        digest.update(position.to_be_bytes());
    }
    let digest = digest.finalize();
    let first = u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"));
    format!("W/\"{first:016x}\"")
}

/// Weak comparison (RFC 9110, 8.8.3.2) with every tag of every `If-None-Match`.
fn has(request: &HeaderMap, tag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let known = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known.flat_map(|value| value.split(',')).any(|known| known.trim() == "*" || opaque(known) == opaque(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_has_the_rows_is_not_sent_them() {
        let send = |known: Option<&str>, rows: &[i64]| {
            let mut request = HeaderMap::new();
            if let Some(known) = known {
                request.insert(header::IF_NONE_MATCH, known.parse().unwrap());
            }
            answer(&request, Epoch(1), rows.iter().map(|row| Position(*row)), &"rows")
        };
        let first = send(None, &[7, 9]);
        assert_eq!(first.status(), StatusCode::OK);
        let tag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
        assert!(tag.starts_with("W/\""), "{tag}");
        assert_eq!(send(Some(&tag), &[7, 9]).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(send(Some(&format!("\"x\", {tag}")), &[7, 9]).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(send(Some("*"), &[7, 9]).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(send(Some(&tag), &[9, 7]).status(), StatusCode::OK);
        assert_eq!(send(Some(&tag), &[7, 10]).status(), StatusCode::OK);
    }
}
