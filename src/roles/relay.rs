//! The role `relay`: log to Kafka.

use super::process::{Process, need_kafka};
use crate::relay;

pub(super) fn spawn(process: &Process) -> anyhow::Result<()> {
    let kafka = need_kafka(&process.settings)?;
    let (pool, cancel) = (process.pool.clone(), process.shutdown.token());
    process.shutdown.spawn("relay", relay::run(kafka, pool, cancel));
    Ok(())
}
