//! Reading a topic from outside, a page at a time: for consumers that are no actors. Nothing is remembered
//! of them; where they are is in the cursor they are given.
//!
//! Invariant: events of one shard come in order and without a gap, or it is said how many are missing.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::{
    MAX_SHARDS,
    log::{Log, lines},
    page,
    view::shards,
};
use crate::{
    backend::Backend,
    error::{Error, Result},
    runtime::node::Node,
};

/// Up to where a consumer has read: a number for each shard, joined by dots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor(Vec<u64>);

impl Cursor {
    fn of(&self, shard: u16) -> u64 {
        self.0.get(usize::from(shard)).copied().unwrap_or(0)
    }

    fn set(&mut self, shard: u16, sequence: u64) {
        let shard = usize::from(shard);
        if self.0.len() <= shard {
            self.0.resize(shard + 1, 0);
        }
        if let Some(last) = self.0.get_mut(shard) {
            *last = sequence;
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(u64::to_string).collect();
        f.write_str(if numbers.is_empty() { "0" } else { "" })?;
        f.write_str(&numbers.join("."))
    }
}

impl FromStr for Cursor {
    type Err = Error;

    /// Terminal error when it is none that was given out.
    fn from_str(text: &str) -> Result<Self> {
        let numbers: Option<Vec<u64>> = text.split('.').map(|number| number.parse().ok()).collect();
        match numbers {
            Some(numbers) if numbers.len() <= usize::from(MAX_SHARDS) => Ok(Self(numbers)),
            _ => Err(Error::terminal(format!("{text:?} is no cursor: expected numbers joined by dots"))),
        }
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An event that is read.
#[derive(Clone, Debug, Serialize)]
pub struct Read {
    /// Up to here, everything was read.
    pub cursor: Cursor,
    /// Which shard it is in.
    pub shard: u16,
    /// Its number there.
    pub sequence: u64,
    /// When the topic took it, in milliseconds since the Unix epoch.
    pub at: i64,
    /// What it is about.
    pub key: String,
    /// What was published.
    pub value: Box<RawValue>,
}

/// Some events of a topic.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Events {
    /// The events; those of one shard in order, otherwise by time.
    pub items: Vec<Read>,
    /// Where to go on.
    pub cursor: Cursor,
    /// How many before them were gone already.
    pub missed: u64,
}

impl Node {
    /// Up to `limit` events of a topic after a cursor; few or none when there are no more now. `None` when
    /// nothing was ever published to such a topic, and no node declared it.
    pub async fn events(&self, topic: &str, after: &Cursor, limit: usize) -> Result<Option<Events>> {
        read(&*self.shared.backend, topic, after, limit).await
    }

    /// The cursor after which only what comes is read.
    pub async fn events_now(&self, topic: &str) -> Result<Cursor> {
        let mut cursor = Cursor::default();
        for log in shards(&*self.shared.backend, Some(topic)).await? {
            cursor.set(log.shard, log.last);
        }
        Ok(cursor)
    }
}

/// Up to `limit` events of a topic after a cursor; `None` when there is no such topic.
pub(crate) async fn read(backend: &dyn Backend, topic: &str, after: &Cursor, limit: usize) -> Result<Option<Events>> {
    let logs = shards(backend, Some(topic)).await?;
    if logs.is_empty() {
        return Ok(None);
    }
    let (mut found, mut events) = (Vec::new(), Events { cursor: after.clone(), ..Events::default() });
    for log in &logs {
        let last = after.of(log.shard);
        let first = (last + 1).max(log.oldest());
        events.missed += first - last - 1;
        events.cursor.set(log.shard, (first - 1).min(log.last.max(last)));
        found.extend(of_shard(backend, log, first, limit).await?);
    }
    // Each shard's are in order of time, so they stay in order of number.
    found.sort_by_key(|read| (read.at, read.shard, read.sequence));
    found.truncate(limit);
    for read in &mut found {
        events.cursor.set(read.shard, read.sequence);
        read.cursor = events.cursor.clone();
    }
    events.items = found;
    Ok(Some(events))
}

async fn of_shard(backend: &dyn Backend, log: &Log, first: u64, limit: usize) -> Result<Vec<Read>> {
    let mut found: Vec<Read> = Vec::new();
    let mut next = first;
    while next <= log.last && found.len() < limit {
        let (begins, text) = match next >= log.tail_first() {
            true => (log.tail_first(), log.tail()),
            false => match page::holding(backend, &log.topic, log.shard, next).await? {
                Some(page) => (page.first, page.events),
                // It is on its way to where it is kept, or just went: whoever reads on looks again.
                None => break,
            },
        };
        let before = found.len();
        for (sequence, line) in (begins..).zip(lines(&text)?).skip_while(|(sequence, _)| *sequence < next) {
            let (cursor, shard, value) = (Cursor::default(), log.shard, line.value.to_owned());
            found.push(Read { cursor, shard, sequence, at: line.at, key: line.key, value });
        }
        if found.len() == before {
            break;
        }
        next = found.last().map_or(next, |read| read.sequence + 1);
    }
    Ok(found)
}
