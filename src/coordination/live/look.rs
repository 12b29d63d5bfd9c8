//! What the store says of a channel: its ring, as a look found it.

use std::sync::Arc;

use super::{channel::State, line::Frame, mark::Mark};

/// One look at a channel.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    /// Where the channel is; `None` when nothing is kept of it.
    pub(crate) head: Option<Mark>,
    /// Whether this node is told of its events.
    pub(crate) attached: bool,
    /// What the ring holds, oldest first.
    frames: Vec<Arc<Frame>>,
}

/// What comes after a mark.
#[derive(Debug)]
pub(crate) enum After<'a> {
    /// These, and nothing is missing.
    Missed(&'a [Arc<Frame>]),
    /// Something is missing that was before this, and then come these.
    Gap(Mark, &'a [Arc<Frame>]),
}

impl Looked {
    pub(crate) fn new(state: &State, me: u64, channel: &str, secret: &[u8; 32]) -> Self {
        let Some(head) = state.head else { return Self::default() };
        let frame = |kept: &Arc<super::ring::Kept>| {
            let mark = Mark { n: kept.n, ..head };
            Frame::new(mark, kept.event.clone(), kept.value.as_str(), mark.token(channel, secret))
        };
        Self {
            head: Some(head),
            attached: state.followers.iter().any(|follower| follower.node == me),
            frames: state.ring.iter().map(frame).collect(),
        }
    }

    /// What comes after `mark`; of a channel of which nothing is kept, nothing is known either.
    pub(crate) fn after(&self, mark: Mark) -> After<'_> {
        let Some(head) = self.head else { return After::Gap(mark, &[]) };
        let first = self.frames.first().map_or(head.n + 1, |frame| frame.mark.n);
        if mark.life != head.life || mark.n > head.n || mark.n + 1 < first {
            return After::Gap(Mark { n: first - 1, ..head }, &self.frames);
        }
        After::Missed(&self.frames[self.frames.partition_point(|frame| frame.mark.n <= mark.n)..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::live::ring::Kept;

    fn look(life: u64, first: u64, last: u64) -> Looked {
        let mut state = State { head: Some(Mark { life, n: last }), ..State::default() };
        (first..=last).for_each(|n| state.ring.push(Kept { n, at: 0, event: "e".into(), value: "1".into() }));
        Looked::new(&state, 1, "c", &[0; 32])
    }

    #[test]
    fn it_says_what_was_missed_or_that_something_is_missing() {
        let numbers = |frames: &[Arc<Frame>]| frames.iter().map(|frame| frame.mark.n).collect::<Vec<_>>();
        let after = |looked: &Looked, life, n| match looked.after(Mark { life, n }) {
            After::Missed(frames) => (None, numbers(frames)),
            After::Gap(mark, frames) => (Some(mark.n), numbers(frames)),
        };
        let looked = look(4, 6, 9);
        assert_eq!(after(&looked, 4, 9), (None, vec![]));
        assert_eq!(after(&looked, 4, 7), (None, vec![8, 9]));
        assert_eq!(after(&looked, 4, 5), (None, vec![6, 7, 8, 9]));
        assert_eq!(after(&looked, 4, 4), (Some(5), vec![6, 7, 8, 9]));
        assert_eq!(after(&looked, 4, 10), (Some(5), vec![6, 7, 8, 9]), "a store that was set back");
        assert_eq!(after(&looked, 3, 7), (Some(5), vec![6, 7, 8, 9]), "another life");
        let aged = look(4, 10, 9);
        assert_eq!(after(&aged, 4, 9), (None, vec![]));
        assert_eq!(after(&aged, 4, 8), (Some(9), vec![]));
        assert_eq!(after(&Looked::default(), 4, 8), (Some(8), vec![]));
    }
}
