//! Commands that let others of their key be handled while they wait: each runs beside its activation's
//! turns, on the state it began with.
//!
//! Invariant: such a command never writes the state, so it cannot undo what another has changed meanwhile.

use std::{rc::Rc, sync::Arc, time::Instant};

use tracing::Instrument;

use super::{
    activation::Core,
    faults::Point,
    handle::{Handled, decode, handle},
    room::Delivery,
    supervisor::Blame,
};
use crate::{
    actor::Actor,
    backend::document,
    context::About,
    coordination::limit::gate::Pass,
    durable::{
        drive::{Ended, drive},
        journal::Journal,
    },
    error::{Error, Result},
};

impl<A: Actor> Core<A> {
    /// Runs a shared command beside the others of its key.
    pub(super) fn run_apart(
        self: &Rc<Self>,
        delivery: Delivery,
        about: About,
        journal: Rc<Journal>,
        state: A::State,
        pass: Option<Box<Pass>>,
    ) {
        let core = self.clone();
        self.room.begin_work();
        actix::spawn(async move {
            let _pass = pass;
            let span =
                tracing::debug_span!("handle", address = %core.address, position = %about.position, shared = true);
            core.apart(delivery, about, journal, state).instrument(span).await;
            core.room.end_work();
        });
    }

    async fn apart(self: &Rc<Self>, delivery: Delivery, about: About, journal: Rc<Journal>, state: A::State) {
        let (began, position) = (Instant::now(), about.position);
        let snapshot = match self.snapshot(&journal, &state) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                self.live.borrow_mut().remove(&position);
                return self.end_apart(delivery, &journal, Ended::Broken(error), began, None).await;
            }
        };
        journal.open();
        let host_snapshot = (!snapshot.is_empty()).then(|| snapshot.clone());
        let host = self.host(position, None, host_snapshot);
        let ended = loop {
            let started = decode::<A>(&about.envelope).and_then(|command| Ok((command, document::decode(&snapshot)?)));
            let (command, mut state): (A::Command, A::State) = match started {
                Ok(started) => started,
                Err(error) => break Ended::Broken(error),
            };
            let ended = {
                let run = handle(&*self.actor, &mut state, command, about.clone(), journal.clone());
                let mut run = std::pin::pin!(Blame::new(&self.room.beat, position, run));
                drive(&host, &journal, run.as_mut()).await
            };
            break match ended {
                Ended::Again => {
                    journal.rewind();
                    continue;
                }
                Ended::Done(handled) if handled.reply.is_ok() && self.differs(&state, &snapshot) => {
                    let error = "a shared command has changed the state, which others may have changed meanwhile: ask its own actor to change it";
                    Ended::Done(Handled::failed(Error::terminal(error).code("shared_state")))
                }
                ended => ended,
            };
        };
        self.live.borrow_mut().remove(&position);
        self.room.shared.faults.at(Point::Handled).await;
        self.end_apart(delivery, &journal, ended, began, Some(host)).await;
    }

    /// The state as this command sees it, now and whenever it is run again.
    fn snapshot(&self, journal: &Journal, state: &A::State) -> Result<Arc<[u8]>> {
        match journal.snapshot() {
            Some(doc) => Ok(doc),
            None if size_of::<A::State>() == 0 => Ok(Arc::default()),
            None => Ok(document::encode(state, self.room.shared.settings.state_bytes)?.into()),
        }
    }

    fn differs(&self, state: &A::State, snapshot: &[u8]) -> bool {
        let encoded = document::encode(state, usize::MAX);
        size_of::<A::State>() > 0 && encoded.is_ok_and(|encoded| encoded != snapshot)
    }

    /// Commits what became of it.
    async fn end_apart(
        self: &Rc<Self>,
        delivery: Delivery,
        journal: &Rc<Journal>,
        ended: Ended<Handled>,
        began: Instant,
        host: Option<crate::durable::drive::Host>,
    ) {
        let mut group = self.group();
        let position = delivery.stored.position;
        let host = host.unwrap_or_else(|| self.host(position, None, None));
        self.ended(&mut group, delivery, &host, journal, ended, began.elapsed().as_secs_f64()).await;
        group.changed = false;
        if group.taken.is_empty() {
            return self.nudge();
        }
        let sending = self.send_apart(group);
        // What was not committed is queued again.
        self.conclude(sending.await).await;
        self.nudge();
    }

    /// Lets the activation look again.
    pub(super) fn nudge(&self) {
        if let Some(slot) = self.room.slots.borrow().get(&self.address) {
            slot.send(super::room::Signal::Wake);
        }
    }
}
