//! Reporting what a share earned in a quarter.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use chrono::NaiveDate;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::Api;
use crate::api::answer::{CommandAnswer, Wish};
use crate::api::body::Json;
use crate::api::fields::Field;
use crate::api::headers::CommandHeaders;
use crate::api::openapi::ChangeProblems;
use crate::api::parameters::ChangeHeaders;
use crate::api::path::InPath;
use crate::api::problem::Problem;
use crate::api::schema::{self, Decimal};
use crate::commands::{AssetRef, Command};
use crate::domain::asset::{Quarter, ReportEarnings};
use crate::domain::currency::Currency;
use crate::domain::fields::Fields;
use crate::domain::money::Amount;
use crate::domain::rejection::Rejection;

/// What was reported.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = ReportEarnings, example = json!({
    "quarter": "2024-Q1", "earnings_per_share": "1.53", "estimate": "1.5", "revenue": "90753000000",
    "reported_on": "2024-05-02"
}))]
pub(crate) struct EarningsBody {
    /// The quarter; it must have begun.
    #[schema(value_type = schema::Quarter)]
    quarter: Field<Quarter>,
    /// Earnings of one share; a loss is negative.
    #[schema(value_type = Decimal)]
    earnings_per_share: Field<Amount>,
    /// What was expected.
    #[schema(value_type = Option<Decimal>)]
    estimate: Field<Amount>,
    /// Revenue.
    #[schema(value_type = Option<Decimal>)]
    revenue: Field<Amount>,
    /// The currency of all three; the asset's if not told.
    #[schema(value_type = Option<String>, max_length = 8)]
    currency: Field<Currency>,
    /// When it was published.
    #[schema(value_type = Option<NaiveDate>)]
    reported_on: Field<NaiveDate>,
}

impl EarningsBody {
    fn command(self) -> Result<ReportEarnings, Rejection> {
        let mut fields = Fields::new();
        let quarter = self.quarter.required("quarter", &mut fields);
        let earnings_per_share = self.earnings_per_share.required("earnings_per_share", &mut fields);
        let estimate = self.estimate.optional("estimate", &mut fields);
        let revenue = self.revenue.optional("revenue", &mut fields);
        let currency = self.currency.optional("currency", &mut fields);
        let reported_on = self.reported_on.optional("reported_on", &mut fields);
        let (Some(quarter), Some(earnings_per_share)) = (quarter, earnings_per_share) else {
            return Err(fields.rejection());
        };
        fields.finish()?;
        Ok(ReportEarnings { quarter, earnings_per_share, estimate, revenue, currency, reported_on })
    }
}

/// Report the earnings of a quarter
///
/// Another report of the same quarter replaces the earlier one; both stay in the log.
#[utoipa::path(post, path = "/v1/assets/{asset}/earnings", tag = "assets", operation_id = "reportEarnings",
    params(("asset" = String, Path, description = "Id or symbol", example = "AAPL"), ChangeHeaders),
    request_body = EarningsBody,
    responses((status = 201, description = "Reported", body = CommandAnswer),
        (status = 200, description = "It was known before", body = CommandAnswer), ChangeProblems))]
pub(crate) async fn report(
    State(api): State<Arc<Api>>,
    InPath(asset): InPath<AssetRef>,
    headers: CommandHeaders,
    body: Json<EarningsBody>,
) -> Result<Response, Problem> {
    let hash = body.hash(headers.if_match, &[])?;
    let command = Command::ReportEarnings { asset, command: body.value.command()? };
    api.change(Wish { command, headers, hash, occurred_at: None }).await
}
