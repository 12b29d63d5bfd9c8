//! What is old goes, page by page: when it is older, or there is more of it, than the topic says.
//!
//! Invariant: what some group has not had stays, whatever that costs. Its lag shows it, and an operator
//! decides.

use tracing::warn;

use super::{
    actor::{Command, Topics},
    log::Log,
    page::{self, Pages},
};
use crate::{actor::Actor, context::Context};

/// Pages that go at once.
const PAGES: usize = 128;
/// At most so often pages go because there are too many.
const PRESS: i64 = 1000;
/// When it is looked again whether what is needed still is, at the latest, in milliseconds.
const HOUR: i64 = 3600 * 1000;

/// Sees to it that what is kept will go in time.
pub(super) fn plan(log: &mut Log, cx: &Context<Topics>) {
    // A topic that nobody has declared yet, or nothing in it.
    if log.keep.ms == 0 || log.oldest() > log.last {
        return;
    }
    if log.tidy.is_none() {
        at(log, log.at.saturating_add(log.keep.ms), cx);
    }
    if log.size() > log.keep.bytes && cx.about.now - log.pressed >= PRESS {
        log.pressed = cx.about.now;
        cx.tell(cx.me(), Command::Tidy { due: None });
    }
}

/// How long things are kept has changed: looks at once.
pub(super) fn again(log: &mut Log, cx: &Context<Topics>) {
    if log.oldest() <= log.last {
        at(log, cx.about.now, cx);
    }
}

fn at(log: &mut Log, time: i64, cx: &Context<Topics>) {
    let due = time.max(cx.about.now + PRESS);
    log.tidy = Some(due);
    cx.tell(cx.me(), Command::Tidy { due: Some(due) }).at(due);
}

/// Lets go what may go. By the clock it also says when the next time is; a `due` that is not the next one is
/// of an earlier plan.
pub(super) async fn tidy(log: &mut Log, due: Option<i64>, cx: &Context<Topics>) {
    if due.is_some() && due != log.tidy {
        return;
    }
    let next = pages(log, cx).await;
    if due.is_some() {
        log.tidy = None;
        if let Some(next) = next {
            at(log, next, cx);
        }
    }
}

/// Lets pages go, and the tail after them; when to look again, if anything is left.
async fn pages(log: &mut Log, cx: &Context<Topics>) -> Option<i64> {
    let (now, ms) = (cx.about.now, log.keep.ms);
    let needed = log.needed();
    let blocked = now.saturating_add(ms.min(HOUR));
    for _ in 0..PAGES {
        if log.oldest() >= log.tail_first() {
            let old = log.at.saturating_add(ms);
            if log.oldest() > log.last || old > now {
                return (log.oldest() <= log.last).then_some(old);
            }
            if needed <= log.last {
                return Some(blocked);
            }
            log.gone = log.last;
            log.forget_tail();
            return None;
        }
        let shared = &cx.journal().shared;
        let read = page::from(&*shared.backend, &log.topic, log.shard, log.oldest());
        let found = page::within(shared, read).await;
        let page = match found {
            // One that is not there yet is not old.
            Ok(found) => found.filter(|page| page.first == log.oldest()),
            Err(error) => {
                warn!(topic = &*log.topic, shard = log.shard, %error, "old events could not be looked for, trying again");
                None
            }
        };
        let Some(page) = page else { return Some(blocked) };
        let old = page.until.saturating_add(ms);
        if old > now && log.size() <= log.keep.bytes {
            return Some(old);
        }
        if needed < page.end() {
            return Some(blocked);
        }
        cx.tell(Pages::at(page::key(cx.key(), page.first)), page::Command::Drop);
        log.gone = page.end() - 1;
        log.bytes = log.bytes.saturating_sub(page.events.len() as u64);
    }
    Some(now + PRESS)
}
