//! Looking after the topics while nothing is sent to them.
//!
//! An acknowledgement tells of a topic that was lost or made anew, but only where there is something to send. So every few
//! seconds the brokers are asked, beside everything else, whether each partition still ends where it did. One that ends earlier has
//! lost what was acknowledged, and is to be relayed anew. Brokers that do not answer say nothing about that.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::window::Window;
use crate::domain::ids::Shard;
use crate::kafka::scan::{self, Extent};
use crate::kafka::{self, KafkaSettings, topics};

/// The pause between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What is gone, though it was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loss {
    /// A shard of the topic.
    pub(super) shard: Shard,
    /// For people.
    pub(super) reason: String,
}

/// One look after the other.
#[derive(Debug)]
pub(super) struct Look {
    due: Instant,
    asking: Option<AbortOnDropHandle<Result<Option<Loss>, kafka::Error>>>,
}

impl Look {
    pub(super) fn new() -> Self {
        Self { due: Instant::now() + LOOK_EVERY, asking: None }
    }

    /// What the last look has found, once; begins the next one when it is due. Waits for nobody.
    pub(super) async fn found(&mut self, settings: &KafkaSettings, window: &Window) -> Option<Loss> {
        if let Some(asking) = self.asking.take_if(|asking| asking.is_finished()) {
            self.due = Instant::now() + LOOK_EVERY;
            // Without an answer there is nothing to say: brokers that are away are noticed by who sends.
            return asking
                .await
                .ok()?
                .inspect_err(|error| tracing::debug!(%error, "no look at topics"))
                .ok()?;
        }
        if self.asking.is_none() && Instant::now() >= self.due {
            // As of now: what is acknowledged later may stand behind what the brokers tell.
            let asking = tokio::spawn(ask(settings.clone(), window.ends()));
            self.asking = Some(AbortOnDropHandle::new(asking));
        }
        None
    }
}

async fn ask(settings: KafkaSettings, ends: BTreeMap<Shard, i64>) -> Result<Option<Loss>, kafka::Error> {
    // About a topic that is not there, a broker is asked for offsets in vain for a long time.
    let described = topics::describe(&settings).await?;
    if let Some(missing) = described.iter().find(|topic| topic.partitions.is_none()) {
        let reason = format!("the topic {} is gone", missing.name);
        return Ok(Some(Loss { shard: Shard(missing.declared.first_shard), reason }));
    }
    let extents = scan::extents(&settings, ends.keys().copied().collect()).await?;
    Ok(loss(&ends, &extents))
}

/// The first partition that ends before the offset that it had reached.
fn loss(ends: &BTreeMap<Shard, i64>, extents: &BTreeMap<Shard, Extent>) -> Option<Loss> {
    let lost = ends.iter().find_map(|(shard, before)| {
        let now = extents.get(shard)?.end;
        (now < *before).then_some((*shard, *before, now))
    });
    lost.map(|(shard, before, now)| {
        let reason = format!("shard {shard}: the topic ended at offset {before} and now ends at {now}");
        Loss { shard, reason }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_ends_earlier_than_it_did_has_lost_something() {
        let ends = BTreeMap::from([(Shard(0), 5), (Shard(1), 7), (Shard(2), 0)]);
        let extents = |ends: [i64; 3]| {
            (0..).map(Shard).zip(ends).map(|(shard, end)| (shard, Extent { low: 0, end })).collect()
        };
        assert_eq!(loss(&ends, &extents([5, 7, 0])), None);
        assert_eq!(loss(&ends, &extents([9, 7, 1])), None, "what has come since");
        assert_eq!(loss(&ends, &extents([5, 6, 0])).map(|loss| loss.shard), Some(Shard(1)));
        assert_eq!(loss(&ends, &BTreeMap::new()), None, "nobody has said anything");
    }
}
