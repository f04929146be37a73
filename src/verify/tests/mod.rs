//! The reference tried by cases worked by hand, on events written as JSON.

mod ledger_by_hand;
mod market_by_hand;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::ledger::Ledger;
use super::reference::Reference;
use super::units::Units;
use crate::domain::ids::{Epoch, Position, StreamId, Version};
use crate::events::{Envelope, EventId};

/// A log that is told event by event, and what the reference makes of it.
#[derive(Default)]
struct Told {
    reference: Reference,
    position: i64,
}

fn u(text: &str) -> Units {
    Units::parse(text).unwrap()
}

fn id(n: u128) -> String {
    Uuid::from_u128(n).to_string()
}

/// The one portfolio of these cases.
const PORTFOLIO: u128 = 0xF0;
/// The one asset that is traded.
const ASSET: u128 = 0xA0;

fn noon() -> DateTime<Utc> {
    "2024-03-01T12:00:00Z".parse().unwrap()
}

impl Told {
    fn event(&mut self, stream: &str, event_type: &str, payload: &Value) -> Envelope {
        self.position += 1;
        let stream_id = StreamId::from(stream);
        Envelope {
            epoch: Epoch(1),
            position: Position(self.position),
            event_id: EventId { command_id: Uuid::from_u128(1), ordinal: 0 },
            shard: stream_id.shard(),
            stream_id,
            version: Version(self.position),
            request_hash: Arc::from([0_u8; 32].as_slice()),
            event_type: event_type.into(),
            schema_version: 1,
            correlation_id: Uuid::nil(),
            causation_position: None,
            occurred_at: noon(),
            recorded_at: noon(),
            payload: payload.to_string().into(),
            metadata: "{}".into(),
        }
    }

    fn tell(&mut self, stream: &str, event_type: &str, payload: Value) {
        let event = self.event(stream, event_type, &payload);
        self.reference.take(&event).unwrap_or_else(|error| panic!("{payload} {error}"));
    }

    /// A portfolio in EUR that keeps cash and allows shorts.
    fn portfolio(cost_basis: &str, fees_in_cost: bool) -> Self {
        let mut told = Self::default();
        told.tell(
            &format!("portfolio-{}", id(PORTFOLIO)),
            "PortfolioOpened",
            json!({"portfolio_id": id(PORTFOLIO), "investor_id": id(1), "name": "P", "base_currency": "EUR",
                "time_zone": "UTC", "cost_basis": cost_basis, "fees_in_cost": fees_in_cost, "cash": "tracked",
                "allow_short": true}),
        );
        told
    }

    /// `day` of January 2024; `what` is `buy` or `sell`.
    fn trade(mut self, what: &str, day: u32, quantity: &str, amount: &str, more: Value) -> Self {
        let mut payload = json!({"asset_id": id(ASSET), "quantity": quantity, "price": "1", "currency": "USD",
            "amount": amount, "fee": "0", "tax": "0", "settle": "asset", "trade_date": format!("2024-01-{day:02}")});
        if let (Some(payload), Value::Object(more)) = (payload.as_object_mut(), more) {
            payload.extend(more);
        }
        let event_type = if what == "buy" { "AssetBought" } else { "AssetSold" };
        self.tell(&format!("portfolio-{}", id(PORTFOLIO)), event_type, payload);
        self
    }

    fn ledger(&self) -> Ledger {
        Ledger::of(&self.reference.portfolios[&id(PORTFOLIO)])
    }
}
