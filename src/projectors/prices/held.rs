//! Prices that wait for a word: what a batch has told of them, and how it becomes rows.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::domain::ids::{AssetId, HeldId, Position};
use crate::domain::money::Quantity;
use crate::domain::price::{HeldEvent, PriceHeld};
use crate::projectors::column;
use crate::projectors::copy::{Table, Written};

type Key = (AssetId, HeldId);

/// What a batch has told.
#[derive(Debug, Default)]
pub(super) struct Held {
    new: BTreeMap<Key, NewRow>,
    /// Of rows that stand already.
    settled: BTreeMap<Key, State>,
}

#[derive(Debug)]
struct NewRow {
    held: PriceHeld,
    held_at: DateTime<Utc>,
    state: State,
}

#[derive(Debug, Clone, Copy)]
struct State {
    name: &'static str,
    position: Position,
}

impl Held {
    /// Takes in the next event.
    pub(super) fn apply(&mut self, position: Position, recorded_at: DateTime<Utc>, event: &HeldEvent) {
        let (asset_id, held_id, name) = match event {
            HeldEvent::PriceHeld(held) => {
                let state = State { name: "waiting", position };
                let row = NewRow { held: held.clone(), held_at: recorded_at, state };
                self.new.insert((held.asset_id, held.held_id), row);
                return;
            }
            HeldEvent::HeldPriceAccepted(it) => (it.asset_id, it.held_id, "accepted"),
            HeldEvent::HeldPriceDismissed(it) => (it.asset_id, it.held_id, "dismissed"),
        };
        let state = State { name, position };
        match self.new.get_mut(&(asset_id, held_id)) {
            Some(row) => row.state = state,
            None => drop(self.settled.insert((asset_id, held_id), state)),
        }
    }

    /// Writes what was told since the last time.
    pub(super) async fn flush(&mut self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        let new: Vec<NewRow> = std::mem::take(&mut self.new).into_values().collect();
        if !new.is_empty() {
            sqlx::query_file!(
                "projections/prices/insert_held_prices.sql",
                &column(&new, |row| row.held.asset_id.0),
                &column(&new, |row| row.held.held_id.0),
                &column(&new, |row| row.held.source.clone()),
                &column(&new, |row| row.held.at) as _,
                &column(&new, |row| row.held.day) as _,
                &column(&new, |row| row.held.price.decimal()),
                &column(&new, |row| row.held.volume.map(Quantity::decimal)) as _,
                &column(&new, |row| row.held.last_price.decimal()),
                &column(&new, |row| row.held.reason.clone()),
                &column(&new, |row| row.held_at),
                &column(&new, |row| row.state.name.to_owned()),
                &column(&new, |row| row.state.position.0),
            )
            .execute(&mut *conn)
            .await?;
        }
        let settled: Vec<(Key, State)> = std::mem::take(&mut self.settled).into_iter().collect();
        if !settled.is_empty() {
            sqlx::query_file!(
                "projections/prices/update_held_prices.sql",
                &column(&settled, |((asset, _), _)| asset.0),
                &column(&settled, |((_, held), _)| held.0),
                &column(&settled, |(_, state)| state.name.to_owned()),
                &column(&settled, |(_, state)| state.position.0),
            )
            .execute(conn)
            .await?;
        }
        Ok(())
    }

    /// Writes all rows, as a rebuild does, which has seen every event.
    pub(super) async fn copy(&self, conn: &mut PgConnection) -> Result<Written, sqlx::Error> {
        const COLUMNS: &str = "asset_id, held_id, source, at, day, price, volume, last_price, reason, held_at, state, \
            position";
        let mut table = Table::open(conn, "held_prices", COLUMNS).await?;
        for NewRow { held, held_at, state } in self.new.values() {
            table
                .push(&[
                    &held.asset_id.0,
                    &held.held_id.0,
                    &held.source.as_str(),
                    &held.at,
                    &held.day,
                    &held.price.decimal(),
                    &held.volume.map(Quantity::decimal),
                    &held.last_price.decimal(),
                    &held.reason.as_str(),
                    held_at,
                    &state.name,
                    &state.position.0,
                ])
                .await?;
        }
        table.finish().await
    }
}
