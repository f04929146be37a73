//! Market model from closes, a portfolio's figures from a model: for the risk role and for what-if questions.
//!
//! But for [`load_inputs`] and [`load_asset_moves`] what is here is pure. The first fills [`ModelInputs`] from the rows of `prices`, for [`MarketModel::build`]:
//!
//! | field | what to load |
//! | --- | --- |
//! | `cut` | the market position p up to which everything below was read: closes at positions ≤ p, no later |
//! | `assets` | every listed asset of any class but `fx`, with its closes of the best-ranked source, in whole units of its currency (times `quote_unit`), divided by the ratio of each later split if the series is unadjusted; void closes left out; the last value of a day only; at least the last `window` × 1.6 calendar days |
//! | `rates` | for every other currency in use, US dollars for one unit: `EURUSD` as it is, the reciprocal of `USDJPY`; never one for `USD` itself |
//! | `window`, `settings` | as configured; they are part of the model's hash |
//!
//! Order does not matter. The hash covers every close given, so load the same span for the same cut, always.

mod asset_moves;
mod coverage;
mod load;
mod portfolio_figures;

pub use asset_moves::{AssetMoves, Figures as MoveFigures, Move, load_asset_moves};
pub use coverage::Exposure;
pub use load::load_inputs;
pub use portfolio_figures::portfolio_figures;

pub use crate::risk::{AssetCloses, ColumnId, Figures, MarketModel, ModelInputs, Pool, RateCloses, Settings};
