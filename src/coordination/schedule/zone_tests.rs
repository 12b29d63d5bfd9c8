//! Cron in every zone, around every change of its clocks in several years, held against what one finds by
//! looking at the clock of each minute.

use std::collections::BTreeSet;

use jiff::{
    SignedDuration, Timestamp,
    civil::DateTime,
    tz::{TimeZone, db},
};

use super::{cron::Cron, zone};

/// An expression, whether it names times of the day, and what it means, said a second time.
type Meaning = (&'static str, bool, fn(DateTime) -> bool);

const EXPRESSIONS: [Meaning; 9] = [
    ("30 2 * * *", true, |at| (at.hour(), at.minute()) == (2, 30)),
    ("0,30 0-3 * * *", true, |at| at.hour() <= 3 && at.minute() % 30 == 0),
    ("59 23 * * *", true, |at| (at.hour(), at.minute()) == (23, 59)),
    ("15 1 * * 0", true, |at| (at.hour(), at.minute()) == (1, 15) && at.weekday().to_sunday_zero_offset() == 0),
    ("5 0 1,30,31 * *", true, |at| (at.hour(), at.minute()) == (0, 5) && [1, 30, 31].contains(&at.day())),
    ("0 * * * *", false, |at| at.minute() == 0),
    ("*/20 * * * *", false, |at| at.minute() % 20 == 0),
    ("*/7 2 * * *", false, |at| at.hour() == 2 && at.minute() % 7 == 0),
    ("45 */2 * * 0", false, |at| at.hour() % 2 == 0 && at.minute() == 45 && at.weekday().to_sunday_zero_offset() == 0),
];

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
/// Around a change, as far as a day that never came reaches.
const AROUND: SignedDuration = SignedDuration::from_hours(26);

/// The slots of an expression, by looking at the clock of every minute from `begin` to `end`.
fn looked_for((_, named, matches): Meaning, minutes: &[(Timestamp, DateTime)]) -> BTreeSet<Timestamp> {
    let shown = minutes.iter().filter(|(_, wall)| matches(*wall));
    if !named {
        return shown.map(|(at, _)| *at).collect();
    }
    // Each time that is named: the first minute that shows it, or when the clocks first show something later.
    let mut wall = minutes[0].1;
    let mut slots = BTreeSet::new();
    while wall <= minutes[minutes.len() - 1].1 {
        if matches(wall) {
            let shows = minutes.iter().find(|(_, shown)| *shown == wall);
            let over = || minutes.iter().find(|(_, shown)| *shown > wall);
            slots.extend(shows.or_else(over).map(|(at, _)| *at));
        }
        wall = wall.checked_add(MINUTE).unwrap();
    }
    slots
}

/// Compares around one change.
fn compare(zone: &TimeZone, change: Timestamp) {
    let begin = change.checked_sub(AROUND).unwrap();
    let begin = Timestamp::from_second(begin.as_second().div_euclid(60) * 60).unwrap();
    let minutes: Vec<(Timestamp, DateTime)> = (0..2 * 26 * 60)
        .map(|minute| begin.checked_add(SignedDuration::from_mins(minute)).unwrap())
        .map(|at| (at, zone.to_datetime(at)))
        .collect();
    let end = minutes[minutes.len() - 1].0;
    for expression in EXPRESSIONS {
        let expected = looked_for(expression, &minutes);
        let cron = Cron::read(expression.0, zone).unwrap();
        let before = begin.checked_sub(SignedDuration::from_secs(1)).unwrap();
        let slots = std::iter::successors(cron.next(before), |slot| cron.next(*slot));
        let found: BTreeSet<Timestamp> = slots.take_while(|slot| *slot <= end).collect();
        let name = zone.iana_name().unwrap_or_default();
        assert_eq!(found, expected, "{} in {name} around {change}", expression.0);
        // The answer does not depend on where one asks.
        for (at, _) in minutes.iter().step_by(97) {
            let next = expected.range(at.checked_add(SignedDuration::from_nanos(1)).unwrap()..).next();
            if let Some(next) = next {
                assert_eq!(cron.next(*at), Some(*next), "{} in {name} after {at}", expression.0);
            }
        }
    }
}

/// Changes of the clocks in a time that move the clocks by whole minutes.
fn changes(zone: &TimeZone, from: &str, to: &str) -> Vec<Timestamp> {
    let (from, to): (Timestamp, Timestamp) = (from.parse().unwrap(), to.parse().unwrap());
    let within = zone.following(from).map(|change| change.timestamp()).take_while(|at| *at < to);
    within.filter(|at| zone.to_offset(*at).seconds() % 60 == 0 && at.as_second() % 60 == 0).collect()
}

#[test]
fn cron_is_what_one_finds_by_looking_at_the_clock_of_each_minute() {
    let mut seen = BTreeSet::new();
    let mut compared = 0;
    for name in db().available() {
        let zone = zone::find(name.as_str()).unwrap();
        let changes = changes(&zone, "2025-06-01T00:00Z", "2027-06-01T00:00Z");
        for change in changes {
            // Most zones change like another one.
            let before = zone.to_offset(change.checked_sub(MINUTE).unwrap());
            if seen.insert((change, before.seconds(), zone.to_offset(change).seconds())) {
                compare(&zone, change);
                compared += 1;
            }
        }
    }
    assert!(compared > 40, "only {compared} changes");
    println!("{compared} changes of clocks");
}

#[test]
fn so_it_is_where_clocks_change_in_unusual_ways() {
    for (name, from, to) in [
        // A day that never came, and an hour before that.
        ("Pacific/Apia", "2011-09-01T00:00Z", "2012-05-01T00:00Z"),
        // Half an hour.
        ("Australia/Lord_Howe", "2024-01-01T00:00Z", "2026-01-01T00:00Z"),
        // Two hours.
        ("Antarctica/Troll", "2024-01-01T00:00Z", "2026-01-01T00:00Z"),
        // Ramadan: four changes a year.
        ("Africa/Casablanca", "2023-01-01T00:00Z", "2025-01-01T00:00Z"),
        // Winter is what is saved.
        ("Europe/Dublin", "2024-01-01T00:00Z", "2026-01-01T00:00Z"),
        // The zone itself moved, by half an hour and back.
        ("Asia/Pyongyang", "2015-01-01T00:00Z", "2019-01-01T00:00Z"),
        ("America/Caracas", "2007-01-01T00:00Z", "2017-01-01T00:00Z"),
        // At midnight, and at one minute past.
        ("America/Havana", "2024-01-01T00:00Z", "2026-01-01T00:00Z"),
        ("America/St_Johns", "2009-01-01T00:00Z", "2011-01-01T00:00Z"),
        // Three hours, and back.
        ("Antarctica/Casey", "2009-01-01T00:00Z", "2024-01-01T00:00Z"),
    ] {
        let zone = zone::find(name).unwrap();
        let changes = changes(&zone, from, to);
        assert!(!changes.is_empty(), "{name}");
        changes.into_iter().for_each(|change| compare(&zone, change));
    }
}
