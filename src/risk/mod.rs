//! Numerics of risk: pure, deterministic to the bit on any number of threads. No I/O, no clock, no hidden randomness.
//!
//! Every method is a *scenario matrix* R (scenarios × columns) times an *exposure vector* v:
//!
//! | step | where |
//! | --- | --- |
//! | closes and what may be asked of them | [`inputs`] |
//! | days that a return is made for, and the returns | [`calendar`], [`returns`], [`columns`] |
//! | three matrices of one history, and their name | [`model`]: [`historical`], [`filtered_historical`], [`monte_carlo`] |
//! | covariance, its components, addressed random numbers | [`covariance`], [`principal_components`], [`eigen`]; [`philox`], [`normal`], [`chi_square`] |
//! | a portfolio's exposures, and its profit in every scenario | [`exposure`], [`scenarios`] |
//! | its worst losses, and the figures with their intervals | [`tail`], [`value_at_risk`], [`expected_shortfall`]; [`quantile`], [`binomial`], [`replicates`] |
//! | figures of the whole return series | [`volatility`], [`sharpe`] |
//! | all tail figures at once, and the answer | [`engine`], [`figures`] |
//!
//! Why the bytes are the same anywhere: random numbers are addressed, not drawn; every sum has one order, whoever
//! computes it; no fused multiply-add; transcendental functions come from `libm`, not from the platform.
//!
//! A loss is positive and nothing is clamped: a figure may be negative. A figure that cannot be had is absent with
//! a reason, never invented.

pub mod binomial;
pub mod calendar;
pub mod chi_square;
pub mod columns;
pub mod covariance;
pub mod eigen;
pub mod engine;
mod error;
pub mod expected_shortfall;
pub mod exposure;
pub mod figures;
pub mod filtered_historical;
pub mod historical;
pub mod inputs;
pub mod model;
pub mod monte_carlo;
pub mod normal;
pub mod philox;
pub mod pool;
pub mod principal_components;
pub mod quantile;
pub mod replicates;
pub mod returns;
pub mod scenarios;
pub mod sharpe;
pub mod tail;
pub mod value_at_risk;
pub mod volatility;

pub use error::Error;
pub use exposure::{Column, ExposureVector};
pub use figures::{ColumnId, Estimate, Exclusion, Figures, Method, MethodFigures, Missing, TailFigures};
pub use inputs::{AssetCloses, ModelInputs, RateCloses};
pub use model::MarketModel;
pub use monte_carlo::Settings;
pub use pool::Pool;
pub use quantile::Confidence;
pub use scenarios::Scenarios;

/// Raised with every change that may alter a figure's bytes; every row of figures names it.
pub const ENGINE_VERSION: u32 = 1;

/// The currency all scenarios are in.
pub const NUMERAIRE: &str = "USD";
