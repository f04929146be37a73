//! What was judged becomes commands. Each id is a function of what is appended and of the events that it replaces.
//!
//! So the same answer fetched twice, by two processes at once or after a crash, is one command; and a price that goes there,
//! back and there again is three. A command is one event of at most a thousand prices, and read models take events as a
//! whole: after a crash the rest is cut as it was before.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;
use uuid::Uuid;

use super::judge::{Doubt, Judged};
use super::seen::{Seen, When};
use super::target::Target;
use crate::commands::{Answer, AssetRef, Command, Commands, ObservedPrices, Refusal, Request};
use crate::domain::asset::RankSources;
use crate::domain::ids::{HeldId, Position};
use crate::domain::price::{PRICES_PER_EVENT_MAX, PriceHeld, PriceLine, Settlement};
use crate::domain::rejection::Rejection;

/// Who fetches, as the log knows it.
const ACTOR: &str = "market-data";
/// Names in this space make ids of commands.
const COMMANDS: Uuid = Uuid::from_u128(0x92d3_0f5b_8a41_4c6e_b7d2_1e60_54fa_93c8);
/// How long one command may take.
const COMMAND_WITHIN: Duration = Duration::from_secs(20);
/// How often one is sent when the log is busy.
const ATTEMPTS: u32 = 3;

/// What was appended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Appended {
    /// Prices that are in the log now and were not before.
    pub prices: u64,
    /// Prices that wait for a word.
    pub held: u64,
}

/// Appends what was judged of one asset. `series` is the name that the prices stand under.
///
/// # Errors
/// Why not all of it could be appended. What could be stays; fetching again finishes the rest.
pub async fn append(
    commands: &Commands,
    target: &Target,
    series: &str,
    judged: &Judged,
    correlation_id: Uuid,
) -> Result<Appended, String> {
    let mut appended = Appended::default();
    let is_first = !judged.take.is_empty() || !judged.hold.is_empty();
    if let Some((ranking, version)) = target.declare.as_ref().filter(|_| is_first) {
        let command = Command::RankSources {
            asset: AssetRef::Id(target.asset_id),
            command: RankSources { sources: ranking.clone() },
        };
        let said = format!("declare\n{version}\n{ranking:?}");
        let mut request = request(command, id(target, series, &said), correlation_id);
        request.if_match = Some(*version);
        execute(commands, &request).await?;
    }
    for chunk in judged.take.chunks(PRICES_PER_EVENT_MAX) {
        let observed = ObservedPrices {
            command_id: id(target, series, &content(chunk)),
            actor: ACTOR.into(),
            correlation_id,
            asset_id: target.asset_id,
            lines: chunk.iter().map(|(seen, _)| line(seen, series)).collect(),
            deadline: Instant::now() + COMMAND_WITHIN,
        };
        if !observe(commands, &observed).await? {
            appended.prices += chunk.len() as u64;
        }
    }
    for held_id in &judged.dismiss {
        dismiss(commands, *held_id, correlation_id).await?;
    }
    for Doubt { seen, last, reason, after, told_anew } in &judged.hold {
        let (at, day) = at_and_day(seen.when);
        let held_id = HeldId::of(target.asset_id, series, at, day, seen.price, *after);
        let command = Command::HoldPrice(PriceHeld {
            held_id,
            asset_id: target.asset_id,
            source: series.to_owned(),
            currency: target.subject.currency.clone(),
            at,
            day,
            price: seen.price,
            volume: seen.volume,
            last_price: *last,
            reason: reason.clone(),
            told_anew: *told_anew,
        });
        let command_id = Uuid::new_v5(&COMMANDS, held_id.0.as_bytes());
        let answer = execute(commands, &request(command, command_id, correlation_id)).await?;
        // What is no event is in no list of waiting ones.
        appended.held += u64::from(!answer.events.is_empty());
    }
    Ok(appended)
}

/// Whether the log had them before.
async fn observe(commands: &Commands, observed: &ObservedPrices) -> Result<bool, String> {
    let mut attempt = 1;
    loop {
        let wanted = ObservedPrices { deadline: Instant::now() + COMMAND_WITHIN, ..observed.clone() };
        match commands.observe_prices(wanted).await {
            Ok(appended) => return Ok(appended.before),
            Err(refusal) => wait(refusal, &mut attempt).await?,
        }
    }
}

/// Another price stands at the time of a held one. Whoever said a word about it meanwhile was first.
async fn dismiss(commands: &Commands, held_id: HeldId, correlation_id: Uuid) -> Result<(), String> {
    let command = Command::SettlePrice { held_id, settlement: Settlement::Dismiss };
    let command_id = Uuid::new_v5(&COMMANDS, format!("dismiss\n{held_id}").as_bytes());
    let mut attempt = 1;
    loop {
        match commands.execute(request(command.clone(), command_id, correlation_id)).await {
            Ok(_) | Err(Refusal::Rejected(Rejection::AlreadySettled { .. })) => return Ok(()),
            Err(refusal) => wait(refusal, &mut attempt).await?,
        }
    }
}

async fn execute(commands: &Commands, request: &Request) -> Result<Answer, String> {
    let mut attempt = 1;
    loop {
        let wanted = Request { deadline: Instant::now() + COMMAND_WITHIN, ..request.clone() };
        match commands.execute(wanted).await {
            Ok(answer) => return Ok(answer),
            Err(refusal) => wait(refusal, &mut attempt).await?,
        }
    }
}

/// A busy log is asked again, since a command has one effect however often it is sent.
async fn wait(refusal: Refusal, attempt: &mut u32) -> Result<(), String> {
    match refusal {
        Refusal::Busy { retry_after_seconds, .. } if *attempt < ATTEMPTS => {
            *attempt += 1;
            tokio::time::sleep(Duration::from_secs(retry_after_seconds)).await;
            Ok(())
        }
        refusal => Err(format!("could not be stored: {refusal}")),
    }
}

fn request(command: Command, command_id: Uuid, correlation_id: Uuid) -> Request {
    Request {
        command,
        command_id,
        request_hash: Arc::from(&Sha256::digest(command_id.as_bytes())[..]),
        actor: ACTOR.into(),
        correlation_id,
        if_match: None,
        occurred_at: None,
        deadline: Instant::now() + COMMAND_WITHIN,
    }
}

fn id(target: &Target, series: &str, content: &str) -> Uuid {
    Uuid::new_v5(&COMMANDS, format!("{}\n{series}\n{content}", target.asset_id).as_bytes())
}

/// What is appended, and the event that each price replaces.
fn content(chunk: &[(Seen, Position)]) -> String {
    let line = |(seen, replaced): &(Seen, Position)| {
        // A tick's instant to the microsecond, as it is kept.
        let when = match seen.when {
            When::At(at) => at.timestamp_micros().to_string(),
            When::Day(day) => day.to_string(),
        };
        format!("{when} {} {replaced}\n", seen.price)
    };
    chunk.iter().map(line).collect()
}

fn line(seen: &Seen, series: &str) -> PriceLine {
    let (at, day) = at_and_day(seen.when);
    PriceLine {
        price: seen.price,
        at,
        day,
        source: Some(series.to_owned()),
        volume: seen.volume,
        currency: None,
    }
}

fn at_and_day(when: When) -> (Option<chrono::DateTime<chrono::Utc>>, Option<chrono::NaiveDate>) {
    match when {
        When::At(at) => (Some(at), None),
        When::Day(day) => (None, Some(day)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(price: &str, replaced: i64) -> Vec<(Seen, Position)> {
        let when = When::Day("2024-03-01".parse().unwrap());
        vec![(Seen { when, price: price.parse().unwrap(), volume: None }, Position(replaced))]
    }

    #[test]
    fn a_price_that_goes_there_and_back_and_there_again_is_three_contents() {
        assert_eq!(content(&chunk("5", 0)), content(&chunk("5.0", 0)));
        assert_ne!(content(&chunk("5", 0)), content(&chunk("6", 0)));
        assert_ne!(content(&chunk("5", 0)), content(&chunk("5", 9)));
    }
}
