//! How far the mailbox was handed out: what was parked goes on only when nothing that is before it may still
//! come from there.
//!
//! What runs stays in the mailbox while what waits behind it is parked. When its owner dies then, the next one
//! finds the later message parked and the earlier one in the mailbox, which may be long.
//!
//! Invariant: whatever of an actor is in the mailbox before [`handed`](Lanes::handed) has been sent to it.

use super::Lanes;
use crate::{envelope::Position, runtime::lane::Belongs};

impl Lanes {
    /// The front has come to the end of the mailbox: what is appended now is after all that is parked.
    pub(crate) fn end_of_mailbox(&mut self) {
        self.ended = true;
    }

    /// What was taken from the mailbox is about to be sent to its actors (lowest first); `None`: it has been.
    pub(crate) fn hand_out(&mut self, first: Option<Position>) {
        self.in_hand = first;
    }

    /// All messages of an actor that are before this have been sent to it or are gone; `None`: all are.
    pub(crate) fn handed(&self, belongs: Belongs) -> Option<Position> {
        let unread = self.lanes.get(&belongs.lane).and_then(|lane| lane.mail.unread);
        let ahead = (!self.ended).then(|| Position::new(self.front.partition(), self.front.number() + 1));
        [unread, ahead, self.in_hand].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        actor::Priority,
        runtime::lane::{LaneId, Mail},
    };

    #[test]
    fn what_waits_and_what_is_in_hand_has_not_been_handed_out() {
        let at = |number| Position::new(0, number);
        let [ann, bob] = ["ann", "bob"].map(|tenant| Belongs::of("job", Some(tenant), Priority::Normal));
        let mut lanes = Lanes::new(8, 1 << 20, at(0));
        assert_eq!(lanes.handed(ann), Some(at(1)), "nothing was read yet");
        // Nobody has room, and ann's is passed over.
        let walk = lanes.walk::<Mail>(Some(at(1)), true);
        assert!(!lanes.admit::<Mail>(walk, Belongs { lane: LaneId::PAUSED, ..ann }, at(5)));
        lanes.front = at(9);
        lanes.end_of_mailbox();
        assert_eq!(lanes.handed(bob), None);
        assert_eq!(lanes.handed(Belongs { lane: LaneId::PAUSED, ..ann }), Some(at(5)));
        lanes.hand_out(Some(at(3)));
        assert_eq!(lanes.handed(bob), Some(at(3)));
        lanes.hand_out(None);
        assert_eq!(lanes.handed(bob), None);
    }
}
