//! Keys change lanes as they are paused and resumed.
//!
//! Invariant: a lane that takes keys in takes the lower of both lines, so that nothing of them is forgotten.

use std::sync::Arc;

use super::Lanes;
use crate::{
    backend::Scope,
    runtime::{
        lane::{Belongs, LaneId, Mail, Order, Timed},
        pausing::Pausing,
    },
};

impl Lanes {
    /// What is paused, as far as lanes follow it.
    pub(crate) fn pausing(&self) -> Arc<Pausing> {
        self.pausing.clone()
    }

    /// What is paused has changed.
    pub(crate) fn pause(&mut self, pausing: Arc<Pausing>) {
        let before = std::mem::replace(&mut self.pausing, pausing);
        let resumed: Vec<Scope> = before.scopes().filter(|scope| !self.pausing.contains(scope)).collect();
        if !resumed.is_empty() && self.take_in(LaneId::RESUMED, |id| id == LaneId::PAUSED) {
            self.resumed.extend(resumed);
        }
        if self.pausing.is_empty() {
            // What it waited for is the other lane's now.
            if let Some(paused) = self.lanes.get_mut(&LaneId::PAUSED) {
                let waiting = std::mem::take(&mut paused.waiting);
                (paused.mail.unread, paused.due.unread) = (None, None);
                self.lanes.retain(|_, lane| !lane.is_over());
                if let Some(lane) = self.lanes.get_mut(&LaneId::RESUMED) {
                    lane.waiting += waiting;
                }
            }
        } else if self.pausing.scopes().any(|scope| !before.contains(&scope)) {
            self.take_in(LaneId::PAUSED, |id| id != LaneId::NOTES);
        }
    }

    /// A lane takes keys of others in, and with them their lines; whether any of those waited.
    fn take_in(&mut self, into: LaneId, from: impl Fn(LaneId) -> bool) -> bool {
        let others = || self.lanes.iter().filter(|(id, _)| **id == into || from(**id)).map(|(_, lane)| lane);
        let mail = others().filter_map(|lane| lane.mail.unread).min();
        let due = others().filter_map(|lane| lane.due.unread).min();
        if mail.is_none() && due.is_none() {
            return false;
        }
        let walks = self.walks;
        let lane = self.lane(Belongs::special(into));
        // A walk that is on its way has passed some of them as another's.
        (lane.mail.unread, lane.mail.denied) = (mail, walks[Mail::INDEX]);
        (lane.due.unread, lane.due.denied) = (due, walks[Timed::INDEX]);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Position;

    #[test]
    fn what_is_paused_gets_no_memory() {
        let lanes = Lanes::new(8, 1 << 20, Position::new(0, 0));
        assert_eq!(lanes.room_for(Belongs::special(LaneId::PAUSED)), 0);
        assert_eq!(lanes.room_for(Belongs::special(LaneId::RESUMED)), 8);
    }
}
