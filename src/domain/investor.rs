//! An investor as the log knows one: an id and two self-descriptions. Name and e-mail are not here by design.

use serde::{Deserialize, Serialize};

use super::ids::InvestorId;

/// What happened to an investor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvestorEvent {
    /// Someone registered. Their personal data stands in `investor_details`, outside the log.
    InvestorRegistered(InvestorRegistered),
}

/// Payload of `InvestorRegistered`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// Self-declared risk tolerance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExperienceLevel {
    /// Beginner.
    Beginner,
    /// Intermediate.
    Intermediate,
    /// Advanced.
    Advanced,
}
