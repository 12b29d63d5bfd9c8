//! The actor behind each schedule: asks what follows from a message, and does it, in one commit.
//!
//! Invariant: what is told is what was defined before the message; a change of the definition never changes
//! what was already due.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tracing::warn;

use super::{
    course::{By, Outcome, Run, State},
    decide::{Event, Follow, decide},
    declare::Declared,
    definition::Definition,
};
use crate::{
    actor::Actor,
    address::Address,
    context::Context,
    ended::{End, Ended},
    error::Result,
    retry::Retry,
};

/// All schedules; the key is a schedule's name.
pub(crate) struct Schedules {
    pub(super) declared: Arc<Declared>,
}

/// What a schedule is told. Names are stored, and short where there are many.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// A node's feature declares it.
    #[serde(rename = "declare")]
    Declare(Definition),
    /// An actor or a program makes or changes it.
    #[serde(rename = "s")]
    Set(Definition),
    /// An actor or a program does not want it any more.
    #[serde(rename = "u")]
    Unset,
    /// The timer that is due at this time, in milliseconds since the Unix epoch.
    #[serde(rename = "t")]
    Tick(i64),
    /// What a run told has ended.
    #[serde(rename = "e")]
    Ended(Run, Ended),
    /// An operator lets it begin nothing more for now.
    #[serde(rename = "pause")]
    Pause,
    /// An operator lets it go on.
    #[serde(rename = "resume")]
    Resume,
    /// An operator wants it to run now.
    #[serde(rename = "run")]
    Run,
    /// An operator removes it.
    #[serde(rename = "delete")]
    Delete,
}

impl Actor for Schedules {
    const KIND: &'static str = "greenroom_schedule";
    type State = State;
    type Command = Command;
    type Reply = ();

    async fn handle(&self, state: &mut State, command: Command, cx: &Context<Self>) -> Result<()> {
        let now = cx.now();
        let told = state.as_ref().map(|course| course.definition.clone());
        let follow = decide(state, cx.key(), now, self.event(command, cx)).inspect_err(|error| {
            // Most who tell a schedule something do not wait for an answer.
            warn!(schedule = cx.key(), %error, "a schedule was told what it cannot do");
        })?;
        if state.is_none() {
            cx.forget();
        }
        count(&follow, now, cx);
        if let Some(at) = follow.arm {
            cx.tell(cx.me(), Command::Tick(at)).at(at);
        }
        let Some(told) = told else { return Ok(()) };
        if follow.begin.is_empty() && follow.withdraw.is_none() {
            return Ok(());
        }
        let to: Address = told.to.parse()?;
        if let Some(run) = follow.withdraw {
            cx.withdraw(to.clone(), run.tag());
        }
        for run in follow.begin {
            let tell = cx.send(to.clone(), RawValue::from_string(told.command.clone())?).slot(run.slot);
            if told.follows() {
                tell.then(cx.me(), |ended| Command::Ended(run, ended)).tag(run.tag());
            }
        }
        Ok(())
    }

    /// A slot is late rather than lost while a store is away.
    fn retry(&self) -> Retry {
        Retry::times(20)
    }
}

impl Schedules {
    fn event(&self, command: Command, cx: &Context<Self>) -> Event {
        match command {
            Command::Declare(definition) => Event::Set(definition, By::Feature),
            Command::Set(definition) => Event::Set(definition, By::Actor),
            Command::Unset => Event::Remove { by_actor: true },
            Command::Tick(at) => Event::Tick { at, declared: self.declared.anywhere(cx.key(), &cx.journal().shared) },
            Command::Ended(run, ended) => {
                let outcome = match ended.status {
                    End::Completed => Outcome::Completed,
                    End::Failed => Outcome::Failed,
                    End::Cancelled => Outcome::Cancelled,
                    End::DeadLettered => Outcome::DeadLettered,
                };
                Event::Ended { run, outcome, attempts: ended.attempts, at: ended.at }
            }
            Command::Pause => Event::Pause,
            Command::Resume => Event::Resume,
            Command::Run => Event::Run,
            Command::Delete => Event::Remove { by_actor: false },
        }
    }
}

/// Counts for operators; once more when the handler runs once more.
fn count(follow: &Follow, now: i64, cx: &Context<Schedules>) {
    let metrics = &cx.journal().shared.metrics;
    metrics.slots("taken", follow.begin.len() as u64);
    metrics.slots("missed", follow.missed);
    metrics.slots("skipped", follow.skipped);
    if let Some(fired) = follow.fired {
        metrics.slot_lag((now - fired).max(0) as f64 / 1000.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_names_never_change() {
        let run = Run { slot: 7, wanted: false };
        let ended = Ended { status: End::Completed, reply: None, error: None, attempts: 1, at: 9 };
        let once = super::super::Schedule::once(5).define("a/b".parse().unwrap(), "1".into(), 0).unwrap();
        for (command, stored) in [
            (Command::Declare(once.clone()), r#"{"declare":{"w":{"o":5},"t":"a/b","c":"1"}}"#),
            (Command::Set(once), r#"{"s":{"w":{"o":5},"t":"a/b","c":"1"}}"#),
            (Command::Unset, r#""u""#),
            (Command::Tick(5), r#"{"t":5}"#),
            (Command::Ended(run, ended), r#"{"e":[{"s":7},{"status":"completed","attempts":1,"at":9}]}"#),
            (Command::Pause, r#""pause""#),
            (Command::Resume, r#""resume""#),
            (Command::Run, r#""run""#),
            (Command::Delete, r#""delete""#),
        ] {
            assert_eq!(serde_json::to_string(&command).unwrap(), stored);
            serde_json::from_str::<Command>(stored).unwrap();
        }
    }
}
