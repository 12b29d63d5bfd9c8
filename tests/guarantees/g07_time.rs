//! G7 time: a timer never fires early, fires once, and outlives the process. A schedule's slot takes effect
//! once, on however many nodes, whatever dies and whatever clocks say.

use std::time::Duration;

use greenroom::{
    Actor, Feature,
    prelude::*,
    testing::{Point, World},
};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use crate::{
    bells,
    tape::{Tape, Tell, Witness},
};

#[test]
fn timers_fire_once_at_their_time_in_their_order() {
    for seed in 1..=5 {
        let witness = Witness::default();
        let shared = witness.clone();
        let features = move || vec![Feature::new(Tape { witness: shared.clone(), clock: None })];
        World::new(features).seed(seed).play(async |mut world| {
            let mut random = world.random();
            let begun = world.now();
            let mut due = Vec::new();
            for n in 1..=60 {
                let seconds = 1 + random.below(86_400 * 30);
                world.tell(Tape::at(format!("k{}", n % 6)), Tell::Later(n, seconds)).await.unwrap();
                due.push((n, begun + seconds as i64 * 1000));
            }
            for _ in 0..30 {
                if random.one_in(3) {
                    world.crash_at(Point::ALL[random.below(8) as usize]);
                }
                world.advance(Duration::from_secs(random.below(86_400 * 2))).await;
            }
            world.advance(Duration::from_secs(86_400 * 31)).await;
            world.no_loss().await;
            world.no_duplicate();
            let attempts = witness.attempts.lock().unwrap().clone();
            for (n, due) in due {
                // The first attempt set the timer, the others are its firing.
                let fired: Vec<i64> =
                    attempts.iter().filter(|(_, m, ..)| *m == n).map(|(.., at)| *at).skip(1).collect();
                assert!(!fired.is_empty() && fired.iter().all(|at| *at >= due), "{n} due {due} fired {fired:?}");
                assert!(fired[0] <= due + 86_400_000 * 31, "{n} fired late");
            }
        });
    }
}

#[test]
fn a_timer_fires_to_the_millisecond_when_nothing_is_in_the_way() {
    let witness = Witness::default();
    let shared = witness.clone();
    World::new(move || vec![Feature::new(Tape { witness: shared.clone(), clock: None })]).play(async |mut world| {
        let begun = world.now();
        world.tell(Tape::at("a"), Tell::Later(1, 86_400 * 30)).await;
        world.tell(Tape::at("a"), Tell::Later(2, 86_400 * 30 + 3)).await;
        world.advance(Duration::from_millis(86_400_000 * 30 - 1)).await;
        assert_eq!(world.state::<Tape>("a").await.unwrap_or_default(), Vec::<u64>::new());
        world.advance(Duration::from_millis(1)).await;
        assert_eq!(world.state::<Tape>("a").await, Some(vec![1]));
        assert_eq!(witness.attempts.lock().unwrap().last().unwrap().3, begun + 86_400_000 * 30);
        // That one has fired is no reason for the next to be early.
        world.advance(Duration::from_millis(2_999)).await;
        assert_eq!(world.state::<Tape>("a").await, Some(vec![1]));
        world.advance(Duration::from_millis(1)).await;
        assert_eq!(world.state::<Tape>("a").await, Some(vec![1, 2]));
    });
}

/// Writes down for which slots it rang, and when.
struct Bell;

impl Actor for Bell {
    const KIND: &'static str = "bell";
    type State = Vec<(i64, i64)>;
    type Command = ();
    type Reply = ();

    async fn handle(&self, rung: &mut Self::State, (): (), cx: &Context<Self>) -> Result<()> {
        rung.push((cx.slot().unwrap_or_default(), cx.now()));
        Ok(())
    }
}

/// Schedules, each with what it means: by the clock of each minute in a zone.
type Meaning = (&'static str, &'static str, fn(DateTime) -> bool);

const SCHEDULES: [Meaning; 4] = [
    ("*/15 * * * *", "UTC", |wall| wall.minute() % 15 == 0),
    ("7 */3 * * *", "Asia/Kathmandu", |wall| wall.minute() == 7 && wall.hour() % 3 == 0),
    ("30 9 * * MON-FRI", "America/New_York", |wall| {
        (wall.hour(), wall.minute()) == (9, 30) && (1..=5).contains(&wall.weekday().to_sunday_zero_offset())
    }),
    ("0 0,12 * * *", "Europe/Berlin", |wall| wall.hour() % 12 == 0 && wall.minute() == 0),
];

/// The slots of a meaning in a time, by looking at each minute.
fn looked_for((_, zone, rings): Meaning, after: i64, until: i64) -> Vec<i64> {
    let zone = TimeZone::get(zone).unwrap();
    let minutes = after / 60_000 + 1..=until / 60_000;
    let wall = |minute: i64| zone.to_datetime(Timestamp::from_second(minute * 60).unwrap());
    minutes.filter(|minute| rings(wall(*minute))).map(|minute| minute * 60_000).collect()
}

#[test]
fn every_slot_takes_effect_once_wherever_the_process_dies() {
    let features = || {
        let declare = |feature: Feature, (cron, zone, _): Meaning| {
            let schedule = Schedule::cron(cron).zone(zone).missed(Missed::All { most: 1000 });
            feature.schedule(cron, schedule.overlap(Overlap::Queue), Bell::at(cron), ())
        };
        vec![SCHEDULES.into_iter().fold(Feature::new(Bell), declare)]
    };
    for seed in 1..=3 {
        World::new(features).seed(seed).play(async |mut world| {
            let mut random = world.random();
            let begun = world.now();
            world.settle().await;
            for _ in 0..20 {
                let point = Point::ALL[random.below(8) as usize];
                world.crash_at_nth(point, 1 + random.below(3) as u32);
                world.advance(Duration::from_secs(random.below(6 * 3600))).await;
            }
            world.advance(Duration::from_secs(60)).await;
            for meaning in SCHEDULES {
                let rung = world.state::<Bell>(meaning.0).await.unwrap_or_default();
                let slots: Vec<i64> = rung.iter().map(|(slot, _)| *slot).collect();
                assert_eq!(slots, looked_for(meaning, begun, world.now()), "{} with {seed}", meaning.0);
                assert!(rung.iter().all(|(slot, at)| at >= slot), "{} rang early with {seed}: {rung:?}", meaning.0);
            }
            assert!(world.crashes() >= 8, "only {} crashes with {seed}", world.crashes());
            world.no_loss().await;
            world.no_duplicate();
        });
    }
}

#[test]
fn every_slot_takes_effect_once_on_three_nodes_that_are_killed_paused_and_whose_clocks_jump() {
    let number =
        |variable: &str, default: u64| std::env::var(variable).map_or(default, |text| text.parse().expect("a number"));
    let (seed, rounds) = (number("GREENROOM_TEST_SEED", 7), number("GREENROOM_TEST_ROUNDS", 10));
    println!("GREENROOM_TEST_SEED={seed} GREENROOM_TEST_ROUNDS={rounds}");
    bells::run(seed, rounds as usize);
}
