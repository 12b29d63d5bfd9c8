//! The actor behind a lock: one a name, so the order of claims is the order of its mailbox.
//!
//! Invariant: whoever is given the lock is told by the commit that gives it (a command), or finds out when
//! it renews (others, to whom a broadcast only says it sooner).

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::state::{Asker, CHECK, Claim, Moment, Standing, State};
use crate::{
    actor::Actor,
    backend::Lookup,
    context::Context,
    envelope::Asked,
    error::{Error, Result},
    runtime::{broadcast::Cast, shared::Shared},
};

/// A lock of a name, which is its key.
pub(crate) struct Lock;

/// What a lock is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Somebody wants it. Repeating it is renewing.
    Claim {
        by: String,
        /// Milliseconds; none for a command.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease: Option<i64>,
        /// How long it is waited for, in milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        within: Option<i64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<i64>,
        /// Now or not at all.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        now: bool,
    },
    /// Somebody who has it, or waits, still wants it.
    Renew { by: String },
    /// Somebody wants it no more.
    Release { by: String },
    /// Whoever has it has it no more.
    Break,
    /// The time has come to look at it.
    Look { due: i64 },
}

/// What a lock answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// Whoever asks has it, with this token.
    Held { token: u64 },
    /// So many are before whoever asks.
    Waits { before: u64 },
    /// Somebody else has it.
    Busy,
    /// Whoever asks had it until now.
    Released,
    /// Whoever asks does not have it.
    Lost,
    /// There was nothing to answer.
    Done,
}

/// What is said to who waits outside of any actor, under [`channel`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum News {
    /// It has the lock.
    Held { token: u64 },
    /// It has it no more.
    Lost,
}

/// The code of claims that are refused because too many wait.
pub(crate) const FULL: &str = "lock_full";

/// The name under which who claims hears [`News`].
pub(crate) fn channel(by: &str) -> String {
    format!("{}:{by}", Lock::KIND)
}

/// Now, by both clocks.
pub(crate) fn moment(shared: &Shared) -> Moment {
    Moment { now: shared.clock.now(), steady: shared.clock.steady() }
}

impl Actor for Lock {
    const KIND: &'static str = "greenroom_lock";
    type State = State;
    type Command = Command;
    type Reply = Reply;

    async fn handle(&self, state: &mut State, command: Command, cx: &Context<Self>) -> Result<Reply> {
        let shared = cx.journal().shared.clone();
        let at = moment(&shared);
        let reply = match command {
            Command::Claim { by, lease, within, node, now } => {
                give(state, cx, at);
                let claim = Claim {
                    since: at.now,
                    asked: None,
                    lease: lease.unwrap_or(0).max(0),
                    node: node.unwrap_or(0),
                    until: within.map(|within| at.now.saturating_add(within)),
                    seen: None,
                    by,
                };
                claimed(state, cx, claim, now, at)?
            }
            Command::Renew { by } => {
                let standing = state.renew(&by, at);
                give(state, cx, at);
                // It may have been the next one.
                said(if matches!(standing, Standing::Waits { .. }) { state.renew(&by, at) } else { standing })
            }
            Command::Release { by } => {
                let held = state.release(&by);
                give(state, cx, at);
                if held { Reply::Released } else { Reply::Lost }
            }
            Command::Break => {
                let broken = state.holder.take();
                if let Some(holder) = &broken {
                    tell(cx, holder, &News::Lost);
                }
                give(state, cx, at);
                if broken.is_some() { Reply::Released } else { Reply::Lost }
            }
            Command::Look { due } if due != state.alarm => Reply::Done,
            Command::Look { .. } => {
                state.alarm = 0;
                if has_ended(state, &shared, at).await {
                    state.holder = None;
                }
                give(state, cx, at);
                Reply::Done
            }
        };
        if state.is_over(at) {
            cx.forget();
            return Ok(reply);
        }
        let due = state.due(at);
        if state.alarm == 0 || due < state.alarm {
            state.alarm = due;
            cx.tell(cx.me(), Command::Look { due }).at(due);
        }
        Ok(reply)
    }
}

/// Gives the lock to the next one, if it is free.
fn give(state: &mut State, cx: &Context<Lock>, at: Moment) {
    if let Some(next) = state.settle(at).cloned() {
        told(cx, &next, state.token);
    }
}

/// Tells somebody who waited that it has the lock.
fn told(cx: &Context<Lock>, holder: &Claim, token: i64) {
    let token = token as u64;
    match &holder.asked {
        Some(Asker { by, position, op }) => {
            let asked = Asked { by: by.clone(), position: *position, op: *op, path: Vec::new() };
            cx.answer(&asked, Ok(&Reply::Held { token }));
        }
        None => tell(cx, holder, &News::Held { token }),
    }
}

/// Tells somebody outside of any actor, wherever it is.
fn tell(cx: &Context<Lock>, claim: &Claim, news: &News) {
    if claim.asked.is_none()
        && let Ok(cast) = Cast::to_all(&channel(&claim.by), news)
    {
        cx.cast(cast.only(vec![claim.node as u64]));
    }
}

/// Whoever claims has the lock now, or waits from now on.
fn claimed(state: &mut State, cx: &Context<Lock>, mut claim: Claim, only_now: bool, at: Moment) -> Result<Reply> {
    let by = claim.by.clone();
    match state.renew(&by, at) {
        Standing::Not => {}
        standing => return Ok(said(standing)),
    }
    let taken = state.is_taken();
    if taken && only_now {
        return Ok(Reply::Busy);
    }
    let asked = cx.about.envelope.asked.as_deref();
    claim.asked = asked.map(|asked| Asker { by: asked.by.clone(), position: asked.position, op: asked.op });
    let waits = claim.asked.is_some() && taken;
    if !state.enqueue(claim, at) {
        let full = format!("{} wait for the lock {:?} already", state.queue.len(), cx.key());
        return Err(Error::terminal(full).code(FULL));
    }
    if waits {
        // It is answered when its turn comes.
        cx.answer_later();
    } else if !taken {
        // Nobody was before it.
        state.settle(at);
    }
    Ok(said(state.renew(&by, at)))
}

fn said(standing: Standing) -> Reply {
    match standing {
        Standing::Holds { token } => Reply::Held { token: token as u64 },
        Standing::Waits { before } => Reply::Waits { before: before as u64 },
        Standing::Not => Reply::Lost,
    }
}

/// Whether the command that has the lock has ended, if others wait and it was not looked at for some
/// time. Whoever ends lets go; this is for those that end without running, such as a command that took its
/// process down too often.
async fn has_ended(state: &mut State, shared: &Shared, at: Moment) -> bool {
    let waited_for = !state.queue.is_empty();
    let Some(holder) = &mut state.holder else { return false };
    let Some(asked) = holder.asked.as_ref().filter(|_| waited_for) else { return false };
    if holder.seen.is_some_and(|seen| at.steady - seen < CHECK) {
        return false;
    }
    holder.seen = Some(at.steady);
    let lookup = async {
        let position = shared.backend.locate(asked.position).await?;
        shared.backend.lookup(position).await
    };
    match lookup.await {
        Ok(Lookup::Waiting(_)) => false,
        Ok(_) => true,
        Err(error) => {
            warn!(by = %asked.by, %error, "whether the holder of a lock has ended cannot be said, looking again");
            false
        }
    }
}
