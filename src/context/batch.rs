//! Batches that a command makes: gathered while it runs, and leaving with its commit or not at all.

use std::cell::RefCell;

use super::Context;
use crate::{
    actor::Actor,
    address::At,
    coordination::batch::{
        BatchDone,
        draft::Parts,
        whole::{Command, Whole},
    },
};

impl<A: Actor> Context<A> {
    /// Begins a batch: many commands that leave with this commit, are counted as they end, and are told of once
    /// when all have. Under one name a command has one batch.
    ///
    /// ```
    /// # use greenroom::{BatchDone, prelude::*};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # enum Import { All(Vec<u32>), Row(u32), Done(BatchDone) }
    /// # struct Rows;
    /// # impl Actor for Rows {
    /// #     const KIND: &'static str = "rows"; type State = u64; type Command = Import; type Reply = ();
    /// # async fn handle(&self, done: &mut u64, command: Import, cx: &Context<Self>) -> Result<()> {
    /// # let Import::All(rows) = command else { return Ok(()) };
    /// let batch = cx.batch("rows").then(cx.me(), Import::Done);
    /// for row in rows {
    ///     batch.add(Rows::at(format!("{row}")), Import::Row(row));
    /// }
    /// # Ok(()) } }
    /// ```
    pub fn batch(&self, name: &str) -> Batch<'_> {
        // The same in all attempts of this command.
        let id = self.journal.shared.made_of(&format!("batch {}\0{name}", self.identity()));
        self.draft(Parts { id, name: name.to_owned(), seal: true, ..Parts::default() })
    }

    /// Adds to a batch that was left [open](Batch::open), by its id.
    pub fn add_to_batch(&self, id: &str) -> Batch<'_> {
        self.draft(Parts { id: id.to_owned(), ..Parts::default() })
    }

    /// Cancels a batch with this commit: what has not begun ends as cancelled, and what waits for something is
    /// told to end. No more members can be added.
    pub fn cancel_batch(&self, id: &str) {
        self.tell(Whole::at(id), Command::Cancel);
    }

    fn draft(&self, parts: Parts) -> Batch<'_> {
        let mut batches = self.batches.borrow_mut();
        let known = batches.iter().position(|known| known.id == parts.id);
        let index = known.unwrap_or_else(|| {
            batches.push(parts);
            batches.len() - 1
        });
        Batch { batches: &self.batches, index, mark: self.journal.shared.token() }
    }

    /// Sends what was gathered.
    pub(super) fn send_batches(&self) {
        for parts in self.batches.take() {
            let to = Whole::at(parts.id.as_str());
            match parts.commands() {
                Ok(commands) => {
                    for command in commands {
                        self.tell(to.clone(), command);
                    }
                }
                Err(error) => self.outbox.borrow_mut().refuse(error),
            }
        }
    }
}

/// A batch that leaves with the commit. Made by [`Context::batch`](crate::Context::batch).
pub struct Batch<'a> {
    batches: &'a RefCell<Vec<Parts>>,
    index: usize,
    mark: u64,
}

impl Batch<'_> {
    fn change(&self, change: impl FnOnce(&mut Parts)) {
        if let Some(parts) = self.batches.borrow_mut().get_mut(self.index) {
            change(parts);
        }
    }

    /// Its id: unguessable, and all that is needed to look at it, add to it or cancel it.
    pub fn id(&self) -> String {
        self.batches.borrow().get(self.index).map(|parts| parts.id.clone()).unwrap_or_default()
    }

    /// Adds a command. A command or key that cannot be stored fails this handler with a terminal error.
    pub fn add<B: Actor>(&self, to: At<B>, command: B::Command) {
        self.change(|parts| parts.add(&to, &command));
    }

    /// Tells `to` once when all have ended: a command that holds what it is given. `command` is called at once,
    /// with something that stands in for it, so it must only put it in its place.
    pub fn then<B: Actor>(self, to: At<B>, command: impl FnOnce(BatchDone) -> B::Command) -> Self {
        self.change(|parts| parts.then(&to, self.mark, command));
        self
    }

    /// More may be added later, until it is [sealed](Batch::seal).
    pub fn open(self) -> Self {
        self.change(|parts| parts.seal = false);
        self
    }

    /// These are the last.
    pub fn seal(self) -> Self {
        self.change(|parts| parts.seal = true);
        self
    }
}
