//! How values look in the OpenAPI document, where the type that holds them cannot say so itself.

use utoipa::ToSchema;

/// A decimal in a string: at most 10 places, no exponent, no trailing zeros. Never a JSON number, which many programs read
/// through a binary float.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = r"^-?\d{1,17}(\.\d{1,10})?$", example = "12.5")]
pub struct Decimal(#[allow(dead_code, reason = "only its description is used")] String);

/// A place in the log, `epoch:position`: what `min_position` takes.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = r"^\d+:\d+$", example = "1:901")]
pub struct Place(#[allow(dead_code, reason = "only its description is used")] String);
