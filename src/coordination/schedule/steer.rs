//! Schedules from inside of actors and from outside: making them, looking at them, steering them.

use super::{
    actor::{Command, Schedules},
    course::State,
    declare::define,
    definition::Schedule,
    view::{ScheduleView, view},
};
use crate::{
    actor::Actor,
    address::{Address, At},
    backend::{Backend, document},
    context::Context,
    error::Result,
    query::Query,
    runtime::node::Node,
};

impl<A: Actor> Context<A> {
    /// Makes a schedule when this command commits, or changes the one of this name: one for a customer, say,
    /// of which there may be millions. A mistake in it fails this command with a terminal error. One that has
    /// no slots any more is forgotten; so one that is told [once](Schedule::once) leaves nothing behind, and
    /// when its time has passed is told at once.
    ///
    /// The name is any key (`remind/ann`), unique among all schedules; what a feature declares cannot be
    /// changed here. The last slots are remembered only if [history](Schedule::history) says so.
    ///
    /// ```
    /// # use greenroom::prelude::*;
    /// # struct Customer;
    /// # impl Actor for Customer {
    /// #     const KIND: &'static str = "customer"; type State = (); type Command = u8; type Reply = ();
    /// #     async fn handle(&self, _: &mut (), remind: u8, cx: &Context<Self>) -> Result<()> {
    /// let tomorrow = cx.now() + 86_400_000;
    /// cx.schedule(format!("remind/{}", cx.key()), Schedule::once(tomorrow), cx.me(), remind);
    /// # Ok(()) } }
    /// ```
    pub fn schedule<B: Actor>(&self, name: impl AsRef<str>, when: impl Into<Schedule>, to: At<B>, command: B::Command) {
        let name = name.as_ref();
        match define(name, when.into(), to, &command, 0) {
            Ok(definition) => {
                self.tell(Schedules::at(name), Command::Set(definition));
            }
            Err(error) => self.refuse(error),
        }
    }

    /// Ends a schedule that was made at run time when this command commits; nothing happens when there is
    /// none. What it has told already is not taken back.
    pub fn unschedule(&self, name: impl AsRef<str>) {
        self.tell(Schedules::at(name.as_ref()), Command::Unset);
    }
}

/// What an operator does with a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steer {
    /// No slot is taken until it is resumed; what was taken goes on.
    Pause,
    /// Goes on with the next slot. Those that passed meanwhile do not run; what is to be told once is told.
    Resume,
    /// Runs now, paused or not, as far as runs may overlap.
    Run,
    /// There is no such schedule any more. One that a feature declares is there again when a node starts that
    /// does.
    Delete,
}

impl Node {
    /// Makes a schedule at run time, or changes it, see [`Context::schedule`]. Returns once it is so. Terminal
    /// error when something is wrong with it, or a feature declares a schedule of this name.
    pub async fn schedule<A: Actor>(
        &self,
        name: impl AsRef<str>,
        when: impl Into<Schedule>,
        to: At<A>,
        command: A::Command,
    ) -> Result<()> {
        let name = name.as_ref();
        let definition = define(name, when.into(), to, &command, 0)?;
        self.ask(Schedules::at(name), Command::Set(definition)).await
    }

    /// Ends a schedule that was made at run time; nothing happens when there is none. Terminal error when a
    /// feature declares it.
    pub async fn unschedule(&self, name: impl AsRef<str>) -> Result<()> {
        self.ask(Schedules::at(name.as_ref()), Command::Unset).await
    }

    /// Pauses, resumes, runs or deletes a schedule. Terminal error `unknown_schedule` when there is none,
    /// `still_running` when it cannot run now because runs must not overlap.
    pub async fn steer_schedule(&self, name: &str, steer: Steer) -> Result<()> {
        let command = match steer {
            Steer::Pause => Command::Pause,
            Steer::Resume => Command::Resume,
            Steer::Run => Command::Run,
            Steer::Delete => Command::Delete,
        };
        self.ask(Schedules::at(name), command).await
    }

    /// A schedule with its history and next slots; `None` when there is none of this name.
    pub async fn scheduled(&self, name: &str) -> Result<Option<ScheduleView>> {
        one(&*self.shared.backend, name).await
    }

    /// Schedules whose names begin with `prefix`, in the order of their names, after a cursor.
    pub async fn schedules(
        &self,
        prefix: &str,
        cursor: Option<String>,
        limit: usize,
    ) -> Result<(Vec<ScheduleView>, Option<String>)> {
        list(&*self.shared.backend, prefix, cursor, limit).await
    }
}

/// A schedule of a store, in full.
pub(crate) async fn one(store: &dyn Backend, name: &str) -> Result<Option<ScheduleView>> {
    let loaded = store.load(vec![Address::new(Schedules::KIND, name)?]).await?.pop().unwrap_or_default();
    let state: State = document::decode(&loaded.doc)?;
    Ok(state.map(|course| view(name.to_owned(), &course, true)))
}

/// Schedules of a store.
pub(crate) async fn list(
    store: &dyn Backend,
    prefix: &str,
    cursor: Option<String>,
    limit: usize,
) -> Result<(Vec<ScheduleView>, Option<String>)> {
    let query = Query::new().prefix(prefix).limit(limit);
    let query = match cursor {
        Some(cursor) => query.after(cursor),
        None => query,
    };
    let (rows, cursor) = store.query(Schedules::KIND, query).await?;
    let mut views = Vec::with_capacity(rows.len());
    for (name, doc) in rows {
        let state: State = document::decode(&doc)?;
        views.extend(state.map(|course| view(name, &course, false)));
    }
    Ok((views, cursor))
}
