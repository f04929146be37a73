//! Ids in a path. What does not parse names nothing: 404, like an id that nothing has.

use std::str::FromStr;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use super::problem::Problem;
use crate::commands::AssetRef;
use crate::domain::ids::{HeldId, InvestorId, PortfolioId};

/// The one id in the path.
pub struct InPath<T>(pub T);

/// What a path can name.
pub trait Named: FromStr {
    /// What it is called in "there is no such …".
    const KIND: &'static str;
}

impl Named for InvestorId {
    const KIND: &'static str = "investor";
}

impl Named for PortfolioId {
    const KIND: &'static str = "portfolio";
}

impl Named for HeldId {
    const KIND: &'static str = "held price";
}

impl Named for AssetRef {
    const KIND: &'static str = "asset";
}

impl<S: Send + Sync, T: Named> FromRequestParts<S> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await;
        let named = text.ok().and_then(|Path(text)| text.parse().ok());
        named.map(Self).ok_or_else(|| Problem::not_found(T::KIND))
    }
}
