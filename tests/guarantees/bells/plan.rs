//! Two hundred bells, and when each rings: said as the program declares it, and said again as the test
//! computes it, from the clock on the wall alone.

#![allow(dead_code, reason = "the program reads one half of it and the test the other")]

use jiff::civil::DateTime;

/// When a bell rings, as it is declared.
#[derive(Clone, Copy)]
pub(crate) enum When {
    Cron(&'static str),
    /// Every so many seconds.
    Every(u64),
}

/// Whether it rings in a second since the Unix epoch, when the clocks of its zone show this.
type Rings = fn(i64, DateTime) -> bool;

const WHENS: [(When, Rings); 8] = [
    (When::Cron("*/2 * * * * *"), |_, wall| wall.second() % 2 == 0),
    (When::Cron("*/5 * * * * *"), |_, wall| wall.second() % 5 == 0),
    (When::Cron("3,13,23,33,43,53 * * * * *"), |_, wall| wall.second() % 10 == 3),
    (When::Cron("0-59/7 * * * * *"), |_, wall| wall.second() % 7 == 0),
    (When::Cron("*/10 */2 * * * *"), |_, wall| wall.second() % 10 == 0 && wall.minute() % 2 == 0),
    (When::Cron("*/6 1-59/2 * * * *"), |_, wall| wall.second() % 6 == 0 && wall.minute() % 2 == 1),
    (When::Every(3), |second, _| second % 3 == 0),
    (When::Every(4), |second, _| second % 4 == 0),
];

// By one of them the minutes are odd that are even by the others.
const ZONES: [&str; 5] = ["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe"];

pub(crate) const BELLS: usize = 200;

/// A bell.
#[derive(Clone)]
pub(crate) struct Planned {
    pub(crate) name: String,
    pub(crate) when: When,
    pub(crate) zone: &'static str,
    /// In milliseconds.
    pub(crate) jitter: u64,
    /// Whether it waits for what still rings.
    pub(crate) waits: bool,
    pub(crate) rings: Rings,
}

/// All of them.
pub(crate) fn bells() -> Vec<Planned> {
    let bell = |number: usize| {
        let (when, rings) = WHENS[number % WHENS.len()];
        let zone = ZONES[number / WHENS.len() % ZONES.len()];
        let (jitter, waits) = (if number.is_multiple_of(3) { 900 } else { 0 }, number.is_multiple_of(2));
        Planned { name: format!("bell-{number:03}"), when, zone, jitter, waits, rings }
    };
    (0..BELLS).map(bell).collect()
}
