//! Schedules in a world: declared, changed, made at run time, steered, late, and in whatever order a process
//! dies. (That each slot takes effect once is `guarantees/g07_time`.)

mod nodes;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use greenroom::{
    clock::{Clock, Virtual},
    coordination::schedule::{ScheduleView, Standing, Steer},
    prelude::*,
    runtime::{node::Start, settings::Settings},
    testing::{Point, Which, World},
};
use serde::{Deserialize, Serialize};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// When every world begins: 2026-01-01T00:00:00Z.
const BEGINNING: i64 = 1_767_225_600_000;

/// Writes down for which slots it rang.
struct Bell;

#[derive(Serialize, Deserialize, Clone)]
enum Ring {
    Now,
    /// For good, or until it is redriven and somebody said `Mend`.
    Broken,
    Mend,
    /// Until it is told to stop.
    Long,
    /// Asks for a reminder at a time, in seconds from now, by the name of this bell.
    Remind(i64),
    Forget,
}

#[derive(Serialize, Deserialize, Clone, Default, Debug, PartialEq)]
struct Rung {
    /// In seconds since the world began: the slot, and when it rang.
    slots: Vec<(i64, i64)>,
    mended: bool,
}

impl Actor for Bell {
    const KIND: &'static str = "bell";
    type State = Rung;
    type Command = Ring;
    type Reply = usize;

    async fn handle(&self, rung: &mut Rung, ring: Ring, cx: &Context<Self>) -> Result<usize> {
        match ring {
            Ring::Now => {}
            Ring::Broken if !rung.mended => return Err(Error::new("the rope is torn")),
            Ring::Broken => {}
            Ring::Mend => rung.mended = true,
            Ring::Long => cx.signal::<()>("stop").await?,
            Ring::Remind(seconds) => {
                let at = cx.now() + seconds * 1000;
                cx.schedule(format!("remind/{}", cx.key()), Schedule::once(at), cx.me(), Ring::Now);
            }
            Ring::Forget => cx.unschedule(format!("remind/{}", cx.key())),
        }
        if let Some(slot) = cx.slot() {
            rung.slots.push(((slot - BEGINNING) / 1000, (cx.now() - BEGINNING) / 1000));
        }
        Ok(rung.slots.len())
    }

    fn retry(&self) -> Retry {
        Retry::times(2).backoff(SECOND, SECOND)
    }
}

fn bell(name: &str, when: impl Into<Schedule>, ring: Ring) -> Feature {
    Feature::new(Bell).schedule(name, when, Bell::at("tower"), ring)
}

async fn slots(world: &mut World) -> Vec<i64> {
    world.state::<Bell>("tower").await.unwrap_or_default().slots.into_iter().map(|(slot, _)| slot).collect()
}

async fn shown(world: &World, name: &str) -> ScheduleView {
    world.node().scheduled(name).await.unwrap().unwrap_or_else(|| panic!("there is no {name}"))
}

async fn steer(world: &mut World, name: &str, steer: Steer) -> Result<()> {
    let done = world.node().steer_schedule(name, steer).await;
    world.settle().await;
    done
}

fn history(view: &ScheduleView) -> Vec<(i64, &'static str)> {
    let history = &view.more.as_ref().unwrap().history;
    history.iter().map(|past| ((past.slot - BEGINNING) / 1000, past.outcome)).collect()
}

#[test]
fn what_a_feature_declares_is_told_at_its_times() {
    World::new(|| vec![bell("noon", "0 12 * * *", Ring::Now)]).play(async |mut world| {
        world.settle().await;
        assert_eq!(shown(&world, "noon").await.next_at, Some(BEGINNING + 12 * 3_600_000));
        world.advance(3 * DAY).await;
        let noons = [12, 36, 60].map(|hour| (hour * 3600, hour * 3600));
        assert_eq!(world.state::<Bell>("tower").await.unwrap().slots, noons, "to the second");
        let view = shown(&world, "noon").await;
        assert_eq!((view.taken, view.left_out, view.status), (3, 0, Standing::Active));
        assert_eq!(history(&view), [60, 36, 12].map(|hour| (hour * 3600, "completed")));
        let next: Vec<i64> = view.more.unwrap().next.iter().map(|at| (at - BEGINNING) / 3_600_000).collect();
        assert_eq!(next, [84, 108, 132, 156, 180]);
        world.no_loss().await;
        world.no_duplicate();
    });
}

#[test]
fn clocks_that_change_are_followed() {
    let berlin = || Schedule::cron("30 2 * * *").zone("Europe/Berlin");
    World::new(move || vec![bell("half past two", berlin(), Ring::Now)]).play(async |mut world| {
        world.advance(365 * DAY).await;
        let slots = slots(&mut world).await;
        assert_eq!(slots.len(), 365, "once each day");
        let at = |day: i64| slots[day as usize] - day * 86_400;
        assert_eq!(at(10), 5_400, "in winter at 1:30 UTC");
        assert_eq!(at(87), 3_600, "on 29 March, when the clocks go over it, at 1:00 UTC");
        assert_eq!(at(88), 1_800, "in summer at 0:30 UTC");
        assert_eq!(at(297), 1_800, "on 25 October the first time it shows");
        assert_eq!(at(298), 5_400);
    });
}

#[test]
fn reminders_come_once_wherever_the_process_dies_and_leave_nothing() {
    for point in Point::ALL {
        for nth in 1..=3 {
            World::new(|| vec![Feature::new(Bell)]).play(async |mut world| {
                world.settle().await;
                world.crash_at_nth(point, nth);
                for key in ["a", "b", "c", "d"] {
                    world.tell(Bell::at(key), Ring::Remind(60)).await;
                    world.settle().await;
                }
                world.tell(Bell::at("c"), Ring::Remind(90)).await;
                world.tell(Bell::at("d"), Ring::Forget).await;
                world.advance(100 * SECOND).await;
                for (key, rung) in [("a", &[60][..]), ("b", &[60]), ("c", &[90]), ("d", &[])] {
                    let state = world.state::<Bell>(key).await.unwrap_or_default();
                    let slots: Vec<i64> = state.slots.iter().map(|(slot, _)| *slot).collect();
                    assert_eq!(slots, rung, "{key} {point:?} {nth}");
                    assert!(world.node().scheduled(&format!("remind/{key}")).await.unwrap().is_none(), "{key}");
                }
                assert_eq!(world.audit().await.in_flight, 0, "no timer is left");
                world.no_loss().await;
                world.no_duplicate();
            });
        }
    }
}

/// A product that is deployed again and again with other features.
#[derive(Clone, Default)]
struct Deployed(Arc<Mutex<Vec<Feature>>>);

impl Deployed {
    fn world(&self) -> World {
        let features = self.0.clone();
        World::new(move || features.lock().unwrap().clone())
    }

    fn now(&self, feature: Feature) {
        *self.0.lock().unwrap() = vec![feature];
    }
}

#[test]
fn another_build_takes_over_without_losing_or_doubling_a_slot() {
    let deployed = Deployed::default();
    deployed.now(bell("hourly", "0 * * * *", Ring::Now));
    deployed.clone().world().play(async |mut world| {
        world.advance(2 * HOUR + HOUR / 2).await;
        let accepted = world.audit().await.accepted;
        world.restart().await;
        world.settle().await;
        assert_eq!(world.audit().await.accepted, accepted, "what is the same is not told anything");
        deployed.now(bell("hourly", "15,45 * * * *", Ring::Now));
        world.restart().await;
        world.advance(HOUR).await;
        assert_eq!(slots(&mut world).await, [3600, 7200, 9900, 11700], "at 2:45 and 3:15, no more at 3:00");
        // Somebody dies and comes back as he was, while the others are of the new build: last come, last served.
        deployed.now(bell("hourly", "0 * * * *", Ring::Now));
        world.crash().await;
        world.advance(HOUR).await;
        assert_eq!(slots(&mut world).await[4..], [14400]);
        world.no_loss().await;
        world.no_duplicate();
    });
}

#[test]
fn what_no_build_declares_any_more_stops_and_is_seen() {
    let deployed = Deployed::default();
    deployed.now(bell("hourly", "0 * * * *", Ring::Now));
    deployed.clone().world().play(async |mut world| {
        world.advance(HOUR + MINUTE).await;
        deployed.now(Feature::new(Bell));
        world.restart().await;
        world.advance(5 * HOUR).await;
        assert_eq!(slots(&mut world).await, [3600]);
        let view = shown(&world, "hourly").await;
        assert_eq!((view.status, view.next_at, view.origin), (Standing::Orphaned, None, "feature"));
        assert_eq!(world.audit().await.in_flight, 0);
        deployed.now(bell("hourly", "0 * * * *", Ring::Now));
        world.restart().await;
        world.advance(HOUR).await;
        assert_eq!(slots(&mut world).await, [3600, 7 * 3600], "and goes on when one does again");
        steer(&mut world, "hourly", Steer::Delete).await.unwrap();
        assert!(world.node().scheduled("hourly").await.unwrap().is_none());
        world.restart().await;
        world.settle().await;
        assert!(world.node().scheduled("hourly").await.unwrap().is_some(), "what is declared is there again");
    });
}

#[test]
fn operators_pause_resume_and_run() {
    World::new(|| vec![bell("hourly", "0 * * * *", Ring::Now)]).play(async |mut world| {
        world.settle().await;
        steer(&mut world, "hourly", Steer::Pause).await.unwrap();
        world.advance(2 * HOUR + MINUTE).await;
        let view = shown(&world, "hourly").await;
        assert_eq!((view.status, view.next_at), (Standing::Paused, None));
        steer(&mut world, "hourly", Steer::Run).await.unwrap();
        assert_eq!(slots(&mut world).await, [7260], "paused or not");
        world.restart().await;
        world.advance(HOUR).await;
        assert_eq!(slots(&mut world).await, [7260], "a node that starts does not resume it");
        steer(&mut world, "hourly", Steer::Resume).await.unwrap();
        world.advance(HOUR).await;
        assert_eq!(slots(&mut world).await, [7260, 14400], "with the next slot");
        let view = shown(&world, "hourly").await;
        let wanted: Vec<bool> = view.more.as_ref().unwrap().history.iter().map(|past| past.wanted).collect();
        assert_eq!((history(&view), wanted), (vec![(14400, "completed"), (7260, "completed")], vec![false, true]));
        let error = steer(&mut world, "nightly", Steer::Run).await.unwrap_err();
        assert!(error.has_code("unknown_schedule"), "{error}");
    });
}

#[test]
fn what_still_runs_is_skipped_over_waited_for_or_told_to_end() {
    let rang = |overlap: Overlap| {
        let often = move || Schedule::every(10 * SECOND).overlap(overlap);
        World::new(move || vec![bell("long", often(), Ring::Long)]).play(async |mut world| {
            world.advance(35 * SECOND).await;
            let view = shown(&world, "long").await;
            let said: Vec<(i64, &str)> = history(&view);
            let running = view.running.map(|slot| (slot - BEGINNING) / 1000);
            (said, running, view.waiting)
        })
    };
    assert_eq!(rang(Overlap::Skip), (vec![(30, "skipped"), (10, "begun")], Some(10), 0));
    assert_eq!(rang(Overlap::Queue), (vec![(10, "begun")], Some(10), 2));
    let cancelled = vec![(30, "begun"), (20, "cancelled"), (10, "cancelled")];
    assert_eq!(rang(Overlap::Cancel), (cancelled, Some(30), 0));
    assert_eq!(rang(Overlap::Allow), (vec![(30, "begun"), (20, "begun"), (10, "begun")], None, 0));
}

#[test]
fn history_tells_how_runs_ended_also_of_dead_letters_that_were_put_back() {
    World::new(|| vec![bell("broken", Schedule::every(HOUR), Ring::Broken)]).play(async |mut world| {
        world.advance(HOUR + MINUTE).await;
        let view = shown(&world, "broken").await;
        assert_eq!(history(&view), [(3600, "dead_lettered")]);
        let past = &view.more.as_ref().unwrap().history[0];
        assert_eq!((past.attempts, past.took_ms.is_some_and(|took| took >= 500)), (Some(2), true), "{past:?}");
        world.tell(Bell::at("tower"), Ring::Mend).await;
        world.redrive_all().await;
        world.advance(MINUTE).await;
        assert_eq!(history(&shown(&world, "broken").await), [(3600, "completed")]);
        world.advance(HOUR).await;
        assert_eq!(slots(&mut world).await, [3600, 7200]);
        world.no_loss().await;
    });
}

#[test]
fn schedules_made_at_run_time_do_not_touch_those_declared() {
    World::new(|| vec![bell("hourly", "0 * * * *", Ring::Now)]).play(async |mut world| {
        world.settle().await;
        let node = world.node().clone();
        let refused = [
            node.schedule("hourly", "0 1 * * *", Bell::at("x"), Ring::Now).await.unwrap_err(),
            node.unschedule("hourly").await.unwrap_err(),
        ];
        assert!(refused.iter().all(|error| error.has_code("declared_schedule")), "{refused:?}");
        let error = node.schedule("bad", "0 25 * * *", Bell::at("x"), Ring::Now).await.unwrap_err();
        assert!(error.to_string().contains("the hour is \"25\": expected 0-23"), "{error}");
        node.schedule("mine", Schedule::every(HOUR).history(2), Bell::at("x"), Ring::Now).await.unwrap();
        world.advance(3 * HOUR).await;
        assert_eq!(world.state::<Bell>("x").await.unwrap().slots.len(), 3);
        assert_eq!(history(&shown(&world, "mine").await), [(10800, "completed"), (7200, "completed")]);
        node.unschedule("mine").await.unwrap();
        node.unschedule("mine").await.unwrap();
        world.advance(3 * HOUR).await;
        assert_eq!(world.state::<Bell>("x").await.unwrap().slots.len(), 3);
        assert!(node.scheduled("mine").await.unwrap().is_none());
    });
}

#[test]
fn schedules_are_listed_by_the_beginning_of_their_names() {
    World::new(|| vec![bell("hourly", "0 * * * *", Ring::Now)]).play(async |mut world| {
        world.settle().await;
        let node = world.node().clone();
        for key in ["a", "b", "c", "ä"] {
            let reminder = Schedule::date("2026-12-24T18:00");
            node.schedule(format!("remind/{key}"), reminder, Bell::at(key), Ring::Now).await.unwrap();
        }
        let names = async |prefix: &str, cursor, limit| {
            let (found, cursor) = node.schedules(prefix, cursor, limit).await.unwrap();
            (found.into_iter().map(|view| view.name).collect::<Vec<_>>(), cursor)
        };
        assert_eq!(names("", None, 50).await.0, ["hourly", "remind/a", "remind/b", "remind/c", "remind/ä"]);
        let (page, cursor) = names("remind/", None, 3).await;
        assert_eq!(page, ["remind/a", "remind/b", "remind/c"]);
        assert_eq!(names("remind/", cursor, 3).await, (vec!["remind/ä".to_owned()], None));
        assert_eq!(names("remind/b", None, 3).await.0, ["remind/b"]);
        assert!(names("z", None, 3).await.0.is_empty());
    });
}
