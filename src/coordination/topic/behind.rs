//! A group that has not had everything: because it is new, was paused, is replayed, or because no build
//! that could make commands of an event ran here. It gets what it has not had, in order, some at a time,
//! while others get what comes; when nothing is left, it is one of those again.
//!
//! Invariant: a group that is behind and not paused has one command on its way that leads to the next turn;
//! of a second one, or one of an earlier turn, nothing is done.

use std::time::Duration;

use super::{
    actor::{Command, Delivered, Topics, deliver, refuse},
    declare::{Kept, Route},
    log::{Log, lines},
    page,
};
use crate::{
    context::{Context, Tell},
    runtime::shared::Shared,
};

/// What a group gets at once: so many events at least, twice what came since it last got some, so that it
/// comes to the end however quickly events come, but so many, and so many bytes of commands, at most.
const BATCH: u64 = 512;
const MOST: u64 = 4096;
const BYTES: usize = 512 << 10;
/// The next ones come when the last of these was handled, so that a mailbox never fills with what is old;
/// but one command that is not handled for long must not hold up a group.
const PATIENCE: Duration = Duration::from_secs(1);
/// When a page that is on its way is looked for again.
const SOON: Duration = Duration::from_millis(50);
/// When it is tried again what this build, or the store, could not do: the longer it cannot, the longer.
const LATER: i64 = 5_000;
const LATEST: i64 = 60_000;
/// How long an event that this build cannot read waits for one that can, in milliseconds: a deployment.
const GRACE: i64 = 10 * 60 * 1000;

/// Why a group does not go on here.
pub(super) const UNKNOWN: &str = "the build that runs this shard does not know the group";

/// A group that had everything cannot get this event here and now.
pub(super) fn falls(log: &mut Log, group: &str, kept: &Kept<'_>, why: String, cx: &Context<Topics>) {
    let last = log.last;
    let Some(reader) = log.group(group) else { return };
    reader.begin(kept.sequence, kept.at, last);
    stop(log, group, why, cx);
}

/// A group does not go on now.
fn stop(log: &mut Log, group: &str, why: String, cx: &Context<Topics>) {
    let Some(reader) = log.group(group) else { return };
    let since = *reader.stuck.get_or_insert(cx.about.now);
    reader.why = Some(why);
    let wait = ((cx.about.now - since) / 10).clamp(LATER, LATEST);
    later(log, group, Duration::from_millis(wait as u64), cx);
}

/// Begins a turn of a group, now.
pub(super) fn begin(log: &mut Log, group: &str, cx: &Context<Topics>) {
    later(log, group, Duration::ZERO, cx);
}

/// Begins a turn of a group after a while.
fn later(log: &mut Log, group: &str, wait: Duration, cx: &Context<Topics>) {
    let Some(reader) = log.group(group) else { return };
    let go = Command::Go { group: group.to_owned(), turn: reader.turn() };
    let tell = cx.tell(cx.me(), go);
    if !wait.is_zero() {
        tell.after(wait);
    }
}

/// Why a turn ends before it has what it may have.
enum Stop {
    /// What comes next is on its way to its page.
    Soon,
    /// It cannot be read here, or now.
    Later(String),
}

/// What a turn did.
struct Turn<'a> {
    /// The next event, and the time of the last one.
    next: u64,
    at: i64,
    /// The last command that was sent.
    last: Option<Tell<'a>>,
    stop: Option<Stop>,
}

/// A group gets what comes next.
pub(super) async fn go(topics: &Topics, log: &mut Log, group: &str, turn: u64, cx: &Context<Topics>) {
    let Some(reader) = log.groups.get(group) else { return };
    let Some(next) = reader.next.filter(|_| reader.turn == turn && !reader.paused) else { return };
    let (most, stuck) = ((2 * (log.last - reader.seen.min(log.last))).clamp(BATCH, MOST), reader.stuck);
    let (now, last) = (cx.about.now, log.last);
    let Some(route) = topics.registry.route(&log.topic, group) else {
        return stop(log, group, UNKNOWN.to_owned(), cx);
    };
    // The first event that could not be read has waited long enough for a build that can.
    let give_up = stuck.is_some_and(|since| now - since >= GRACE).then_some(next);
    let did = send(route, log, group, next, most, give_up, cx).await;
    let Some(reader) = log.group(group) else { return };
    if did.next > next {
        (reader.why, reader.stuck) = (None, None);
    }
    (reader.next, reader.seen) = (Some(did.next), last);
    if did.next > last {
        return reader.arrive();
    }
    reader.since = did.at.max(reader.since);
    match did.stop {
        Some(Stop::Soon) => later(log, group, SOON, cx),
        Some(Stop::Later(why)) => stop(log, group, why, cx),
        None => match did.last {
            None => later(log, group, Duration::ZERO, cx),
            Some(tell) => {
                // Whichever comes first leads on.
                let (name, turn) = (group.to_owned(), reader.turn + 1);
                tell.then(cx.me(), |ended| Command::Handled { group: name, turn, ended });
                later(log, group, PATIENCE, cx);
            }
        },
    }
}

/// Sends what is from `next` on; the event `give_up` goes to the dead letters if it cannot be read.
async fn send<'a>(
    route: &Route,
    log: &Log,
    group: &str,
    next: u64,
    most: u64,
    give_up: Option<u64>,
    cx: &'a Context<Topics>,
) -> Turn<'a> {
    let mut did = Turn { next, at: 0, last: None, stop: None };
    let mut bytes = 0;
    while did.next <= log.last && did.next - next < most && bytes < BYTES && did.stop.is_none() {
        let (first, text) = match found(&cx.journal().shared, log, did.next).await {
            Ok(found) => found,
            Err(stop) => {
                did.stop = Some(stop);
                break;
            }
        };
        let lines = match lines(&text) {
            Ok(lines) => lines,
            Err(error) => {
                did.stop = Some(Stop::Later(error.to_string()));
                break;
            }
        };
        let (before, had) = (did.next, did.next - first.min(did.next));
        for (sequence, line) in (first..).zip(&lines).skip(had as usize) {
            let kept = Kept { shard: log.shard, sequence, at: line.at, key: &line.key, value: line.value };
            match deliver(log, group, route, &kept, cx) {
                Delivered::To(tell, sent) => (did.last, bytes) = (tell.or(did.last), bytes + sent),
                Delivered::Unread(_) if give_up == Some(sequence) => refuse(log, group, &kept, cx),
                Delivered::Unread(error) => {
                    did.stop = Some(Stop::Later(error.to_string()));
                    break;
                }
            }
            (did.next, did.at) = (sequence + 1, line.at);
            if bytes >= BYTES {
                break;
            }
        }
        if did.next == before && did.stop.is_none() {
            did.stop = Some(Stop::Later(format!("event {before} is not where it should be")));
        }
    }
    did
}

/// The text that holds an event, and the number of its first one.
async fn found(shared: &Shared, log: &Log, event: u64) -> Result<(u64, String), Stop> {
    if event >= log.tail_first() {
        return Ok((log.tail_first(), log.tail()));
    }
    match page::within(shared, page::holding(&*shared.backend, &log.topic, log.shard, event)).await {
        Ok(Some(page)) => Ok((page.first, page.events)),
        Ok(None) => Err(Stop::Soon),
        Err(error) => Err(Stop::Later(error.to_string())),
    }
}
