//! One stored payload of every event version ever released: each must be read for ever, and folded.
//!
//! A file here is never changed. A new shape is a new version with a file of its own, and an upcast.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::Event;
use crate::domain::asset::{Asset, SymbolOwner};
use crate::domain::ids::{Position, Version};
use crate::domain::investor::Investor;
use crate::domain::portfolio::Portfolio;
use crate::domain::portfolio::entry::Entry;
use crate::domain::portfolio::ledger::Ledger;
use crate::domain::price::{HeldPrice, Settlement, settle};
use crate::domain::price_table::PriceTable;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/events")
}

/// Type, schema version and payload of every file, in the order of their names.
pub(super) fn payloads() -> Vec<(String, i16, String)> {
    let mut payloads = Vec::new();
    for file in fs::read_dir(folder()).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let parts: Vec<_> = name.split('.').collect();
        let &[event_type, version, "json"] = &parts[..] else {
            panic!("{name} is not named <type>.v<version>.json")
        };
        let version = version.strip_prefix('v').unwrap().parse().unwrap();
        let payload = fs::read_to_string(&path).unwrap().trim_end().to_owned();
        payloads.push((event_type.to_owned(), version, payload));
    }
    payloads.sort();
    payloads
}

#[test]
fn every_version_of_every_type_has_a_payload() {
    let stored: BTreeSet<_> = payloads().into_iter().map(|(name, version, _)| (name, version)).collect();
    let known: BTreeSet<_> = Event::KINDS
        .iter()
        .flat_map(|kind| (1..=kind.schema_version).map(|version| (kind.event_type.to_owned(), version)))
        .collect();
    assert_eq!(stored, known);
}

#[test]
fn every_payload_is_read_and_the_current_ones_are_written_back_to_the_byte() {
    for (event_type, version, payload) in payloads() {
        let event = Event::decode(&event_type, version, &payload).unwrap();
        assert_eq!(event.kind().event_type, event_type);
        if event.kind().schema_version == version {
            assert_eq!(event.encode(), payload, "{event_type}");
        }
    }
}

#[test]
fn every_payload_folds() {
    let (mut asset, mut owner, mut investor) =
        (Asset::initial(), SymbolOwner::initial(), Investor::initial());
    let (mut portfolio, mut ledger, mut prices) =
        (Portfolio::initial(), Ledger::default(), PriceTable::new());
    let mut held = HeldPrice::initial();
    for (n, (event_type, version, payload)) in (1..).zip(payloads()) {
        match Event::decode(&event_type, version, &payload).unwrap() {
            Event::Investor(event) => investor.evolve(&event),
            Event::Asset(event) => {
                asset.evolve(&event);
                owner.evolve(&event);
                prices.apply_asset(Position(n), &event);
            }
            Event::Portfolio(event) => {
                portfolio.evolve(Version(n), &event);
                if let Some(entry) = Entry::from_event(Position(n), &event) {
                    ledger.apply(&entry);
                }
            }
            Event::Price(event) => {
                prices.apply_prices(Position(n), &event);
            }
            Event::Held(event) => held.evolve(&event),
            Event::Job(_) | Event::Shard(_) => {}
        }
    }
    assert!(investor.registered().is_some() && portfolio.settings().is_some() && asset.listing().is_some());
    assert!(owner.asset_id().is_some() && prices.assets().count() == 1 && ledger.holdings().count() == 1);
    assert_eq!(settle(&held, Settlement::Dismiss), Ok(None));
}
