//! Commands: a POST each, read strictly, run by the write side, answered with the facts it became.

pub(super) mod assets;
pub(super) mod cash;
pub(super) mod earnings;
pub(super) mod held_prices;
pub(super) mod investors;
pub(super) mod jobs;
pub(super) mod portfolio_bulk;
pub(super) mod portfolios;
pub(super) mod prices;
pub(super) mod trades;
