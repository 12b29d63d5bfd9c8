//! What a resize would move, read beside running nodes: changes nothing.

use super::{Moves, Resized, allowed, carry::idems, contents::Contents};
use crate::{
    backend::cluster::{Core, nodes},
    error::Result,
};

/// Messages read at once.
const BATCH: usize = 1024;

/// Counts what would move.
pub(super) async fn plan(core: &Core, to: u16) -> Result<Resized> {
    let continued = allowed(core, to)?.is_some();
    let members = nodes::members(core).await?;
    let mut partitions = Vec::new();
    for partition in 0..core.meta.partitions {
        let mut moves = Moves::of(partition);
        let mut contents = Contents::of(core, partition, BATCH).await?;
        loop {
            let items = contents.next().await?;
            if items.is_empty() {
                break;
            }
            items.iter().for_each(|item| moves.count(item, item.belongs(partition, to)));
        }
        let mut cursor = "0".to_owned();
        loop {
            let (next, leaving) = idems(core, partition, to, &cursor).await?;
            moves.keys += leaving.values().map(|records| records.len() as u64).sum::<u64>();
            if next == "0" {
                break;
            }
            cursor = next;
        }
        partitions.push(moves);
    }
    Ok(Resized { from: core.meta.partitions, to, continued, members, partitions })
}
