//! Messages that a resize has moved: their old positions go on meaning them, for as long as anything is
//! known of them.
//!
//! Invariant: a position has moved at most once, and to a number that was new then. So following from
//! place to place ends.

use std::collections::BTreeMap;

use fred::types::Value;

use super::{
    Core,
    redis::{int, list, number},
};
use crate::{
    envelope::Position,
    error::{Error, Result},
};

/// Reads `<partition>-<number>`.
pub(super) fn place(value: &Value) -> Option<Position> {
    let text = value.as_string()?;
    let (partition, number) = text.split_once('-')?;
    Some(Position::new(partition.parse().ok()?, number.parse().ok()?))
}

/// Where a message is now that was accepted at `position`.
pub(super) async fn locate(core: &Core, position: Position) -> Result<Position> {
    let mut at = position;
    while core.was_resized() && at.partition() < core.ever() {
        let to = core.redis.look(at.partition(), "locate", vec![number(at.number())]).await?;
        if to.as_str().is_none_or(|to| to.is_empty()) {
            break;
        }
        at = place(&to).ok_or_else(|| Error::new(format!("where {at} has moved to cannot be read")))?;
    }
    Ok(at)
}

/// Forgets where messages have moved to of which nothing is known there any more: an expired result
/// is one wherever it is looked for. Looks at some each time.
pub(super) async fn forget(core: &Core, partition: u16) -> Result<()> {
    if !core.was_resized() {
        return Ok(());
    }
    let cursor = core.moves.get(&partition).map_or_else(|| "0".to_owned(), |cursor| cursor.clone());
    let mut found = list(core.redis.look(partition, "moves", vec![super::redis::arg(cursor)]).await?).into_iter();
    let next = found.next().and_then(|cursor| cursor.into_string()).unwrap_or_else(|| "0".to_owned());
    core.moves.insert(partition, next);
    let found: Vec<Value> = found.collect();
    let mut there: BTreeMap<u16, Vec<(Value, u64)>> = BTreeMap::new();
    for pair in found.chunks_exact(2) {
        if let Some(to) = place(&pair[1]) {
            there.entry(to.partition()).or_default().push((pair[0].clone(), to.number()));
        }
    }
    for (to, moved) in there {
        let args = moved.iter().map(|(_, there)| number(there)).collect();
        let known = list(core.redis.look(to, "known", args).await?);
        let gone: Vec<Value> =
            moved.into_iter().zip(known).filter(|(_, known)| int(known) == 0).map(|((old, _), _)| old).collect();
        if !gone.is_empty() {
            core.redis.call(partition, "unmove", gone).await?;
        }
    }
    Ok(())
}
