//! Running one command: decode, handle within the time limit, catch panics, encode the reply. What
//! happens to the state when it fails is the caller's business.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use serde_json::value::{RawValue, to_raw_value};

use crate::{
    actor::Actor,
    address::At,
    backend::Sent,
    context::{About, Context},
    envelope::Envelope,
    error::{Error, Result},
};

/// What a handler produced.
pub(crate) struct Handled {
    pub(crate) reply: Box<RawValue>,
    pub(crate) sent: Vec<Sent>,
}

/// Runs the handler; a panic anywhere in the user's code is a retryable error.
pub(crate) async fn handle<A: Actor>(
    actor: &A,
    state: &mut A::State,
    envelope: &Arc<Envelope>,
    about: About,
) -> Result<Handled> {
    let run = async {
        let command: A::Command = serde_json::from_str(envelope.command.get()).map_err(|e| {
            Error::from(e)
                .into_terminal()
                .code(UNDECODABLE)
                .context(format!("the stored command is none that {} understands", A::KIND))
        })?;
        let cx = Context::<A>::new(At::new(about.address.key()), about);
        let reply = actor.handle(state, command, &cx).await?;
        let sent = cx.into_sent()?;
        let reply = to_raw_value(&reply).map_err(|e| Error::from(e).into_terminal().context("encoding the reply"))?;
        Ok(Handled { reply, sent })
    };
    // The state may be half changed after a panic: the caller throws it away with the error.
    AssertUnwindSafe(run).catch_unwind().await.unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
}

/// The code of commands that cannot be decoded: dead letters at once, since a newer build may
/// understand them.
pub(crate) const UNDECODABLE: &str = "undecodable";

/// Runs user code that is not async, such as `Serialize` and `Clone`.
pub(crate) fn guarded<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is no text".to_owned());
    Error::new(format!("the handler panicked: {text}")).code("panic")
}
