//! Assets: what can be held. Listing claims a unique symbol; price sources are ranked and earnings reported
//! here.

mod decide;
mod earnings;
mod event;
mod state;

pub(crate) use decide::base_of_pair;
pub use decide::{ListAsset, Listed, RankSources, SOURCES_MAX, list, rank_sources};
pub use earnings::{Quarter, ReportEarnings, report_earnings};
pub use event::*;
pub use state::{Asset, Listing, SymbolOwner};
