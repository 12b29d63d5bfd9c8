//! What is counted for each actor kind. Invariant: a handle holds every series it can ever touch,
//! so recording takes no lock and looks nothing up.

use std::sync::Arc;

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::{Registry, Unit},
};

use super::{
    histogram::Histogram,
    labels::{Command, Kind, OUTCOMES},
};

/// The series of one kind. Cheap to clone; keep it where the kind is run.
#[derive(Clone, Debug)]
pub struct KindMetrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    commands: [Counter; OUTCOMES.len()],
    seconds: Histogram,
    retries: Counter,
    dead_letters: Counter,
    passivations: Counter,
}

impl KindMetrics {
    /// An attempt ended with `outcome`: `completed`, `failed`, `retried`, `dead-lettered`,
    /// `cancelled`, or whatever else as `other`; it took `seconds`.
    pub fn command(&self, outcome: &str, seconds: f64) {
        let index = OUTCOMES.iter().position(|known| *known == outcome).unwrap_or(OUTCOMES.len() - 1);
        if let Some(counter) = self.inner.commands.get(index) {
            counter.inc();
        }
        self.inner.seconds.observe(seconds);
    }

    /// A command will be tried again.
    pub fn retried(&self) {
        self.inner.retries.inc();
    }

    /// A command was given up.
    pub fn dead_lettered(&self) {
        self.inner.dead_letters.inc();
    }

    /// An idle activation left memory.
    pub fn passivated(&self) {
        self.inner.passivations.inc();
    }
}

/// The families the series of all kinds belong to.
pub(super) struct Families {
    commands: Family<Command, Counter>,
    seconds: Family<Kind, Histogram, fn() -> Histogram>,
    retries: Family<Kind, Counter>,
    dead_letters: Family<Kind, Counter>,
    passivations: Family<Kind, Counter>,
}

impl Families {
    pub(super) fn register(to: &mut Registry) -> Self {
        let families = Self {
            commands: Family::default(),
            seconds: Family::new_with_constructor(Histogram::seconds),
            retries: Family::default(),
            dead_letters: Family::default(),
            passivations: Family::default(),
        };
        to.register("commands", "Attempts of commands that ended", families.commands.clone());
        to.register_with_unit("command", "Time of one attempt", Unit::Seconds, families.seconds.clone());
        to.register("retries", "Commands put back to be tried again", families.retries.clone());
        to.register("dead_letters", "Commands given up", families.dead_letters.clone());
        to.register("passivations", "Idle activations that left memory", families.passivations.clone());
        families
    }

    pub(super) fn kind(&self, kind: &str) -> KindMetrics {
        let label = Kind { kind: kind.to_owned() };
        let command = |outcome| self.commands.get_or_create_owned(&Command { kind: kind.to_owned(), outcome });
        KindMetrics {
            inner: Arc::new(Inner {
                commands: OUTCOMES.map(command),
                seconds: self.seconds.get_or_create_owned(&label),
                retries: self.retries.get_or_create_owned(&label),
                dead_letters: self.dead_letters.get_or_create_owned(&label),
                passivations: self.passivations.get_or_create_owned(&label),
            }),
        }
    }
}
