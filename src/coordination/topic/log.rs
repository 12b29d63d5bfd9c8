//! The state of a shard: its newest events, and where each group is. Older events are in pages.
//!
//! Invariant: the events from the oldest page's first to `last` follow each other without a gap, and those
//! of the tail are the last `tail_n` of them.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Keep, parse_shard};
use crate::error::{Error, Result};

/// A tail of so many bytes or events becomes a page. It is written with every commit, so it is small; what
/// a page costs besides its events is small against this.
const PAGE_BYTES: usize = 16 << 10;
const PAGE_EVENTS: u64 = 256;

/// A shard.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Log {
    /// The topic's name.
    pub(super) topic: Arc<str>,
    pub(super) shard: u16,
    /// How many shards the topic has, as last declared.
    pub(super) shards: u16,
    pub(super) keep: Keep,
    /// The number of the newest event; 0 when there never was one.
    pub(super) last: u64,
    /// Its time.
    pub(super) at: i64,
    /// How many are gone, from the first on.
    pub(super) gone: u64,
    /// Bytes of the pages.
    pub(super) bytes: u64,
    /// The newest events, as [`lines`] reads them. Text, because the state is copied for each command.
    tail: String,
    tail_n: u64,
    tail_at: i64,
    pub(super) groups: Arc<BTreeMap<String, Reader>>,
    /// When it is tidied next.
    pub(super) tidy: Option<i64>,
    /// When pages last went because there were too many.
    #[serde(default)]
    pub(super) pressed: i64,
}

/// Where a group is.
#[derive(Clone, Default, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reader {
    /// The next event it gets; `None` when it has had all and gets each as it comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) paused: bool,
    /// Counts what was begun for it: of what comes for an earlier turn, nothing is done.
    pub(super) turn: u64,
    /// The newest event when it last got some.
    #[serde(default)]
    pub(super) seen: u64,
    /// The time of the first event that it has not had, or a little earlier.
    #[serde(default)]
    pub(super) since: i64,
    /// Why it does not go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
    /// Since when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stuck: Option<i64>,
}

/// A full tail.
pub(super) struct Sealed {
    /// The number of its first event.
    pub(super) first: u64,
    /// How many there are.
    pub(super) count: u64,
    /// The time of the first, and of the last.
    pub(super) at: i64,
    pub(super) until: i64,
    /// The events.
    pub(super) events: Box<RawValue>,
}

/// One event of a log.
pub(super) struct Line<'a> {
    pub(super) at: i64,
    pub(super) key: String,
    pub(super) value: &'a RawValue,
}

impl Log {
    /// Takes its name from the key of its actor.
    pub(super) fn named(&mut self, key: &str) -> Result<()> {
        if self.topic.is_empty() {
            let (topic, shard) =
                parse_shard(key).ok_or_else(|| Error::terminal(format!("{key:?} is no shard of a topic")))?;
            (self.topic, self.shard) = (topic.into(), shard);
        }
        Ok(())
    }

    /// The number of the tail's first event, or of the next one.
    pub(super) fn tail_first(&self) -> u64 {
        self.last + 1 - self.tail_n
    }

    /// The number of the oldest event that is kept, or of the next one.
    pub(super) fn oldest(&self) -> u64 {
        self.gone + 1
    }

    /// The events of the tail, as [`lines`] reads them.
    pub(super) fn tail(&self) -> String {
        format!("[{}]", self.tail)
    }

    /// Everything that is kept, in bytes.
    pub(super) fn size(&self) -> u64 {
        self.bytes + self.tail.len() as u64
    }

    /// Writes an event down as the newest one.
    pub(super) fn push(&mut self, at: i64, key: &str, value: &RawValue) -> Result<()> {
        if self.tail_n == 0 {
            self.tail_at = at;
        } else {
            self.tail.push(',');
        }
        let key = serde_json::to_string(key)?;
        // Writing into a string cannot fail.
        let _ = write!(self.tail, "[{at},{key},{}]", value.get());
        self.tail_n += 1;
        self.last += 1;
        self.at = at;
        Ok(())
    }

    /// Takes the tail, if it is full, to make a page of it.
    pub(super) fn seal(&mut self) -> Result<Option<Sealed>> {
        if self.tail.len() < PAGE_BYTES && self.tail_n < PAGE_EVENTS {
            return Ok(None);
        }
        let sealed = Sealed {
            first: self.tail_first(),
            count: self.tail_n,
            at: self.tail_at,
            until: self.at,
            events: RawValue::from_string(self.tail())?,
        };
        self.bytes += sealed.events.get().len() as u64;
        self.forget_tail();
        Ok(Some(sealed))
    }

    /// Nothing is in the tail from now on.
    pub(super) fn forget_tail(&mut self) {
        self.tail = String::new();
        self.tail_n = 0;
    }

    /// The number of the first event that some group has not had; of the next one when all have.
    pub(super) fn needed(&self) -> u64 {
        self.groups.values().filter_map(|group| group.next).min().unwrap_or(self.last + 1)
    }

    /// Where a group is, to change it.
    pub(super) fn group(&mut self, name: &str) -> Option<&mut Reader> {
        Arc::make_mut(&mut self.groups).get_mut(name)
    }
}

impl Reader {
    /// It gets what is from `next` on, at another turn than before.
    pub(super) fn begin(&mut self, next: u64, since: i64, last: u64) -> u64 {
        *self = Self { next: Some(next), since, seen: last, why: None, stuck: None, ..self.clone() };
        self.turn()
    }

    /// The next turn.
    pub(super) fn turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }

    /// It has had everything, and gets what comes.
    pub(super) fn arrive(&mut self) {
        *self = Self { next: None, why: None, stuck: None, ..self.clone() };
    }
}

/// Reads events out of text: `[[time,key,event],…]`.
pub(super) fn lines(text: &str) -> Result<Vec<Line<'_>>> {
    let lines: Vec<(i64, Cow<'_, str>, &RawValue)> =
        serde_json::from_str(text).map_err(|e| Error::from(e).context("reading the log of a topic"))?;
    Ok(lines.into_iter().map(|(at, key, value)| Line { at, key: key.into_owned(), value }).collect())
}
