//! What is counted of schedules: what became of their slots, and how late those are that were taken.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::{Registry, Unit},
};

use super::histogram::Histogram;

/// What can become of a slot; the last one stands for whatever is not listed.
const OUTCOMES: [&str; 4] = ["taken", "missed", "skipped", "other"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Slot {
    outcome: &'static str,
}

/// The series of all schedules.
pub(super) struct Schedules {
    slots: Family<Slot, Counter>,
    lag: Histogram,
}

impl Schedules {
    pub(super) fn register(to: &mut Registry) -> Self {
        let schedules = Self { slots: Family::default(), lag: Histogram::seconds() };
        to.register("schedule_slots", "Slots of schedules, by what became of them", schedules.slots.clone());
        let late = "Time from when a slot was to fire to when it was taken";
        to.register_with_unit("schedule_lag", late, Unit::Seconds, schedules.lag.clone());
        schedules
    }

    pub(super) fn slots(&self, outcome: &str, count: u64) {
        if count > 0 {
            let outcome = OUTCOMES.into_iter().find(|known| *known == outcome).unwrap_or("other");
            self.slots.get_or_create(&Slot { outcome }).inc_by(count);
        }
    }

    pub(super) fn lag(&self, seconds: f64) {
        self.lag.observe(seconds);
    }
}
