//! Registering an investor. Name and e-mail go beside the log, never into it, not even as part of a hash.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::Api;
use crate::api::answer::{CommandAnswer, Wish};
use crate::api::body::Json;
use crate::api::fields::Field;
use crate::api::headers::CommandHeaders;
use crate::api::openapi::CreateProblems;
use crate::api::parameters::CreateHeaders;
use crate::api::problem::Problem;
use crate::api::schema;
use crate::commands::Command;
use crate::domain::fields::Fields;
use crate::domain::ids::InvestorId;
use crate::domain::investor::{ExperienceLevel, InvestorDetails, RegisterInvestor, RiskTolerance};
use crate::domain::rejection::Rejection;

/// Fields that hold personal data.
const PERSONAL: [&str; 2] = ["name", "email"];

/// Who registers.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = RegisterInvestor, example = json!({
    "name": "Example Investor", "email": "investor@example.com", "risk_tolerance": "medium", "experience_level": "beginner"
}))]
pub(crate) struct Body {
    /// Name. Personal data: kept outside the log.
    #[schema(value_type = String, max_length = 200)]
    name: Field<String>,
    /// E-mail, unique. Personal data: kept outside the log.
    #[schema(value_type = String, max_length = 254)]
    email: Field<String>,
    /// How much risk they say they bear: `low`, `medium` or `high`.
    #[schema(value_type = Option<schema::RiskTolerance>)]
    risk_tolerance: Field<RiskTolerance>,
    /// How experienced they say they are: `beginner`, `intermediate` or `advanced`.
    #[schema(value_type = Option<schema::ExperienceLevel>)]
    experience_level: Field<ExperienceLevel>,
}

impl Body {
    fn command(self, investor_id: InvestorId) -> Result<RegisterInvestor, Rejection> {
        let mut fields = Fields::new();
        let name = self.name.required("name", &mut fields);
        let email = self.email.required("email", &mut fields);
        let risk_tolerance = self.risk_tolerance.optional("risk_tolerance", &mut fields);
        let experience_level = self.experience_level.optional("experience_level", &mut fields);
        let (Some(name), Some(email)) = (name, email) else { return Err(fields.rejection()) };
        fields.finish()?;
        let details = InvestorDetails { name, email };
        Ok(RegisterInvestor { investor_id, details, risk_tolerance, experience_level })
    }
}

/// Register an investor
///
/// Name and e-mail are kept outside the log, so that they can be erased; the log knows an id.
#[utoipa::path(post, path = "/v1/investors", tag = "investors", operation_id = "registerInvestor",
    params(CreateHeaders), request_body = Body,
    responses((status = 201, description = "Registered", body = CommandAnswer), CreateProblems))]
pub(crate) async fn register(
    State(api): State<Arc<Api>>,
    headers: CommandHeaders,
    body: Json<Body>,
) -> Result<Response, Problem> {
    let headers = headers.without_version()?;
    let hash = body.hash(None, &PERSONAL)?;
    let command = body.value.command(InvestorId(Uuid::now_v7()))?;
    let wish = Wish { command: Command::RegisterInvestor(command), headers, hash, occurred_at: None };
    api.create("/v1/investors", wish).await
}
