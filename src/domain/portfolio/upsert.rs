//! Opening a portfolio, or making an open one say what is wished: the wish of one line of a bulk.
//!
//! A portfolio that a bulk opens has an id made of its investor and its name, so that a repeat finds it in the log, whatever it
//! is called by then: the line that names it gives it its name back.

use super::command::{ChangeAccounting, OpenPortfolio, PortfolioCommand};
use super::decide::decide;
use super::event::{CashMode, CostBasis, PortfolioEvent};
use super::state::{Portfolio, Settings};
use crate::domain::currency::Currency;
use crate::domain::fields::Fields;
use crate::domain::ids::{InvestorId, PortfolioId};
use crate::domain::rejection::Rejection;
use chrono::{DateTime, Utc};

/// What a portfolio should be like. What is not told stays as it is, or is as when nothing is said at opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpsertPortfolio {
    /// Whose it is.
    pub investor_id: InvestorId,
    /// What it is called.
    pub name: String,
    /// The currency it reports in; needed for one that is not there yet, fixed for one that is.
    pub base_currency: Option<Currency>,
    /// IANA zone; fixed.
    pub time_zone: Option<String>,
    /// Which lots a sale takes.
    pub cost_basis: Option<CostBasis>,
    /// Whether fees and taxes of a buy are part of its cost.
    pub fees_in_cost: Option<bool>,
    /// Whether a cash ledger is kept; fixed.
    pub cash: Option<CashMode>,
    /// Whether more may be sold than is held; fixed.
    pub allow_short: Option<bool>,
}

impl UpsertPortfolio {
    /// The id of the portfolio that this opens.
    pub fn own_id(&self) -> PortfolioId {
        PortfolioId::named(self.investor_id, &self.name)
    }

    /// Whether this portfolio is one that the wish is about, by its investor and the name it has now.
    pub fn names(&self, portfolio: &Portfolio) -> bool {
        portfolio
            .settings()
            .is_some_and(|settings| settings.investor_id == self.investor_id && settings.name == self.name)
    }
}

/// The facts that make a portfolio what is wished; none where it is so already.
///
/// # Errors
/// [`Rejection`]: a field is impossible, or would change what is fixed.
pub fn upsert(
    portfolio: &Portfolio,
    wish: &UpsertPortfolio,
    now: DateTime<Utc>,
) -> Result<Vec<PortfolioEvent>, Rejection> {
    let Some(settings) = portfolio.settings() else {
        let Some(base_currency) = wish.base_currency.clone() else {
            return Err(Rejection::field("base_currency", "is missing: there is no such portfolio yet"));
        };
        let open = OpenPortfolio {
            portfolio_id: wish.own_id(),
            investor_id: wish.investor_id,
            name: wish.name.clone(),
            base_currency,
            time_zone: wish.time_zone.clone(),
            cost_basis: wish.cost_basis.unwrap_or_default(),
            fees_in_cost: wish.fees_in_cost.unwrap_or_default(),
            cash: wish.cash.unwrap_or_default(),
            allow_short: wish.allow_short.unwrap_or_default(),
        };
        return decide(portfolio, None, &PortfolioCommand::Open(open), now);
    };
    check_fixed(settings, wish)?;
    let change = ChangeAccounting {
        name: Some(wish.name.clone()),
        cost_basis: wish.cost_basis,
        fees_in_cost: wish.fees_in_cost,
    };
    decide(portfolio, None, &PortfolioCommand::ChangeAccounting(change), now)
}

/// What was agreed at opening may be said again, and nothing else.
fn check_fixed(settings: &Settings, wish: &UpsertPortfolio) -> Result<(), Rejection> {
    let mut fields = Fields::new();
    if wish.base_currency.as_ref().is_some_and(|told| *told != settings.base_currency) {
        fields.refuse("base_currency", format!("is fixed at opening: it is {}", settings.base_currency));
    }
    if wish.time_zone.as_ref().is_some_and(|told| *told != settings.time_zone.name()) {
        fields.refuse("time_zone", format!("is fixed at opening: it is {}", settings.time_zone.name()));
    }
    fields.require(wish.cash.is_none_or(|told| told == settings.cash), "cash", "is fixed at opening");
    let is_same = wish.allow_short.is_none_or(|told| told == settings.allow_short);
    fields.require(is_same, "allow_short", "is fixed at opening");
    fields.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Version;
    use crate::domain::rejection::FieldError;
    use uuid::Uuid;

    fn wish(name: &str) -> UpsertPortfolio {
        UpsertPortfolio {
            investor_id: InvestorId(Uuid::from_u128(1)),
            name: name.to_owned(),
            base_currency: Some(Currency::usd()),
            time_zone: None,
            cost_basis: None,
            fees_in_cost: None,
            cash: None,
            allow_short: None,
        }
    }

    fn after(wishes: &[UpsertPortfolio]) -> (Portfolio, Vec<usize>) {
        let mut portfolio = Portfolio::initial();
        let mut version = Version(0);
        let counts = wishes.iter().map(|wish| {
            let events = upsert(&portfolio, wish, DateTime::UNIX_EPOCH).unwrap();
            for event in &events {
                version = version.next();
                portfolio.evolve(version, event);
            }
            events.len()
        });
        let counts = counts.collect();
        (portfolio, counts)
    }

    #[test]
    fn what_is_missing_is_opened_and_what_is_so_already_changes_nothing() {
        let average = UpsertPortfolio { cost_basis: Some(CostBasis::Average), ..wish("Growth") };
        let (portfolio, counts) =
            after(&[wish("Growth"), wish("Growth"), average.clone(), average, wish("Growth")]);
        assert_eq!(counts, [1, 0, 1, 0, 0]);
        let settings = portfolio.settings().unwrap();
        assert_eq!(settings.portfolio_id, wish("Growth").own_id());
        assert_eq!(settings.accounting.cost_basis, CostBasis::Average);
        assert_ne!(wish("Growth").own_id(), wish("growth").own_id());
    }

    #[test]
    fn what_is_fixed_stays_and_what_is_new_needs_a_currency() {
        let (portfolio, _) = after(&[wish("Growth")]);
        let other = UpsertPortfolio {
            base_currency: Some("EUR".parse().unwrap()),
            time_zone: Some("Europe/Lisbon".to_owned()),
            cash: Some(CashMode::Tracked),
            allow_short: Some(true),
            ..wish("Growth")
        };
        let Err(Rejection::InvalidFields(errors)) = upsert(&portfolio, &other, DateTime::UNIX_EPOCH) else {
            panic!("must be refused")
        };
        let fields: Vec<_> = errors.into_iter().map(|FieldError { field, .. }| field).collect();
        assert_eq!(fields, ["base_currency", "time_zone", "cash", "allow_short"]);
        let bare = UpsertPortfolio { base_currency: None, ..wish("Growth") };
        assert!(upsert(&portfolio, &bare, DateTime::UNIX_EPOCH).unwrap().is_empty());
        assert!(upsert(&Portfolio::initial(), &bare, DateTime::UNIX_EPOCH).is_err());
    }
}
