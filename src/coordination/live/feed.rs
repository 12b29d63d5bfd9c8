//! One channel on one node: puts what is heard of it in order, and gives it to the connections.
//!
//! Invariant: what connections are given has consecutive numbers, or a gap is said. What is heard may be
//! lost, doubled or late; what is missing is looked up in the ring, which has it.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    line::{Frame, Item, Outlet},
    look::{After, Looked},
    mark::Mark,
};

/// Events kept that came before one that is missing; more are looked up.
const EARLY: usize = 64;

/// What must follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing.
    Fine,
    /// A look into the ring.
    Look,
    /// The channel must be told that this node follows.
    Attach,
}

/// One channel on this node.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) outlets: Vec<Outlet>,
    /// Until where everything was given; `None` before the channel has said where it is.
    head: Option<Mark>,
    early: BTreeMap<u64, Arc<Frame>>,
    /// A look is on its way.
    pub(crate) looking: bool,
    /// When it was last known to miss nothing, or was asked about; in milliseconds since the Unix epoch.
    pub(crate) sure: i64,
    /// Since when nobody listens.
    pub(crate) empty: Option<i64>,
}

impl Feed {
    pub(crate) fn new(now: i64) -> Self {
        Self { outlets: Vec::new(), head: None, early: BTreeMap::new(), looking: false, sure: now, empty: Some(now) }
    }

    /// Whether the channel has said where it is.
    pub(crate) fn begun(&self) -> bool {
        self.head.is_some()
    }

    /// One more connection.
    pub(crate) fn join(&mut self, outlet: Outlet) {
        self.empty = None;
        if self.head.is_none_or(|head| outlet.give(Item::From(head))) {
            self.outlets.push(outlet);
        }
    }

    /// A connection less.
    pub(crate) fn leave(&mut self, id: u64, now: i64) {
        self.outlets.retain(|outlet| outlet.line.id != id);
        if self.outlets.is_empty() && self.empty.is_none() {
            self.empty = Some(now);
        }
    }

    /// The channel said where it is, and tells of every event after that.
    pub(crate) fn attached(&mut self, mark: Mark, now: i64) -> Then {
        match self.head {
            None => self.begin(mark),
            Some(head) if head.life == mark.life && head.n >= mark.n => {}
            Some(_) => return Then::Look,
        }
        self.sure = now;
        Then::Fine
    }

    fn begin(&mut self, mark: Mark) {
        self.head = Some(mark);
        self.give(&Item::From(mark));
    }

    /// An event was heard of.
    pub(crate) fn hear(&mut self, frame: Arc<Frame>, now: i64) -> Then {
        let mark = frame.mark;
        if self.head.is_none() {
            // Whoever is told of an event is attached; those who come back look for what was before it.
            self.begin(Mark { n: mark.n.saturating_sub(1), ..mark });
        }
        match self.head {
            Some(head) if head.life != mark.life => Then::Look,
            Some(head) if mark.n <= head.n => Then::Fine,
            Some(head) if mark.n == head.n + 1 => {
                self.pass(frame);
                self.catch_up();
                self.sure = now;
                if self.early.is_empty() { Then::Fine } else { Then::Look }
            }
            _ => {
                if self.early.len() < EARLY {
                    self.early.insert(mark.n, frame);
                }
                Then::Look
            }
        }
    }

    /// The ring was looked into.
    pub(crate) fn looked(&mut self, looked: &Looked, now: i64) -> Then {
        (self.looking, self.sure) = (false, now);
        let Some(newest) = looked.head.filter(|_| looked.attached) else { return Then::Attach };
        match self.head {
            None => self.begin(newest),
            // Heard since, so the look is of before.
            Some(head) if head.life == newest.life && head.n >= newest.n => {}
            Some(head) => {
                let frames = match looked.after(head) {
                    After::Missed(frames) => frames,
                    After::Gap(mark, frames) => {
                        self.head = Some(mark);
                        self.give(&Item::Gap(mark));
                        frames
                    }
                };
                frames.iter().for_each(|frame| self.pass(frame.clone()));
                if head.life != newest.life {
                    self.early.clear();
                }
            }
        }
        self.catch_up();
        if self.early.is_empty() { Then::Fine } else { Then::Look }
    }

    /// What came early and is next now.
    fn catch_up(&mut self) {
        while let (Some(head), Some(first)) = (self.head, self.early.first_entry()) {
            if *first.key() > head.n + 1 {
                break;
            }
            let frame = first.remove();
            if frame.mark.n > head.n {
                self.pass(frame);
            }
        }
    }

    fn pass(&mut self, frame: Arc<Frame>) {
        self.head = Some(frame.mark);
        self.give(&Item::Event(frame));
    }

    fn give(&mut self, item: &Item) {
        self.outlets.retain(|outlet| outlet.give(item.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::live::{
        channel::{Follower, State},
        line::Transport,
        ring::Kept,
        settings::Settings,
    };
    use proptest::prelude::*;
    use tokio::sync::mpsc::Receiver;

    const ME: u64 = 1;

    fn frame(life: u64, n: u64) -> Arc<Frame> {
        Frame::new(Mark { life, n }, "e".into(), "1", "t".into())
    }

    fn listening(feed: &mut Feed) -> Receiver<Item> {
        let settings = Settings { buffer_events: 4096, ..Settings::default() };
        let (outlet, items) = Outlet::new(1, Transport::Events, 0, &settings);
        feed.join(outlet);
        items
    }

    /// The numbers it was given; a gap is negative.
    fn given(items: &mut Receiver<Item>) -> Vec<i64> {
        std::iter::from_fn(|| items.try_recv().ok())
            .map(|item| match item {
                Item::From(mark) | Item::Gap(mark) => -(mark.n as i64),
                Item::Event(frame) => frame.mark.n as i64,
            })
            .collect()
    }

    fn store(life: u64, from: u64, to: u64, attached: bool) -> Looked {
        let mut state = State { head: Some(Mark { life, n: to }), ..State::default() };
        (from..=to).for_each(|n| state.ring.push(Kept { n, at: 0, event: "e".into(), value: "1".into() }));
        if attached {
            state.followers.push(serde_json::from_str::<Follower>(r#"{"n":1,"t":0}"#).unwrap());
        }
        Looked::new(&state, ME, "c", &[0; 32])
    }

    #[test]
    fn what_is_late_doubled_or_lost_comes_in_order_once() {
        let mut feed = Feed::new(0);
        let mut items = listening(&mut feed);
        assert_eq!(feed.attached(Mark { life: 1, n: 4 }, 0), Then::Fine);
        assert_eq!(feed.hear(frame(1, 5), 0), Then::Fine);
        assert_eq!(feed.hear(frame(1, 5), 0), Then::Fine);
        assert_eq!(feed.hear(frame(1, 7), 0), Then::Look, "6 is late");
        assert_eq!(feed.hear(frame(1, 6), 0), Then::Fine);
        assert_eq!(feed.hear(frame(1, 9), 0), Then::Look, "8 is lost");
        assert_eq!(feed.looked(&store(1, 3, 8, true), 0), Then::Fine);
        assert_eq!(given(&mut items), [-4, 5, 6, 7, 8, 9]);
        assert_eq!(feed.looked(&store(1, 3, 8, true), 0), Then::Fine, "a look of before");
        assert_eq!(feed.attached(Mark { life: 1, n: 11 }, 0), Then::Look);
        assert_eq!(feed.looked(&store(1, 12, 13, true), 0), Then::Fine);
        assert_eq!(given(&mut items), [-11, 12, 13], "the ring has no 10 any more");
        assert_eq!(feed.hear(frame(2, 1), 0), Then::Look, "another life");
        assert_eq!(feed.looked(&store(2, 1, 2, true), 0), Then::Fine);
        assert_eq!(given(&mut items), [0, 1, 2]);
        assert_eq!(feed.looked(&store(2, 1, 3, false), 0), Then::Attach, "it was taken for gone");
        assert_eq!(feed.looked(&Looked::default(), 0), Then::Attach);
    }

    #[test]
    fn one_that_is_told_before_it_is_told_where_it_is_begins_there() {
        let mut feed = Feed::new(0);
        let mut items = listening(&mut feed);
        assert_eq!(feed.hear(frame(1, 5), 0), Then::Fine);
        assert_eq!(given(&mut items), [-4, 5]);
        let mut late = listening(&mut feed);
        assert_eq!(given(&mut late), [-5]);
        feed.leave(1, 7);
        assert_eq!((feed.outlets.len(), feed.empty), (0, Some(7)));
    }

    proptest! {
        #[test]
        fn whatever_the_post_does_the_order_holds(heard in proptest::collection::vec((1_u64..60, any::<bool>()), 0..200)) {
            let mut feed = Feed::new(0);
            let mut items = listening(&mut feed);
            feed.attached(Mark { life: 1, n: 0 }, 0);
            let mut most = 0;
            for (n, look) in heard {
                most = most.max(n);
                let then = feed.hear(frame(1, n), 0);
                if look && then == Then::Look {
                    feed.looked(&store(1, most.saturating_sub(20).max(1), most, true), 0);
                }
            }
            let mut before = 0;
            for n in given(&mut items) {
                if n <= 0 {
                    prop_assert!(-n >= before);
                    before = -n;
                } else {
                    prop_assert_eq!(n, before + 1);
                    before = n;
                }
            }
        }
    }
}
