//! Compensations: what a command that fails, or is cancelled, does to take back what it did.
//!
//! Invariant: they run last first, each as durable as the command itself, and one that keeps failing is
//! never forgotten: the command ends in the dead letters, which say what is still done.

use std::{future::Future, pin::Pin};

use super::entry::Entry;
use crate::{
    actor::Actor,
    context::Context,
    error::{Error, Result},
};

/// A compensation.
pub(crate) type Undo<A> =
    Box<dyn for<'a> FnOnce(&'a A, &'a Context<A>) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>>;

/// The code of commands that could not be undone: dead letters, with what is still done.
pub(crate) const NOT_UNDONE: &str = "not_undone";

/// Undoes what a failed command registered. Error when something could not be undone.
pub(crate) async fn undo<A: Actor>(actor: &A, cx: &Context<A>, failed: &Error) -> Result<()> {
    let mut undos = cx.take_undos();
    if undos.is_empty() {
        return Ok(());
    }
    let journal = cx.journal();
    let now = journal.shared.clock.now();
    journal.undo(Entry::Undoing { failure: failed.failure(cx.attempt(), now), at: now });
    while let Some((name, undo)) = undos.pop() {
        if let Err(error) = undo(actor, cx).await {
            let still: Vec<&str> = undos.iter().map(|(name, _)| &**name).chain([&*name]).rev().collect();
            let error = error.context(format!("undoing {name:?}, because of: {failed}"));
            let error = error.context(format!("not undone, so still done: {}", still.join(", ")));
            // One that is tried again may succeed; what was undone before is written and not done twice.
            return Err(if error.is_terminal() { error.code(NOT_UNDONE) } else { error });
        }
    }
    Ok(())
}

/// Makes one of an async closure.
pub(crate) fn boxed<A: Actor>(undo: impl AsyncFnOnce(&A, &Context<A>) -> Result<()> + 'static) -> Undo<A> {
    Box::new(move |actor, cx| Box::pin(async move { undo(actor, cx).await }))
}
