//! Schedules: something is told to an actor again and again, or once, at its time (G7).
//!
//! A schedule is a durable actor of the kind `greenroom_schedule`, its key the schedule's name. Its state says
//! which slot is next, and a durable timer wakes it when that is due. The commit that ends the timer's message
//! holds the state with the slot taken, the next timer and the command that is told: so a slot takes effect
//! once, on however many nodes, and there is no lock.
//!
//! * [`spec`] is when slots are: [`cron`] in a [`zone`], intervals, dates; [`slots`] are those between two times.
//! * [`definition`] is what one writes, and what is stored of it; [`course`] where a schedule is on its way.
//! * [`decide`] is what it does when something happens: pure. [`actor`] carries it out.
//! * [`declare`] tells schedules what features declare; [`steer`] is how others make, see ([`view`]) and steer
//!   them.

mod actor;
mod course;
mod cron;
mod decide;
#[cfg(test)]
mod decide_tests;
mod declare;
mod definition;
mod slots;
mod spec;
mod steer;
mod view;
mod zone;
#[cfg(test)]
mod zone_tests;

use std::sync::Arc;

pub(crate) use self::{
    actor::Schedules,
    declare::{Declaration, Declared, declare},
    steer::{list, one},
};
pub use self::{
    definition::{Missed, Overlap, Schedule},
    steer::Steer,
    view::{More, PastView, ScheduleView, Standing, WhenView},
};
use crate::{error::Result, feature::Feature};

/// The actor of all schedules, which knows what these features declare.
pub(crate) fn actor(features: &[Feature]) -> Result<Schedules> {
    Ok(Schedules { declared: Arc::new(Declared::of(features)?) })
}
