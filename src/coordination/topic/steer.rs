//! What an operator does to a group: pause it, let it go on, have it get again what it has had, or not get
//! what it has not, forget it.

use serde::{Deserialize, Serialize};

use super::{
    actor::Topics,
    behind,
    log::{Log, lines},
    page,
};
use crate::{
    context::Context,
    error::{Error, Result},
    runtime::shared::Shared,
};

/// What is to happen to a group of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Steer {
    /// It gets nothing; what comes is kept for it.
    Pause,
    /// It goes on where it was.
    Resume,
    /// It gets once more what came since a time, in milliseconds since the Unix epoch; all that is kept
    /// when there is none. A paused group does when it goes on.
    Replay {
        /// Since when.
        since: Option<i64>,
    },
    /// It does not get what it has not had: it goes on with what comes now.
    Skip,
    /// There is no such group any more; nothing is kept for it. If a build still declares it, it is a new
    /// one when a node starts.
    Forget,
}

/// Does it; the number of the next event that the group gets.
pub(super) async fn steer(log: &mut Log, group: &str, how: Steer, cx: &Context<Topics>) -> Result<u64> {
    let (last, at) = (log.last, log.at);
    let replayed = match how {
        Steer::Replay { since } => Some(begins(&cx.journal().shared, log, since).await?),
        _ => None,
    };
    let topic = log.topic.clone();
    let Some(reader) = log.group(group) else {
        let why = format!("topic {topic:?} has no group {group:?}");
        return Err(Error::terminal(why).code("unknown_group"));
    };
    let now = cx.about.now;
    match how {
        Steer::Pause => {
            let (next, since) = reader.next.map_or((last + 1, now), |next| (next, reader.since));
            reader.begin(next, since, last);
            reader.paused = true;
        }
        Steer::Resume => {
            reader.paused = false;
            (reader.why, reader.stuck) = (None, None);
            go_on(log, group, cx);
        }
        Steer::Replay { since } => {
            reader.begin(replayed.unwrap_or(last + 1), since.unwrap_or_default().min(at), last);
            go_on(log, group, cx);
        }
        Steer::Skip => {
            reader.begin(last + 1, now, last);
            go_on(log, group, cx);
        }
        Steer::Forget => {
            std::sync::Arc::make_mut(&mut log.groups).remove(group);
        }
    }
    Ok(log.groups.get(group).and_then(|reader| reader.next).unwrap_or(last + 1))
}

/// A group gets what it has not had, if there is any, unless it is paused.
pub(super) fn go_on(log: &mut Log, group: &str, cx: &Context<Topics>) {
    let last = log.last;
    let Some(reader) = log.group(group) else { return };
    match reader.next {
        _ if reader.paused => {}
        Some(next) if next <= last => behind::begin(log, group, cx),
        _ => reader.arrive(),
    }
}

/// The first event since a time.
async fn begins(shared: &Shared, log: &Log, since: Option<i64>) -> Result<u64> {
    let Some(since) = since.filter(|since| *since <= log.at) else {
        return Ok(if since.is_none() { log.oldest() } else { log.last + 1 });
    };
    let (topic, shard, backend) = (&*log.topic, log.shard, &*shared.backend);
    let before = page::within(shared, page::before(backend, topic, shard, since)).await;
    let before = before.map_err(Error::into_terminal)?;
    let mut event = before.map_or(0, |page| page.first).max(log.oldest());
    while event < log.tail_first() {
        let page = page::within(shared, page::holding(backend, topic, shard, event)).await;
        let page = page.map_err(Error::into_terminal)?;
        let page = page.ok_or_else(|| Error::terminal("a page of the topic is just being made: try again"))?;
        if page.until >= since {
            return Ok(page.first + older(&page.events, since)?);
        }
        event = page.end();
    }
    Ok(log.tail_first() + older(&log.tail(), since)?)
}

/// How many events are older.
fn older(text: &str, than: i64) -> Result<u64> {
    let lines = lines(text).map_err(Error::into_terminal)?;
    Ok(lines.iter().take_while(|line| line.at < than).count() as u64)
}
