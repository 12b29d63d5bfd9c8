//! Locks: one holder at a time, in order, with tokens that rise; let go however a command ends; lost in
//! time by whoever is not heard of.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use greenroom::{
    Guard, RequestId,
    backend::Fence,
    prelude::*,
    runtime::{
        node::Node,
        view::{State, View},
    },
    testing::{Point, Which, World},
};
use serde::{Deserialize, Serialize};

const SECOND: Duration = Duration::from_secs(1);

/// What happened under the lock, who is inside now, and whether another build runs.
#[derive(Clone, Default)]
struct Room(Arc<Mutex<Inside>>, Arc<AtomicBool>);

#[derive(Default)]
struct Inside {
    who: Option<String>,
    tokens: Vec<u64>,
    order: Vec<String>,
}

impl Room {
    /// Somebody comes in. Entering twice is what a step does whose record a crash has prevented.
    fn enter(&self, who: &str, token: u64) {
        let mut inside = self.0.lock().unwrap();
        if inside.who.as_deref() == Some(who) {
            return;
        }
        assert_eq!(inside.who, None, "{who} comes in");
        assert!(inside.tokens.last().is_none_or(|last| *last < token), "{token} after {:?}", inside.tokens);
        inside.who = Some(who.to_owned());
        inside.tokens.push(token);
        inside.order.push(who.to_owned());
    }

    fn leave(&self, who: &str) {
        self.0.lock().unwrap().who.take_if(|inside| inside == who);
    }

    fn order(&self) -> Vec<String> {
        self.0.lock().unwrap().order.clone()
    }
}

/// Takes a lock, waits for the signal `go`, and ends.
struct Holder(Room);

#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
enum How {
    Completes,
    Fails,
    Dies,
    Hangs,
    /// Lets go, and waits for the signal `end`.
    Releases,
    /// Goes on as another command.
    Again,
    /// Does something else when it is run again.
    Changes,
}

#[derive(Serialize, Deserialize, Clone, Debug)]
enum Do {
    Hold(How),
    /// The same, beside others of its key.
    Share(How),
    /// Waits no longer than so many seconds.
    Within(u64),
    /// Takes the first, and then the second, waiting so long.
    Both(String, String, Option<u64>),
    /// Takes it, and asks the key to take it too.
    AskUnder(String),
    /// Asks another to do it.
    Ask(String, Box<Do>),
    /// Takes it and waits for the signal `go`.
    Stay,
    Nothing,
}

impl Holder {
    async fn hold(&self, how: How, cx: &Context<Self>) -> Result<u64> {
        let lock = cx.lock("hot").await?;
        let (who, token) = (cx.key(), lock.token());
        let entering = |_| {
            self.0.enter(who, token);
            async { Ok(()) }
        };
        cx.run("enter", entering).await?;
        if how == How::Changes && self.0.1.load(Ordering::SeqCst) {
            self.0.leave(who);
            cx.run("what is new", |_| async { Ok(()) }).await?;
        }
        if let Err(cancelled) = cx.signal::<()>("go").await {
            // A cancelled command runs no more steps.
            self.0.leave(who);
            return Err(cancelled);
        }
        lock.check().await?;
        let leaving = |_| {
            self.0.leave(who);
            async { Ok(()) }
        };
        cx.run("leave", leaving).await?;
        match how {
            How::Completes | How::Changes => {}
            How::Fails => return Err(Error::terminal("no").code("no")),
            How::Dies => return Err(Error::new("never")),
            How::Hangs => std::future::pending().await,
            How::Releases => {
                lock.release().await?;
                cx.signal::<()>("end").await?;
            }
            How::Again => return cx.again(Do::Nothing),
        }
        Ok(token)
    }
}

impl Actor for Holder {
    const KIND: &'static str = "holder";
    type State = u64;
    type Command = Do;
    type Reply = u64;

    fn retry(&self) -> Retry {
        Retry::times(1)
    }

    /// Less than what a lock waits before it looks itself whether its holder has ended.
    fn time_limit(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn waits(command: &Do) -> Waits {
        if matches!(command, Do::Share(_)) { Waits::Shared } else { Waits::Alone }
    }

    async fn handle(&self, _: &mut u64, command: Do, cx: &Context<Self>) -> Result<u64> {
        match command {
            Do::Hold(how) | Do::Share(how) => self.hold(how, cx).await,
            Do::Within(seconds) => {
                let waited = cx.lock("hot").within(Duration::from_secs(seconds)).await;
                match waited {
                    Ok(lock) => Ok(lock.token()),
                    Err(error) => {
                        // What follows shows that it holds nothing.
                        cx.signal::<()>("end").await?;
                        Err(error)
                    }
                }
            }
            Do::Both(first, second, within) => {
                let _first = cx.lock(&first).await?;
                cx.signal::<()>("go").await?;
                let second = cx.lock(&second);
                let second = match within {
                    Some(seconds) => second.within(Duration::from_secs(seconds)).await?,
                    None => second.await?,
                };
                Ok(second.token())
            }
            Do::AskUnder(other) => {
                let _lock = cx.lock("hot").await?;
                cx.ask(Holder::at(other), Do::Hold(How::Completes)).await
            }
            Do::Ask(other, what) => cx.ask(Holder::at(other), *what).await,
            Do::Stay => {
                let lock = cx.lock("hot").await?;
                cx.signal::<()>("go").await.map(|()| lock.token())
            }
            Do::Nothing => Ok(0),
        }
    }
}

/// Writes down which tokens it was told, in order.
struct Log;

impl Actor for Log {
    const KIND: &'static str = "log";
    type State = Vec<u64>;
    type Command = u64;
    type Reply = ();

    async fn handle(&self, seen: &mut Vec<u64>, token: u64, _: &Context<Self>) -> Result<()> {
        seen.push(token);
        Ok(())
    }
}

fn world(room: &Room) -> World {
    let room = room.clone();
    World::new(move || vec![Feature::new(Holder(room.clone())), Feature::new(Log)])
}

async fn tell(world: &mut World, key: &str, command: Do) -> RequestId {
    let told = world.tell(Holder::at(key), command).await.unwrap();
    world.settle().await;
    told
}

fn code(view: &View) -> &str {
    view.error.as_ref().map_or("", |failure| &failure.code)
}

async fn is_free(node: &Node) -> bool {
    match node.try_lock("hot").await.unwrap() {
        Some(guard) => guard.release().await.map(|()| true).unwrap(),
        None => false,
    }
}

#[test]
fn a_command_has_its_lock_until_it_ends_however_it_ends() {
    use How::*;
    let ways = [Completes, Fails, Dies, Hangs, Releases, Again, Changes];
    for (shared, how) in [false, true].into_iter().flat_map(|shared| ways.map(|how| (shared, how))) {
        let room = Room::default();
        world(&room).play(async |mut world| {
            let first = tell(&mut world, "1", if shared { Do::Share(how) } else { Do::Hold(how) }).await;
            let second = tell(&mut world, "2", Do::Hold(Completes)).await;
            // Long after the first has left memory and after the lock has looked for it more than once.
            world.advance(25 * SECOND).await;
            assert_eq!(room.order(), ["1"], "{how:?}");
            assert!(!is_free(world.node()).await);
            if how == Changes {
                room.1.store(true, Ordering::SeqCst);
                world.restart().await;
            }
            world.signal(first, "go", ()).await;
            world.advance(if how == Hangs { 5 * SECOND } else { SECOND }).await;
            assert_eq!(room.order(), ["1", "2"], "{how:?} shared: {shared}");
            world.signal(second, "go", ()).await;
            world.settle().await;
            assert!(is_free(world.node()).await);
            if how == Releases {
                world.signal(first, "end", ()).await;
            }
            world.no_loss().await;
            let status = match how {
                Completes | Releases | Again => State::Completed,
                Fails => State::Failed,
                Dies | Hangs | Changes => State::DeadLettered,
            };
            let view = world.view(first).await;
            assert_eq!(view.status, status, "{how:?}: {view:?}");
            assert_eq!(world.view(second).await.status, State::Completed);
        });
    }
}

#[test]
fn a_cancelled_command_lets_go_whether_it_has_the_lock_or_waits() {
    let room = Room::default();
    world(&room).play(async |mut world| {
        let first = tell(&mut world, "1", Do::Hold(How::Completes)).await;
        let waits = tell(&mut world, "2", Do::Hold(How::Completes)).await;
        let asked = tell(&mut world, "a", Do::Ask("3".into(), Box::new(Do::Hold(How::Completes)))).await;
        let last = tell(&mut world, "4", Do::Hold(How::Completes)).await;
        world.cancel(waits).await;
        world.settle().await;
        assert_eq!(world.view(waits).await.status, State::Cancelled);
        world.cancel(first).await;
        world.settle().await;
        // The one that was cancelled is passed over; the next is one that somebody else wants no more.
        assert_eq!(room.order(), ["1", "3"]);
        world.cancel(asked).await;
        world.settle().await;
        assert_eq!(room.order(), ["1", "3", "4"]);
        world.signal(last, "go", ()).await;
        world.settle().await;
        assert!(is_free(world.node()).await);
        world.no_loss().await;
    });
}

#[test]
fn a_command_that_ends_without_running_is_noticed_by_the_lock() {
    let room = Room::default();
    world(&room).settings(|settings| settings.crash_limit = 2).play(async |mut world| {
        let first = tell(&mut world, "1", Do::Stay).await;
        let second = tell(&mut world, "2", Do::Hold(How::Completes)).await;
        // Both have left memory.
        world.advance(2 * SECOND).await;
        // It dies whenever its handler has finished, until it is given up without being run.
        world.crash_whenever(Some(Point::Handled));
        world.signal(first, "go", ()).await;
        world.settle().await;
        world.crash_whenever(None);
        assert_eq!(world.view(first).await.status, State::DeadLettered);
        assert!(world.crashes() >= 2 && room.order().is_empty());
        world.advance(11 * SECOND).await;
        assert_eq!(room.order(), ["2"]);
        world.signal(second, "go", ()).await;
        world.settle().await;
        assert_eq!(world.view(second).await.status, State::Completed);
    });
}

#[test]
fn whatever_crashes_nobody_is_inside_with_another_and_the_token_stays() {
    let points = Point::ALL.into_iter().filter(|point| *point != Point::Accepted);
    // Starting again takes its time where servers are.
    let nths: &[u32] = if Which::from_env().unwrap() == Which::Embedded { &[1, 2, 5] } else { &[2] };
    for (point, nth) in points.flat_map(|point| nths.iter().map(move |nth| (point, *nth))) {
        let room = Room::default();
        world(&room).play(async |mut world| {
            let mut told = Vec::new();
            for key in ["1", "2", "3"] {
                told.push(world.tell(Holder::at(key), Do::Hold(How::Completes)).await.unwrap());
            }
            world.crash_at_nth(point, nth);
            // A signal that is sent while the process dies may have to be sent again.
            for _ in 0..3 {
                for request in &told {
                    world.settle().await;
                    if !world.view(*request).await.status.ended() {
                        world.signal(*request, "go", ()).await;
                    }
                }
                world.advance(10 * SECOND).await;
            }
            assert_eq!(room.0.lock().unwrap().tokens.len(), 3, "{point:?} {nth}");
            for request in told {
                let view = world.view(request).await;
                assert_eq!(view.status, State::Completed, "{point:?} {nth}: {view:?}");
            }
            assert!(is_free(world.node()).await);
            world.no_loss().await;
            world.no_duplicate();
        });
    }
}

#[test]
fn a_handler_with_locks_can_be_repeated() {
    let room = Room::default();
    world(&room).always_replay().play(async |mut world| {
        let first = tell(&mut world, "1", Do::Hold(How::Releases)).await;
        let second = tell(&mut world, "2", Do::Within(60)).await;
        world.signal(first, "go", ()).await;
        world.signal(first, "end", ()).await;
        world.settle().await;
        for request in [first, second] {
            let view = world.view(request).await;
            assert_eq!(view.status, State::Completed, "{view:?}");
        }
    });
}

#[test]
fn a_deadline_gives_the_place_up_also_when_the_lock_comes_just_then() {
    let room = Room::default();
    world(&room).play(async |mut world| {
        let first = tell(&mut world, "1", Do::Hold(How::Completes)).await;
        let late = tell(&mut world, "2", Do::Within(3)).await;
        let third = tell(&mut world, "3", Do::Hold(How::Completes)).await;
        world.advance(3 * SECOND).await;
        world.signal(first, "go", ()).await;
        world.settle().await;
        // The second has not ended and has nothing.
        assert!(!world.view(late).await.status.ended());
        assert_eq!(room.order(), ["1", "3"]);
        world.signal(late, "end", ()).await;
        world.settle().await;
        assert_eq!(code(&world.view(late).await), "deadline");
        world.signal(third, "go", ()).await;
        world.settle().await;
        assert!(is_free(world.node()).await);
    });
}

#[test]
fn waiting_for_ever_is_refused_where_it_can_happen() {
    let room = Room::default();
    world(&room).play(async |mut world| {
        let both = |a: &str, b: &str, within| Do::Both(a.into(), b.into(), within);
        let same = tell(&mut world, "1", both("a", "a", Some(1))).await;
        let rash = tell(&mut world, "2", both("b", "c", None)).await;
        for request in [same, rash] {
            world.signal(request, "go", ()).await;
        }
        world.settle().await;
        assert_eq!(code(&world.view(same).await), "cycle");
        assert_eq!(code(&world.view(rash).await), "needs_deadline");
        // Two that take them in different order: one gives up, and the other goes on.
        let (one, other) = (
            tell(&mut world, "3", both("x", "y", Some(5))).await,
            tell(&mut world, "4", both("y", "x", Some(9))).await,
        );
        for request in [one, other] {
            world.signal(request, "go", ()).await;
        }
        world.advance(6 * SECOND).await;
        assert_eq!(code(&world.view(one).await), "deadline");
        assert_eq!(world.view(other).await.status, State::Completed);
        // Whoever waits for an answer under a lock is known to whoever is asked.
        let under = tell(&mut world, "5", Do::AskUnder("6".into())).await;
        let view = world.view(under).await;
        assert_eq!((view.status, code(&view)), (State::Failed, "cycle"));
        assert!(is_free(world.node()).await);
    });
}

/// A lock taken by a process outside of any actor, in the background.
fn take(node: &Node, lease: Duration) -> tokio::task::JoinHandle<Result<Guard>> {
    let locking = node.lock("hot").lease(lease);
    tokio::spawn(async move { locking.await })
}

#[test]
fn guards_are_given_in_order_and_renewed_and_commands_wait_in_the_same_queue() {
    let room = Room::default();
    world(&room).play(async |mut world| {
        let first = take(world.node(), 3 * SECOND).await.unwrap().unwrap();
        let waits = take(world.node(), 3 * SECOND);
        world.settle().await;
        let command = tell(&mut world, "1", Do::Hold(How::Completes)).await;
        let last = take(world.node(), 3 * SECOND);
        world.settle().await;
        // Many leases long.
        world.advance(60 * SECOND).await;
        assert!(!first.is_lost() && !waits.is_finished() && room.order().is_empty());
        first.release().await.unwrap();
        world.settle().await;
        let second = waits.await.unwrap().unwrap();
        assert!(room.order().is_empty() && !last.is_finished());
        // Dropped, it is let go as well.
        let token = second.token();
        drop(second);
        world.settle().await;
        assert_eq!(room.order(), ["1"]);
        world.signal(command, "go", ()).await;
        world.settle().await;
        let last = last.await.unwrap().unwrap();
        assert!(last.token() > room.0.lock().unwrap().tokens[0] && room.0.lock().unwrap().tokens[0] > token);
        last.release().await.unwrap();
        let soon = world.node().lock("hot").lease(Duration::from_millis(5)).await.unwrap_err();
        assert!(soon.to_string().contains("expected between"), "{soon}");
    });
}

#[test]
fn whoever_waited_and_is_gone_has_no_place() {
    let room = Room::default();
    world(&room).play(async |mut world| {
        let first = take(world.node(), 3 * SECOND).await.unwrap().unwrap();
        // One that gives up says so; one whose process dies does not.
        let patient = world.node().lock("hot").lease(3 * SECOND).within(SECOND);
        let gave_up = tokio::spawn(async move { patient.await });
        world.settle().await;
        world.advance(2 * SECOND).await;
        assert!(gave_up.await.unwrap().unwrap_err().has_code("deadline"));
        let dies = take(world.node(), 3 * SECOND);
        world.settle().await;
        world.crash().await;
        dies.abort();
        let next = take(world.node(), 3 * SECOND);
        world.settle().await;
        assert!(!next.is_finished());
        // Their leases begin anew with the new owner, and then end; nobody renews them.
        world.advance(7 * SECOND).await;
        assert!(next.await.unwrap().is_ok() && first.is_lost());
    });
}

#[test]
fn a_guard_that_is_not_heard_knows_that_it_is_lost_before_another_has_the_lock() {
    let room = Room::default();
    world(&room).play(async |mut world| {
        let first = take(world.node(), 3 * SECOND).await.unwrap().unwrap();
        let lost = Arc::new(AtomicBool::new(false));
        let first = Arc::new(first);
        tokio::spawn({
            let (first, lost) = (first.clone(), lost.clone());
            async move {
                first.lost().await;
                lost.store(true, Ordering::SeqCst);
            }
        });
        // The store answers the process of the guard no more; others it does.
        world.crash().await;
        let next = take(world.node(), 3 * SECOND);
        let mut held_on = 0;
        while !next.is_finished() {
            world.advance(Duration::from_millis(50)).await;
            if next.is_finished() {
                assert!(first.is_lost() && lost.load(Ordering::SeqCst), "two have it");
            }
            held_on += 1;
            assert!(held_on < 1000, "it is never given");
        }
        let token = next.await.unwrap().unwrap().token();
        assert!(token > first.token());
        assert!(Arc::into_inner(first).unwrap().release().await.unwrap_err().has_code("lock_lost"));
    });
}

#[test]
fn a_broken_lock_is_lost_at_once_and_what_was_lost_cannot_be_written() {
    let room = Room::default();
    world(&room).play(async |mut world| {
        let first = take(world.node(), 30 * SECOND).await.unwrap().unwrap();
        first.tell(Log::at("log"), first.token()).await.unwrap();
        // What is under no lock is as ever.
        world.node().tell(Log::at("log"), 7).await.unwrap();
        let next = take(world.node(), 30 * SECOND);
        world.settle().await;
        assert!(world.node().break_lock("hot").await.unwrap());
        world.settle().await;
        assert!(first.is_lost());
        let next = next.await.unwrap().unwrap();
        next.tell(Log::at("log"), next.token()).await.unwrap();
        assert!(first.tell(Log::at("log"), 1).await.unwrap_err().has_code("lock_lost"));
        // Were it not known here, the store would refuse it.
        let late = greenroom::runtime::node::Accept {
            to: Address::new("log", "log").unwrap(),
            command: serde_json::value::to_raw_value(&1).unwrap(),
            due: None,
            trace: None,
            idempotency: None,
            fence: Some(Fence { lock: "hot".into(), token: first.token() }),
            wait: false,
        };
        let refused = world.node().accept(late).await.map(|accepted| accepted.request).unwrap_err();
        assert!(refused.to_string().contains(&next.token().to_string()), "{refused}");
        world.settle().await;
        assert_eq!(world.state::<Log>("log").await.unwrap(), [first.token(), 7, next.token()]);
        assert!(!world.node().break_lock("free").await.unwrap());
    });
}

#[test]
fn a_dead_letter_that_is_redriven_finds_its_lock_lost() {
    let room = Room::default();
    world(&room).play(async |mut world| {
        let first = tell(&mut world, "1", Do::Hold(How::Changes)).await;
        world.advance(2 * SECOND).await;
        room.1.store(true, Ordering::SeqCst);
        world.restart().await;
        world.signal(first, "go", ()).await;
        world.settle().await;
        assert_eq!(world.view(first).await.status, State::DeadLettered);
        let second = tell(&mut world, "2", Do::Hold(How::Completes)).await;
        room.1.store(false, Ordering::SeqCst);
        world.redrive_all().await;
        world.settle().await;
        let view = world.view(first).await;
        assert_eq!((view.status, code(&view)), (State::Failed, "lock_lost"));
        world.signal(second, "go", ()).await;
        world.settle().await;
        assert_eq!(world.view(second).await.status, State::Completed);
    });
}
