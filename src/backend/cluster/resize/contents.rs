//! What is in a partition, in the order of acceptance, and where each message belongs.
//!
//! Invariant: every message that has not ended and every dead letter comes exactly once, whichever place
//! it is in, numbers rising.

use std::collections::VecDeque;

use fred::types::Value;

use crate::{
    address::Address,
    backend::cluster::{
        Core, decode,
        redis::{int, list, number, raw},
    },
    error::Result,
};

/// Numbers read at once.
const PAGE: usize = 4096;

/// Which place a message is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Mailbox,
    Deferred,
    Dead,
}

/// A message as it is stored.
pub(super) struct Item {
    pub(super) number: u64,
    pub(super) place: Place,
    pub(super) bytes: Vec<u8>,
    pub(super) attempts: i64,
    /// As one value that is only carried; empty when it has none.
    pub(super) journal: Vec<u8>,
    /// Whom it is for; `None` when that cannot be read.
    pub(super) address: Option<Address>,
}

impl Item {
    /// Which of `to` partitions it belongs to. What cannot be read is for nobody: it stays, if there is
    /// still such a partition.
    pub(super) fn belongs(&self, partition: u16, to: u16) -> u16 {
        self.address.as_ref().map_or(partition % to, |address| address.partition(to))
    }
}

/// The messages of a partition that have not been read.
pub(super) struct Contents<'a> {
    core: &'a Core,
    partition: u16,
    numbers: VecDeque<u64>,
    batch: usize,
}

impl<'a> Contents<'a> {
    /// Reads the numbers of all messages: only those are held in memory.
    pub(super) async fn of(core: &'a Core, partition: u16, batch: usize) -> Result<Self> {
        let others = core.redis.look(partition, "others", Vec::new()).await?;
        let mut numbers: Vec<u64> = list(others).iter().map(|number| int(number) as u64).collect();
        let mut after = 0;
        loop {
            let page = list(core.redis.look(partition, "numbers", vec![number(after), number(PAGE)]).await?);
            numbers.extend(page.iter().map(|number| int(number) as u64));
            match page.last() {
                Some(last) if page.len() == PAGE => after = int(last) as u64,
                _ => break,
            }
        }
        numbers.sort_unstable();
        Ok(Self { core, partition, numbers: numbers.into(), batch })
    }

    /// The next messages; none when there are no more.
    pub(super) async fn next(&mut self) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        while items.is_empty() && !self.numbers.is_empty() {
            let asked = self.numbers.iter().take(self.batch).map(number).collect();
            let found = list(self.core.redis.look(self.partition, "pick", asked).await?);
            let five: Vec<&[Value]> = found.chunks_exact(5).collect();
            self.numbers.drain(..five.len().min(self.numbers.len()));
            items.extend(five.into_iter().filter_map(item));
        }
        Ok(items)
    }
}

fn item(five: &[Value]) -> Option<Item> {
    let place = match int(&five[1]) {
        0 => Place::Mailbox,
        1 => Place::Deferred,
        2 => Place::Dead,
        _ => return None,
    };
    let bytes = raw(five[2].clone());
    let address = match place {
        Place::Mailbox => decode::receiver(&bytes),
        Place::Deferred | Place::Dead => decode::addressee(&bytes),
    };
    let journal = raw(five[4].clone());
    Some(Item { number: int(&five[0]) as u64, place, bytes, attempts: int(&five[3]), journal, address })
}
