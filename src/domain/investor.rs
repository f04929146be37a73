//! An investor as the log knows one: an id and two self-descriptions. Name and e-mail are not here by design.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fields::Fields;
use super::ids::InvestorId;
use super::rejection::Rejection;

/// Characters of an investor's name.
pub const NAME_CHARS_MAX: usize = 200;
/// Characters of an e-mail address.
pub const EMAIL_CHARS_MAX: usize = 254;

/// What happened to an investor.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
pub enum InvestorEvent {
    /// Someone registered. Their personal data stands in `investor_details`, outside the log.
    InvestorRegistered(InvestorRegistered),
}

/// Payload of `InvestorRegistered`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InvestorRegistered {
    /// The investor.
    pub investor_id: InvestorId,
    /// How much risk they say they bear.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub risk_tolerance: Option<RiskTolerance>,
    /// How experienced they say they are.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub experience_level: Option<ExperienceLevel>,
}

/// Registers an investor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterInvestor {
    /// The id, new.
    pub investor_id: InvestorId,
    /// Who it is.
    pub details: InvestorDetails,
    /// How much risk they say they bear.
    pub risk_tolerance: Option<RiskTolerance>,
    /// How experienced they say they are.
    pub experience_level: Option<ExperienceLevel>,
}

/// Personal data. It never enters the log, and never a log file: it has nothing to show for debugging.
#[derive(Clone, PartialEq, Eq)]
pub struct InvestorDetails {
    /// Name.
    pub name: String,
    /// E-mail, as it was written.
    pub email: String,
}

impl fmt::Debug for InvestorDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InvestorDetails(..)")
    }
}

/// An investor as their stream tells it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Investor {
    registered: Option<InvestorRegistered>,
}

impl Investor {
    /// An investor without events.
    pub fn initial() -> Self {
        Self::default()
    }

    /// Takes in an event.
    pub fn evolve(&mut self, event: &InvestorEvent) {
        match event {
            InvestorEvent::InvestorRegistered(registered) => self.registered = Some(registered.clone()),
        }
    }

    /// What they said of themselves; `None` while there is no such investor.
    pub fn registered(&self) -> Option<&InvestorRegistered> {
        self.registered.as_ref()
    }

    /// For commands that name an investor in the field `investor_id`.
    ///
    /// # Errors
    /// The field, if there is no such investor.
    pub fn require_registered(&self) -> Result<(), Rejection> {
        match self.registered {
            Some(_) => Ok(()),
            None => Err(Rejection::field("investor_id", "is unknown")),
        }
    }
}

/// The fact for the log, and the personal data that is kept beside it.
///
/// # Errors
/// [`Rejection`]: a field is impossible, or the id is taken.
pub fn register(
    investor: &Investor,
    command: &RegisterInvestor,
) -> Result<(InvestorEvent, InvestorDetails), Rejection> {
    if investor.registered.is_some() {
        return Err(Rejection::AlreadyExists { kind: "investor" });
    }
    let mut fields = Fields::new();
    fields.text("name", &command.details.name, NAME_CHARS_MAX);
    fields.text("email", &command.details.email, EMAIL_CHARS_MAX);
    fields.take("email", check_email(&command.details.email));
    fields.finish()?;
    let event = InvestorEvent::InvestorRegistered(InvestorRegistered {
        investor_id: command.investor_id,
        risk_tolerance: command.risk_tolerance,
        experience_level: command.experience_level,
    });
    Ok((event, command.details.clone()))
}

/// One `@` with something on both sides and no spaces: only a message can prove more.
fn check_email(email: &str) -> Result<(), &'static str> {
    let parts = email.split_once('@');
    let valid =
        parts.is_some_and(|(local, host)| !local.is_empty() && !host.is_empty() && !host.contains('@'));
    if !valid || email.contains(char::is_whitespace) {
        return Err("is not an e-mail address");
    }
    Ok(())
}

/// Self-declared risk tolerance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RiskTolerance {
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
}

/// Self-declared experience.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExperienceLevel {
    /// Beginner.
    Beginner,
    /// Intermediate.
    Intermediate,
    /// Advanced.
    Advanced,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(name: &str, email: &str) -> RegisterInvestor {
        RegisterInvestor {
            investor_id: InvestorId(uuid::Uuid::from_u128(1)),
            details: InvestorDetails { name: name.to_owned(), email: email.to_owned() },
            risk_tolerance: Some(RiskTolerance::Low),
            experience_level: None,
        }
    }

    #[test]
    fn personal_data_stays_out_of_the_event_and_of_debug_output() {
        let command = command("Ada Lovelace", "ada@example.org");
        let (event, details) = register(&Investor::initial(), &command).unwrap();
        assert_eq!(details, command.details);
        let shown = format!("{event:?} {command:?}");
        assert!(!shown.contains("Ada") && !shown.contains("example.org"), "{shown}");
    }

    #[test]
    fn an_email_has_one_at_and_no_spaces() {
        for bad in ["", "ada", "@x", "ada@", "a@b@c", "a b@c", "a@b c", "a@b\n"] {
            assert!(register(&Investor::initial(), &command("Ada", bad)).is_err(), "{bad:?}");
        }
        let longest = format!("{}@x", "a".repeat(EMAIL_CHARS_MAX - 2));
        assert!(register(&Investor::initial(), &command("Ada", &longest)).is_ok());
        assert!(register(&Investor::initial(), &command("Ada", &format!("a{longest}"))).is_err());
    }

    #[test]
    fn an_unknown_investor_is_a_field_error() {
        let mut investor = Investor::initial();
        assert_eq!(investor.require_registered(), Err(Rejection::field("investor_id", "is unknown")));
        let (event, _) = register(&investor, &command("Ada", "ada@example.org")).unwrap();
        investor.evolve(&event);
        assert_eq!(investor.require_registered(), Ok(()));
        assert!(register(&investor, &command("Ada", "ada@example.org")).is_err());
    }
}
