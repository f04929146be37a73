//! One frozen payload of every version of every event type: this program must read each of them, and write the current ones back
//! to the byte. A log that was written years ago can only be trusted to a program that passes.

use super::payload::Payload;
use super::report::Report;
use crate::events::Event;

macro_rules! frozen {
    ($($event_type:ident $version:literal),* $(,)?) => {
        const FROZEN: &[(&str, i16, &str)] = &[$((
            stringify!($event_type),
            $version,
            include_str!(concat!("../../tests/data/events/", stringify!($event_type), ".v", $version, ".json")),
        )),*];
    };
}

frozen![
    AccountingChanged 1,
    AssetBought 1,
    AssetDelisted 1,
    AssetListed 1,
    AssetRenamed 1,
    AssetSold 1,
    CashDeposited 1,
    CashWithdrawn 1,
    ClosesObserved 1,
    EarningsReported 1,
    HeldPriceAccepted 1,
    HeldPriceDismissed 1,
    InvestorRegistered 1,
    JobChanged 1,
    JobDefined 1,
    JobRemoved 1,
    PortfolioOpened 1,
    PriceHeld 1,
    PriceSourcesRanked 1,
    PriceVoided 1,
    PricesObserved 1,
    RiskRecomputeRequested 1,
    RunCancelled 1,
    RunFailed 1,
    RunFinished 1,
    RunScheduled 1,
    RunSkipped 1,
    SplitDeclared 1,
    SymbolClaimed 1,
];

/// Reads and writes every one of them.
pub(super) fn check(report: &mut Report) {
    for kind in Event::KINDS {
        for version in 1..=kind.schema_version {
            let place = format!("frozen payload of {} version {version}", kind.event_type);
            let frozen = FROZEN.iter().find(|(name, of, _)| *name == kind.event_type && *of == version);
            match frozen.map(|(name, version, payload)| wrong(name, *version, payload.trim_end())) {
                None => report.differs(place, "is missing from this program"),
                Some(Some(found)) => report.differs(place, found),
                Some(None) => {}
            }
        }
    }
}

fn wrong(event_type: &str, version: i16, payload: &str) -> Option<String> {
    if let Err(error) = Payload::parse(payload) {
        return Some(error.to_string());
    }
    let event = match Event::decode(event_type, version, payload) {
        Ok(event) => event,
        Err(error) => return Some(error.to_string()),
    };
    let written = event.encode();
    let again = Event::decode(event.kind().event_type, event.kind().schema_version, &written);
    let is_stable = again.is_ok_and(|again| again == event);
    let is_same = event.kind().schema_version != version || written == payload;
    (!is_stable || !is_same).then(|| format!("is written back as {written}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_here_and_passes_and_a_changed_one_does_not() {
        let mut report = Report::default();
        check(&mut report);
        assert!(report.is_clean(), "{report}");
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/events")).unwrap();
        assert_eq!(files.count(), FROZEN.len());
        let (name, version, payload) = FROZEN[1];
        assert!(wrong(name, version, &payload.replacen("\":\"", "\": \"", 1)).is_some());
        assert!(wrong(name, version, "{}").is_some());
    }
}
