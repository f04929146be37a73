//! How values look in the OpenAPI document, where the type that holds them cannot say so itself.

use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::fields::FieldValue;
use crate::domain::portfolio::event;
use crate::domain::{asset, investor, job};

/// A decimal in a string: at most 10 places, no exponent, no trailing zeros. Never a JSON number, which many programs read
/// through a binary float.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = r"^-?\d{1,17}(\.\d{1,10})?$", example = "12.5")]
pub struct Decimal(#[allow(dead_code, reason = "only its description is used")] String);

/// A place in the log, `epoch:position`: what `min_position` takes.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = r"^\d+:\d+$", example = "1:901")]
pub struct Place(#[allow(dead_code, reason = "only its description is used")] String);

/// A quarter of a year.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = r"^\d{4}-Q[1-4]$", example = "2024-Q1")]
pub struct Quarter(#[allow(dead_code, reason = "only its description is used")] String);

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident = $type:ty;)*) => {$(
        $(#[$doc])*
        pub struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let words = <$type>::WORDS.iter().copied();
                ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).into()
            }
        }

        impl ToSchema for $name {}
    )*};
}

words! {
    /// How much risk someone says they bear.
    RiskTolerance = investor::RiskTolerance;
    /// How experienced someone says they are.
    ExperienceLevel = investor::ExperienceLevel;
    /// Kind of asset.
    AssetClass = asset::AssetClass;
    /// What a series of prices is corrected for backwards.
    Adjustment = asset::Adjustment;
    /// Which lots a sale takes.
    CostBasis = event::CostBasis;
    /// Whether a cash ledger is kept.
    CashMode = event::CashMode;
    /// In which currency a trade is paid.
    Settlement = event::Settlement;
    /// What a job does.
    JobKind = job::JobKind;
    /// What happens at a due time while an earlier run is open.
    Overlap = job::Overlap;
    /// Why there is a run.
    Trigger = job::Trigger;
    /// What became of a run.
    RunState = super::read::jobs::RunState;
}
