//! One case after the other, by name.

use super::*;

#[test]
fn of_missed_slots_one_runs_or_all_or_none_as_was_said() {
    let began = |missed, late| {
        let mut sim = world(every(10).missed(missed).overlap(Overlap::Allow), By::Feature);
        passes(&mut sim, late);
        let course = sim.state.unwrap();
        (sim.begun.into_iter().map(|slot| slot / SECOND).collect::<Vec<_>>(), course.left_out)
    };
    assert_eq!(began(Missed::Once, 35), (vec![1_030], 2));
    assert_eq!(began(Missed::All { most: 2 }, 35), (vec![1_020, 1_030], 1));
    assert_eq!(began(Missed::All { most: 9 }, 35), (vec![1_010, 1_020, 1_030], 0));
    assert_eq!(began(Missed::Skip, 35), (vec![1_030], 2), "the newest is on time");
    let hourly = |missed| {
        let mut sim = world(every(3_600).missed(missed), By::Feature);
        passes(&mut sim, 3 * 3_600);
        (sim.begun.len(), sim.state.unwrap().left_out)
    };
    assert_eq!(hourly(Missed::Once), (1, 2));
    assert_eq!(hourly(Missed::Skip), (0, 3), "800 s late");
}

#[test]
fn a_slot_that_is_too_late_does_not_run() {
    let mut sim =
        world(every(10).missed(Missed::All { most: 9 }).within(std::time::Duration::from_secs(12)), By::Feature);
    passes(&mut sim, 35);
    assert_eq!(sim.begun, [1_030_000].into(), "and those that are 15 s late and more do not");
    assert_eq!(sim.state.unwrap().left_out, 2);
}

#[test]
fn a_change_settles_what_was_due_and_begins_with_what_is_due_next() {
    let mut sim = world(every(10), By::Feature);
    sim.now += 10 * SECOND;
    // Its timer is on its way.
    sim.happens(Event::Set(definition(every(4)), By::Feature)).unwrap();
    assert_eq!(sim.begun, [1_010_000].into());
    sim.ends(0);
    sim.timers_come(false);
    passes(&mut sim, 2);
    assert_eq!(sim.begun, [1_010_000, 1_012_000].into());
}

#[test]
fn what_comes_while_another_runs_is_skipped_queued_or_replaces_it() {
    let after = |overlap| {
        let mut sim = world(every(10).overlap(overlap), By::Feature);
        for _ in 0..3 {
            passes(&mut sim, 10);
        }
        let began = sim.begun.len();
        sim.ends(0);
        sim.ends(0);
        (began, sim.begun.into_iter().map(|slot| slot / SECOND).collect::<Vec<_>>())
    };
    assert_eq!(after(Overlap::Skip), (1, vec![1_010]));
    assert_eq!(after(Overlap::Queue), (1, vec![1_010, 1_020, 1_030]));
    assert_eq!(after(Overlap::Cancel), (1, vec![1_010, 1_030]));
    assert_eq!(after(Overlap::Allow), (3, vec![1_010, 1_020, 1_030]));
    let mut sim = world(every(10).overlap(Overlap::Cancel), By::Feature);
    passes(&mut sim, 10);
    sim.now += 10 * SECOND;
    let follow = sim.happens(Event::Tick { at: 1_020_000, declared: true }).unwrap();
    assert_eq!(follow.withdraw, Some(Run { slot: 1_010_000, wanted: false }));
}

#[test]
fn paused_it_takes_nothing_and_goes_on_with_the_next() {
    let mut sim = world(every(10), By::Feature);
    sim.happens(Event::Pause).unwrap();
    passes(&mut sim, 25);
    assert_eq!(sim.begun, [].into());
    sim.happens(Event::Resume).unwrap();
    sim.timers_come(false);
    assert_eq!(sim.begun, [].into(), "what passed meanwhile was not meant to run");
    passes(&mut sim, 5);
    assert_eq!(sim.begun, [1_030_000].into());
    // What is told once was.
    let mut once = world(Schedule::once(1_005_000), By::Actor);
    once.happens(Event::Pause).unwrap();
    passes(&mut once, 25);
    once.happens(Event::Resume).unwrap();
    once.timers_come(false);
    assert_eq!(once.begun, [1_005_000].into());
}

#[test]
fn a_reminder_leaves_nothing_and_a_declared_one_is_remembered() {
    let mut sim = world(Schedule::once(1_005_000).history(0), By::Actor);
    passes(&mut sim, 5);
    assert_eq!((sim.state, sim.timers.len()), (None, 0));
    let mut late = world(Schedule::once(5).history(0), By::Actor);
    late.timers_come(false);
    assert_eq!((late.state, late.open.len()), (None, 1), "a time that has passed is told late");
    let past = world(Schedule::once(5), By::Feature);
    assert!(past.begun.is_empty() && past.state.is_some(), "a declared one that has passed is over");
    let mut put_off = world(Schedule::once(1_005_000).history(0), By::Actor);
    for later in 1..100 {
        put_off.happens(Event::Set(definition(Schedule::once(1_005_000 + later).history(0)), By::Actor)).unwrap();
    }
    assert_eq!(put_off.timers, [1_005_000], "putting it off sets no timers");
    passes(&mut put_off, 5);
    assert!(put_off.state.is_some());
    passes(&mut put_off, 1);
    assert_eq!((put_off.state, put_off.timers.len()), (None, 0));
}

#[test]
fn what_nobody_declares_any_more_stops_and_goes_on_when_somebody_does() {
    let mut sim = world(every(10), By::Feature);
    sim.now += 10 * SECOND;
    sim.timers.clear();
    sim.happens(Event::Tick { at: 1_010_000, declared: false }).unwrap();
    assert_eq!(sim.state.as_ref().unwrap().by, By::Orphan);
    passes(&mut sim, 100);
    assert!(sim.begun.is_empty());
    sim.happens(Event::Set(definition(every(10)), By::Feature)).unwrap();
    passes(&mut sim, 10);
    assert_eq!(sim.begun, [1_120_000].into());
}

#[test]
fn actors_do_not_change_what_a_feature_declares_and_operators_may() {
    let mut sim = world(every(10), By::Feature);
    let refused = [
        sim.happens(Event::Set(definition(every(9)), By::Actor)).unwrap_err(),
        sim.happens(Event::Remove { by_actor: true }).unwrap_err(),
    ];
    assert!(refused.iter().all(|error| error.is_terminal() && error.has_code("declared_schedule")));
    sim.happens(Event::Remove { by_actor: false }).unwrap();
    assert_eq!(sim.state, None);
    assert!(sim.happens(Event::Run).unwrap_err().has_code("unknown_schedule"));
}

#[test]
fn whoever_wants_it_now_gets_it_now_as_far_as_runs_may_overlap() {
    let mut sim = world(every(10), By::Feature);
    sim.happens(Event::Run).unwrap();
    assert_eq!(sim.open, [Run { slot: 1_000_000, wanted: true }]);
    let error = sim.happens(Event::Run).unwrap_err();
    assert!(error.is_terminal() && error.has_code("still_running"), "{error}");
    sim.ends(0);
    sim.happens(Event::Run).unwrap();
    assert_eq!(sim.open, [Run { slot: 1_000_001, wanted: true }], "each is one of its own");
}

#[test]
fn history_says_how_each_ended_and_for_how_many_nothing_happened() {
    let mut sim = world(every(10).history(3), By::Feature);
    passes(&mut sim, 10);
    passes(&mut sim, 30);
    let run = sim.open.remove(0);
    sim.happens(Event::Ended { run, outcome: Outcome::DeadLettered, attempts: 8, at: sim.now }).unwrap();
    passes(&mut sim, 35);
    let history = &sim.state.as_ref().unwrap().history;
    let said: Vec<_> = history.iter().map(|past| (past.run.slot / SECOND, past.outcome, past.number)).collect();
    assert_eq!(said, [(1_040, Outcome::Skipped, 1), (1_060, Outcome::Missed, 2), (1_070, Outcome::Begun, 0)]);
    // A dead letter that was put back ends again.
    let run = Run { slot: 1_070_000, wanted: false };
    sim.happens(Event::Ended { run, outcome: Outcome::DeadLettered, attempts: 8, at: 7 }).unwrap();
    sim.happens(Event::Ended { run, outcome: Outcome::Completed, attempts: 9, at: 8 }).unwrap();
    let past = sim.state.unwrap().history.pop().unwrap();
    assert_eq!((past.outcome, past.ended, past.number), (Outcome::Completed, 8, 9));
}

#[test]
fn jitter_puts_a_slot_off_and_no_further_than_the_next() {
    let jittered = every(10).jitter(std::time::Duration::from_secs(8));
    let mut sim = world(jittered, By::Feature);
    let at = fires(NAME, 1_010_000, Some(1_020_000), 8_000);
    assert!(at > 1_010_000, "or this test shows nothing");
    sim.now = at - 1;
    sim.timers_come(false);
    assert!(sim.begun.is_empty());
    sim.now = at;
    sim.timers_come(false);
    assert_eq!(sim.begun, [1_010_000].into());
}
