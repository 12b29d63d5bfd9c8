//! Running one command: handle it, catch panics, undo what a failed one did, encode the reply. What
//! happens to the state when it fails is the caller's business.

use std::{any::Any, panic::AssertUnwindSafe, rc::Rc};

use futures_util::FutureExt;
use serde_json::value::{RawValue, to_raw_value};

use crate::{
    actor::Actor,
    address::At,
    backend::Sent,
    context::{About, Context, Effects},
    durable::{journal::Journal, undo},
    envelope::Envelope,
    error::{Error, Result},
};

/// What a handler produced.
pub(crate) struct Handled {
    pub(crate) reply: Result<Box<RawValue>>,
    pub(crate) effects: Effects,
}

impl Handled {
    /// A failure of which nothing remains.
    pub(crate) fn failed(error: Error) -> Self {
        Self { reply: Err(error), effects: Effects::default() }
    }
}

/// Reads a stored command. Terminal error when the actor does not know it.
pub(crate) fn decode<A: Actor>(envelope: &Envelope) -> Result<A::Command> {
    let command = guarded(|| {
        serde_json::from_str(envelope.command.get()).map_err(|e| Error::from(e).into_terminal().code(UNDECODABLE))
    });
    command.map_err(|e| match e.has_code(UNDECODABLE) {
        true => e.context(format!("the stored command is none that {} understands", A::KIND)),
        false => e,
    })
}

/// Runs the handler; a panic anywhere in the user's code is a retryable error.
pub(crate) async fn handle<A: Actor>(
    actor: &A,
    state: &mut A::State,
    command: A::Command,
    about: About,
    journal: Rc<Journal>,
) -> Handled {
    let run = async {
        let cx = Context::<A>::new(At::new(about.address.key()), about, journal, actor);
        let done = match actor.handle(state, command, &cx).await {
            Ok(reply) => to_raw_value(&reply).map_err(|e| Error::from(e).into_terminal().context("encoding the reply")),
            Err(error) => Err(error),
        };
        if let Some(next) = cx.take_again() {
            let mut effects = Effects { continues: true, ..cx.take_effects()? };
            effects.sent.push(Sent { envelope: next.into(), due: None });
            return Ok(Handled { reply: Ok(RawValue::NULL.to_owned()), effects });
        }
        let did = cx.take_effects();
        match done.and_then(|reply| Ok((reply, did?))) {
            Ok((reply, effects)) => Ok(Handled { reply: Ok(reply), effects }),
            Err(error) if error.is_terminal() => {
                undo::undo(actor, &cx, &error).await?;
                // What compensations tell leaves with the failure.
                let effects = Effects { sent: cx.take_effects()?.sent, ..Effects::default() };
                Ok(Handled { reply: Err(error), effects })
            }
            Err(error) => Err(error),
        }
    };
    // The state may be half changed after a panic: the caller throws it away with the error.
    let ran = AssertUnwindSafe(run).catch_unwind().await;
    ran.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))).unwrap_or_else(Handled::failed)
}

/// The code of commands that cannot be decoded: dead letters at once, since a newer build may
/// understand them.
pub(crate) const UNDECODABLE: &str = "undecodable";

/// Runs user code that is not async, such as `Serialize` and `Clone`.
pub(crate) fn guarded<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
}

/// A panic as an error.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is no text".to_owned());
    Error::new(format!("the handler panicked: {text}")).code("panic")
}
