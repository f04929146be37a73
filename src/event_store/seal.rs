//! What a seal is a hash of. Pure.
//!
//! ```text
//! event hash  = SHA-256( field field field … )        field = length (4 bytes), then so many bytes
//! seal        = SHA-256( seal before it, event hash, event hash, … )
//! ```
//!
//! The fields are the columns of `events` in the order of the table, numbers in network byte order. Absent is the length
//! `ff ff ff ff` and nothing.
//!
//! | column | bytes |
//! | --- | --- |
//! | `position`, `version`, `causation_position` | 8 |
//! | `ordinal` | 4 |
//! | `shard`, `schema_version` | 2 |
//! | `command_id`, `correlation_id` | the 16 of the UUID |
//! | `occurred_at`, `recorded_at` | 8: microseconds since 1970-01-01T00:00:00Z |
//! | `stream_id`, `event_type`, `payload`, `metadata` | UTF-8, exactly as stored |
//! | `request_hash` | as stored |
//!
//! A block is 4,096 events: positions 1 to 4096, and so on. The seal before the first block is 32 zero bytes. A seal in
//! the middle of a block is made in the same way of the events so far, so a small log has one too. PostgreSQL can compute all of
//! it with `sha256`, `int4send` and `||`, and a test lets it.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::domain::ids::Position;
use crate::events::Envelope;

/// Events under one stored seal.
pub const BLOCK: i64 = 4096;
/// Bytes of an event's hash that stand beside a stored seal.
pub const MARK_BYTES: usize = 8;

/// Proof of every event up to a position.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seal(pub [u8; 32]);

/// A seal and where it stands: what one keeps elsewhere, as `POSITION:HEX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealAt {
    /// The last event it is made of.
    pub position: Position,
    /// The seal.
    pub seal: Seal,
}

/// The seal as it grows event by event.
#[derive(Debug, Clone)]
pub struct Chain {
    position: Position,
    before: Seal,
    block: Sha256,
}

/// SHA-256 of an event's exact bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventHash(pub [u8; 32]);

impl EventHash {
    /// Of this event.
    pub fn of(event: &Envelope) -> Self {
        let mut fields = Fields(Sha256::new());
        fields.add(&event.position.0.to_be_bytes());
        fields.add(event.event_id.command_id.as_bytes());
        fields.add(&event.event_id.ordinal.to_be_bytes());
        fields.add(event.stream_id.as_str().as_bytes());
        fields.add(&event.version.0.to_be_bytes());
        fields.add(&event.shard.0.to_be_bytes());
        fields.add(event.event_type.as_bytes());
        fields.add(&event.schema_version.to_be_bytes());
        fields.add(&event.request_hash);
        fields.add(event.correlation_id.as_bytes());
        match event.causation_position {
            Some(position) => fields.add(&position.0.to_be_bytes()),
            None => fields.0.update(u32::MAX.to_be_bytes()),
        }
        fields.add(&event.occurred_at.timestamp_micros().to_be_bytes());
        fields.add(&event.recorded_at.timestamp_micros().to_be_bytes());
        fields.add(event.payload.as_bytes());
        fields.add(event.metadata.as_bytes());
        Self(fields.0.finalize().into())
    }

    /// What is kept of it beside the seal: enough to find an event, not to prove it.
    pub fn mark(&self) -> [u8; MARK_BYTES] {
        let mut mark = [0; MARK_BYTES];
        mark.copy_from_slice(&self.0[..MARK_BYTES]);
        mark
    }
}

struct Fields(Sha256);

impl Fields {
    fn add(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).expect("an event is far smaller than 4 GiB");
        self.0.update(length.to_be_bytes());
        self.0.update(bytes);
    }
}

impl Seal {
    /// Before the first event.
    pub const ORIGIN: Self = Self([0; 32]);
}

impl Chain {
    /// Goes on from a seal at the end of a block; from [`Seal::ORIGIN`] at position 0.
    pub fn after(position: Position, seal: Seal) -> Self {
        Self { position, before: seal, block: Sha256::new().chain_update(seal.0) }
    }

    /// Takes in the next event; gives the seal of a block that it completes.
    pub fn add(&mut self, hash: &EventHash) -> Option<Seal> {
        self.block.update(hash.0);
        self.position.0 += 1;
        if self.position.0 % BLOCK != 0 {
            return None;
        }
        *self = Self::after(self.position, Seal(self.block.clone().finalize().into()));
        Some(self.before)
    }

    /// The seal as of now.
    pub fn seal(&self) -> SealAt {
        let is_whole = self.position.0 % BLOCK == 0;
        let seal = if is_whole { self.before } else { Seal(self.block.clone().finalize().into()) };
        SealAt { position: self.position, seal }
    }
}

impl fmt::Display for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SealAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.position, self.seal)
    }
}

impl FromStr for SealAt {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const REASON: &str = "is not a seal: POSITION:HEX, with 64 hexadecimal digits";
        let (position, digits) = text.trim().split_once(':').ok_or(REASON)?;
        let position: i64 = position.parse().ok().filter(|position| *position > 0).ok_or(REASON)?;
        let is_hash = digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let mut seal = Seal::ORIGIN;
        for (byte, pair) in seal.0.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).ok().filter(|_| is_hash).ok_or(REASON)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| REASON)?;
        }
        if is_hash { Ok(Self { position: Position(position), seal }) } else { Err(REASON) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_is_read_as_it_is_written() {
        let seal = Seal(std::array::from_fn(|n| u8::try_from(n * 7).unwrap()));
        let text = SealAt { position: Position(4711), seal }.to_string();
        assert_eq!(text.parse(), Ok(SealAt { position: Position(4711), seal }));
        let hex = seal.to_string();
        assert_eq!(format!(" 1:{}\n", hex.to_uppercase()).parse::<SealAt>().map(|it| it.seal), Ok(seal));
        for bad in [
            "",
            "1",
            "1:",
            "0:",
            "x:00",
            &format!("0:{hex}"),
            &format!("1:{hex}0"),
            &format!("1:é{}", &hex[2..]),
        ] {
            assert!(bad.parse::<SealAt>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_chain_that_goes_on_from_a_seal_ends_where_one_from_the_beginning_ends() {
        let hashes: Vec<EventHash> =
            (0..10_000_u64).map(|n| EventHash(Sha256::digest(n.to_be_bytes()).into())).collect();
        let mut whole = Chain::after(Position(0), Seal::ORIGIN);
        assert_eq!(whole.seal().seal, Seal::ORIGIN);
        let seals: Vec<Seal> = hashes.iter().filter_map(|hash| whole.add(hash)).collect();
        assert_eq!(seals.len(), 2);
        let mut rest = Chain::after(Position(8192), seals[1]);
        assert_eq!(rest.seal(), SealAt { position: Position(8192), seal: seals[1] });
        assert!(hashes[8192..].iter().all(|hash| rest.add(hash).is_none()));
        assert_eq!(rest.seal(), whole.seal());
        assert_eq!(rest.seal().position, Position(10_000));
    }
}
