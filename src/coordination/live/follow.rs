//! One connection's way through its channel: what it missed first, then what comes.
//!
//! Invariant: what is given out comes after what was given out before, with nothing left out that was not
//! said to be. The look begins after the feed has begun, and the feed's queue after that holds all that
//! the look may not have; what both have is told apart by number.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    line::{Frame, Item, Line, Why},
    look::{After, Looked},
    mark::Mark,
};
use crate::runtime::shared::Shared;

/// What to do next for the client.
#[derive(Debug)]
pub(crate) enum Next {
    /// Say that from here on events come as they are pushed.
    Ready(Mark),
    /// Send this event.
    Event(Arc<Frame>),
    /// Say that events before this are missing.
    Gap(Mark),
    /// End the connection.
    Over(Why),
}

/// One connection, followed for as long as this lives.
pub(crate) struct Follow {
    shared: Arc<Shared>,
    channel: Arc<str>,
    line: Arc<Line>,
    items: mpsc::Receiver<Item>,
    /// What was given out last, or is gone on after.
    at: Option<Mark>,
    looking: Option<oneshot::Receiver<Arc<Looked>>>,
    missed: VecDeque<Next>,
}

impl Follow {
    pub(super) fn new(
        shared: Arc<Shared>,
        channel: Arc<str>,
        line: Arc<Line>,
        items: mpsc::Receiver<Item>,
        after: Option<Mark>,
    ) -> Self {
        Self { shared, channel, line, items, at: after, looking: None, missed: VecDeque::new() }
    }

    pub(crate) fn line(&self) -> &Arc<Line> {
        &self.line
    }

    /// What a client resumes by, from this mark.
    pub(crate) fn token(&self, mark: Mark) -> String {
        mark.token(&self.channel, &self.shared.backend.secret())
    }

    /// What comes next. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Next {
        loop {
            if let Some(next) = self.missed.pop_front() {
                return self.out(next);
            }
            if let Some(looking) = &mut self.looking {
                tokio::select! {
                    biased;
                    why = self.line.over() => return Next::Over(why),
                    looked = looking => match looked {
                        Ok(looked) => {
                            self.looking = None;
                            self.take(&looked);
                        }
                        // The node ends: the client goes on elsewhere.
                        Err(_) => return Next::Over(Why::Slow),
                    }
                }
                continue;
            }
            let item = tokio::select! {
                biased;
                why = self.line.over() => return Next::Over(why),
                item = self.items.recv() => item,
            };
            let Some(item) = item else { return Next::Over(Why::Slow) };
            self.line.taken(&item);
            match (item, self.at) {
                (Item::From(head), None) => return self.out(Next::Ready(head)),
                (Item::From(head), Some(at)) if at == head => return self.out(Next::Ready(head)),
                (Item::From(_), Some(_)) => self.looking = Some(self.shared.live.look(&self.channel)),
                (Item::Gap(mark), at) if at.is_none_or(|at| at.life != mark.life || at.n < mark.n) => {
                    return self.out(Next::Gap(mark));
                }
                (Item::Event(frame), Some(at)) if at.life == frame.mark.life && at.n < frame.mark.n => {
                    return self.out(Next::Event(frame));
                }
                (Item::Gap(_) | Item::Event(_), _) => {}
            }
        }
    }

    fn take(&mut self, looked: &Looked) {
        let Some(at) = self.at else { return };
        let (mark, frames) = match looked.after(at) {
            After::Missed(frames) => (at, frames),
            After::Gap(mark, frames) => {
                self.missed.push_back(Next::Gap(mark));
                (mark, frames)
            }
        };
        self.shared.metrics.live().resumed(frames.len());
        self.missed.extend(frames.iter().cloned().map(Next::Event));
        self.missed.push_back(Next::Ready(frames.last().map_or(mark, |frame| frame.mark)));
    }

    fn out(&mut self, next: Next) -> Next {
        match &next {
            Next::Ready(mark) => self.at = Some(*mark),
            Next::Event(frame) => {
                self.at = Some(frame.mark);
                self.line.sent.fetch_add(1, Relaxed);
                self.shared.metrics.live().sent();
            }
            Next::Gap(mark) => {
                self.at = Some(*mark);
                self.shared.metrics.live().gap();
            }
            Next::Over(_) => {}
        }
        next
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.shared.live.leave(&self.shared, &self.channel, self.line.id, self.line.transport);
    }
}
