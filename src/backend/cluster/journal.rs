//! Journals of running commands, each a list of its own beside the partition's other keys.
//!
//! Invariant: entries are appended by the very call that does the rest of their commit, and that only
//! while their message waits; whatever ends or forgets the message does the same to its journal. In the
//! bytes of a commit journals come last and only where there are some, so a commit without them is what
//! it was before there were any, and costs no more.

use super::{
    Cluster, moved,
    pack::Packer,
    redis::{int, list, number, raw},
};
use crate::{
    backend::{Commit, Fut, Journals},
    envelope::Position,
    error::Result,
};

/// Whether a commit says more than one could say before there were journals.
pub(super) fn concerns(commit: &Commit) -> bool {
    let waits_alone = commit.deferred.iter().any(|deferral| !deferral.blocks);
    waits_alone || !commit.journals.is_empty() || commit.done.iter().any(|done| done.journal)
}

/// `{number flags entries …}`, then the deferred messages that their key does not wait for, then those
/// that end and have a journal.
pub(super) fn pack(packer: &mut Packer, commit: &Commit) {
    packer.array(commit.journals.len() * 3);
    for written in &commit.journals {
        packer.int(written.position.number() as i64).int(i64::from(written.own) + 2 * i64::from(written.wake));
        packer.array(written.entries.len());
        for entry in &written.entries {
            packer.bytes(entry);
        }
    }
    let mut numbers = |positions: Vec<Position>| {
        packer.array(positions.len());
        for position in positions {
            packer.int(position.number() as i64);
        }
    };
    numbers(commit.deferred.iter().filter(|deferral| !deferral.blocks).map(|deferral| deferral.position).collect());
    numbers(commit.done.iter().filter(|done| done.journal).map(|done| done.position).collect());
}

impl Journals for Cluster {
    fn journal(&self, position: Position) -> Fut<'_, Result<Vec<Vec<u8>>>> {
        Box::pin(async move {
            let at = moved::locate(&self.core, position).await?;
            if at.partition() >= self.core.ever() {
                return Ok(Vec::new());
            }
            let entries = self.core.redis.look(at.partition(), "journal", vec![number(at.number())]).await?;
            Ok(list(entries).into_iter().map(raw).collect())
        })
    }

    fn journaled(&self, partition: u16) -> Fut<'_, Result<Vec<Position>>> {
        Box::pin(async move {
            let numbers = list(self.core.redis.look(partition, "journaled", Vec::new()).await?);
            Ok(numbers.iter().map(|number| Position::new(partition, int(number) as u64)).collect())
        })
    }
}
