//! Ids in a path. What does not parse names nothing: 404, like an id that nothing has.

use std::str::FromStr;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use utoipa::IntoParams;

use super::problem::Problem;
use crate::commands::AssetRef;
use crate::domain::ids::{HeldId, InvestorId, JobId, PortfolioId, RunId};

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

/// A job by its id or its name, which has one id.
#[derive(IntoParams)]
#[into_params(names("job"), parameter_in = Path)]
pub struct JobRef(
    /// Id or name.
    #[param(value_type = String, example = "nightly-risk")]
    pub JobId,
);

impl FromStr for JobRef {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.parse().unwrap_or_else(|_| JobId::named(text))))
    }
}

impl Named for JobRef {
    const KIND: &'static str = "job";
}

/// A run of a job.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct RunInPath {
    /// Id or name of the job.
    #[param(value_type = String, example = "nightly-risk")]
    pub job: JobRef,
    /// Id of the run.
    #[param(value_type = uuid::Uuid)]
    pub run: RunId,
}

impl<S: Send + Sync> FromRequestParts<S> for RunInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let texts = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Ok(Path((job, run))) = texts else { return Err(Problem::not_found(JobRef::KIND)) };
        let Ok(job) = job.parse();
        let run = run.parse().map_err(|_| Problem::not_found("run"))?;
        Ok(Self { job, run })
    }
}

impl<S: Send + Sync, T: Named> FromRequestParts<S> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await;
        let named = text.ok().and_then(|Path(text)| text.parse().ok());
        named.map(Self).ok_or_else(|| Problem::not_found(T::KIND))
    }
}
