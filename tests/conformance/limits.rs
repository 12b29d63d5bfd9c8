//! Limits: each store counts like a reference that only knows what a bucket is, and lets no more in than
//! there are permits.

use std::time::Duration;

use futures_util::future::join_all;
use greenroom::{
    backend::{
        cluster::Cluster,
        limits::{Enter, Entered, Held, Measure, Name, Quota, Rate, Take, Taken},
    },
    testing::Random,
};

use super::*;

fn rate(tokens: u64, per_ms: u64, burst: u64) -> Measure {
    Measure::Rate(Rate::new(tokens, Duration::from_millis(per_ms), burst).unwrap())
}

fn quota(most: u64, seconds: u64) -> Measure {
    Measure::Quota(Quota::new(most, Duration::from_secs(seconds)).unwrap())
}

fn wish(name: &str, of: Measure, cost: u64) -> Take {
    Take { name: Name::of(&[name]), of, cost, ahead: 0, patience: 0 }
}

async fn take(backend: &Arc<dyn Backend>, take: Take, now: i64) -> Taken {
    backend.take_tokens(take, Some(now)).await.unwrap()
}

/// What a bucket is, without any of its arithmetic.
enum Model {
    /// Every use, by when, in milliseconds times the rate's tokens so that it is exact. In any time `t` no
    /// more is used than `burst` and what is added in `t`.
    Rate { rate: Rate, uses: Vec<(i64, u64)> },
    /// The window that is being used, and how much of it. Windows are used one after the other.
    Quota { quota: Quota, window: i64, used: u64 },
}

impl Model {
    fn of(measure: Measure) -> Self {
        match measure {
            Measure::Rate(rate) => Self::Rate { rate, uses: Vec::new() },
            Measure::Quota(quota) => Self::Quota { quota, window: 0, used: 0 },
        }
    }

    /// When so many may be used, asked for at `now`: exactly, in its own unit.
    fn exactly(&self, cost: u64, now: i64) -> i64 {
        match self {
            Self::Rate { rate, uses } => {
                let (mut at, mut sum) = (now * rate.tokens() as i64, cost);
                for (from, used) in uses.iter().rev() {
                    sum += used;
                    // sum <= burst + (at - from) / per, as `at` and `from` are times the tokens already
                    at = at.max(from + (sum.saturating_sub(rate.burst()) * rate.per()) as i64);
                }
                at
            }
            Self::Quota { quota, window, used } => {
                let length = quota.window() as i64;
                let (mut at, mut used) = (*window, *used);
                if at < now / length {
                    (at, used) = (now / length, 0);
                }
                if used + cost > quota.most() {
                    at += 1;
                }
                (at * length).max(now)
            }
        }
    }

    /// The same in milliseconds since the Unix epoch, rounded up.
    fn earliest(&self, cost: u64, now: i64) -> i64 {
        let unit = match self {
            Self::Rate { rate, .. } => rate.tokens(),
            Self::Quota { .. } => 1,
        };
        self.exactly(cost, now).unsigned_abs().div_ceil(unit) as i64
    }

    fn take(&mut self, cost: u64, now: i64, patience: u64) -> (bool, u64) {
        let at = self.exactly(cost, now);
        let wait = (self.earliest(cost, now) - now) as u64;
        if wait > patience {
            return (false, wait);
        }
        match self {
            Self::Rate { uses, .. } => uses.push((at, cost)),
            Self::Quota { quota, window, used } => {
                let of = at / quota.window() as i64;
                *used = if *window == of { *used + cost } else { cost };
                *window = of;
            }
        }
        (true, wait)
    }

    /// What one could take right now.
    fn remaining(&self, now: i64) -> u64 {
        let most = match self {
            Self::Rate { rate, .. } => rate.burst(),
            Self::Quota { quota, .. } => quota.most(),
        };
        (1..=most).rev().find(|cost| self.earliest(*cost, now) == now).unwrap_or(0)
    }
}

#[test]
fn every_store_counts_like_the_reference() {
    let seed = std::env::var("GREENROOM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("GREENROOM_SEED={seed}");
    each(|backend| async move {
        let buckets = [
            rate(1, 1, 1),
            rate(3, 1000, 3),
            rate(10, 1000, 4),
            rate(7, 333, 20),
            rate(60, 60_000, 10),
            rate(1_000, 1000, 50),
            quota(5, 1),
            quota(12, 10),
        ];
        let runs = buckets.into_iter().enumerate().map(|(number, of)| {
            let backend = backend.clone();
            async move {
                let (mut random, mut model) = (Random::new(seed * 100 + number as u64), Model::of(of));
                let mut now = NOW + random.below(1000) as i64;
                for step in 0..150 {
                    now += match random.below(4) {
                        0 => 0,
                        1 => random.below(10) as i64,
                        2 => random.below(400) as i64,
                        _ => random.below(3_000) as i64,
                    };
                    let cost = 1 + random.below(of.most().min(6));
                    let patience = if random.one_in(3) { random.below(5_000) } else { 0 };
                    let wish = Take { patience, ..wish(&format!("model {number}"), of, cost) };
                    let taken = take(&backend, wish, now).await;
                    let (allowed, wait) = model.take(cost, now, patience);
                    let place = format!("bucket {number} {of:?} step {step} at {now}: {wish:?} → {taken:?}");
                    assert_eq!((taken.given, taken.wait), (if allowed { cost } else { 0 }, wait), "{place}");
                    assert_eq!(taken.remaining, model.remaining(now), "{place}");
                }
            }
        });
        join_all(runs).await;
    });
}

#[test]
fn what_is_taken_ahead_is_counted_and_leaves_half() {
    each(|backend| async move {
        for (name, of) in [("r", rate(1, 1000, 10)), ("q", quota(10, 3600))] {
            let ahead = |ahead| Take { ahead, ..wish(name, of, 1) };
            assert_eq!(take(&backend, ahead(100), NOW).await.given, 5, "{name}");
            assert_eq!(take(&backend, ahead(100), NOW).await.given, 1, "{name}");
            let all = take(&backend, wish(name, of, 4), NOW).await;
            assert_eq!((all.given, all.remaining), (4, 0), "{name}");
            assert!(!take(&backend, ahead(1), NOW).await.allowed(), "{name}");
        }
    });
}

#[test]
fn a_clock_that_steps_back_neither_fills_nor_locks() {
    each(|backend| async move {
        let slow = rate(1, 1000, 1);
        assert!(take(&backend, wish("back", slow, 1), NOW).await.allowed());
        assert_eq!(take(&backend, wish("back", slow, 1), NOW - 3_600_000).await.wait, 1000);
        let edge = NOW / 10_000 * 10_000 + 10_000;
        let daily = quota(1, 10);
        assert!(take(&backend, wish("edge", daily, 1), edge).await.allowed());
        assert!(!take(&backend, wish("edge", daily, 1), edge - 1).await.allowed());
        assert!(take(&backend, wish("edge", daily, 1), edge - 3_600_000).await.allowed());
    });
}

/// Takes by the store's own clock, from several connections at once.
#[test]
fn nothing_is_given_twice_however_many_take_at_once() {
    let give = |backends: Vec<Arc<dyn Backend>>| async move {
        let of = rate(1, 3_600_000, 100);
        let takes = (0..300).map(|n| backends[n % backends.len()].take_tokens(wish("hot", of, 1), None));
        let given: u64 = join_all(takes).await.into_iter().map(|taken| taken.unwrap().given).sum();
        assert_eq!(given, 100);
        let next = backends[0].take_tokens(wish("hot", of, 1), None).await.unwrap();
        assert!(!next.allowed() && (3_500_000..=3_600_000).contains(&next.wait), "{next:?}");
        assert!(backends[0].take_tokens(wish("cold", of, 1), None).await.unwrap().allowed());
    };
    each(|backend| give(vec![backend]));
    for which in Which::ALL.into_iter().filter(|which| *which != Which::Embedded) {
        println!("three nodes on {which:?}");
        let options = which.cluster(&Options { partitions: 4, mailbox_bytes: BUDGET }).unwrap();
        let node = || -> Arc<dyn Backend> { Arc::new(Cluster::open(options.clone()).unwrap()) };
        let nodes = vec![node(), node(), node()];
        actix::System::new().block_on(give(nodes));
    }
}

fn enter(name: &str, holder: &str, most: u32) -> Enter {
    let (name, holder) = (Name::of(&[name]), holder.to_owned());
    Enter { name, holder, most, lease: 1_000, since: None, patience: 0 }
}

fn held(name: &str, holder: &str) -> Held {
    Held { name: Name::of(&[name]), holder: holder.to_owned(), lease: 1_000 }
}

async fn enters(backend: &Arc<dyn Backend>, enter: Enter, now: i64) -> Entered {
    backend.enter_permit(enter, Some(now)).await.unwrap()
}

async fn leave(backend: &Arc<dyn Backend>, name: &str, holder: &str, now: i64) {
    backend.leave_permit(Name::of(&[name]), holder.to_owned(), Some(now)).await.unwrap();
}

#[test]
fn as_many_are_in_as_there_are_permits_until_they_leave_or_their_lease_ends() {
    each(|backend| async move {
        for holder in ["1-a", "1-b"] {
            assert_eq!(enters(&backend, enter("p", holder, 2), NOW).await, Entered::In);
        }
        // Asked again after a lost answer, it is still the same one.
        assert_eq!(enters(&backend, enter("p", "1-a", 2), NOW + 100).await, Entered::In);
        let full = Entered::Wait { since: NOW + 200, next: Some(800) };
        assert_eq!(enters(&backend, enter("p", "1-c", 2), NOW + 200).await, full);
        leave(&backend, "p", "1-b", NOW + 200).await;
        assert_eq!(enters(&backend, enter("p", "1-c", 2), NOW + 200).await, Entered::In);
        // Another name has permits of its own.
        assert_eq!(enters(&backend, enter("other", "1-d", 1), NOW).await, Entered::In);
        let renewed = vec![held("p", "1-c"), held("p", "1-b"), held("other", "1-d")];
        assert_eq!(backend.renew_permits(renewed, Some(NOW + 900)).await.unwrap(), [true, false, true]);
        // The lease of `a` ends; what is renewed is not.
        assert!(matches!(enters(&backend, enter("p", "1-e", 2), NOW + 1_099).await, Entered::Wait { .. }));
        assert_eq!(enters(&backend, enter("p", "1-e", 2), NOW + 1_100).await, Entered::In);
        assert_eq!(backend.renew_permits(vec![held("p", "1-a")], Some(NOW + 1_100)).await.unwrap(), [false]);
        assert!(matches!(enters(&backend, enter("p", "1-f", 2), NOW + 1_899).await, Entered::Wait { .. }));
    });
}

#[test]
fn whoever_waits_longest_is_next() {
    each(|backend| async move {
        let waits = |holder: &str| Enter { patience: 500, ..enter("line", holder, 1) };
        let is_in =
            async |backend: &Arc<dyn Backend>, enter: Enter, now| enters(backend, enter, now).await == Entered::In;
        assert!(is_in(&backend, waits("1-a"), NOW).await);
        for (holder, now) in [("1-b", NOW + 1), ("2-c", NOW + 2), ("1-d", NOW + 3)] {
            assert!(!is_in(&backend, waits(holder), now).await);
        }
        leave(&backend, "line", "1-a", NOW + 10).await;
        // One that does not wait gets what nobody else waits for.
        assert!(!is_in(&backend, enter("line", "1-x", 1), NOW + 10).await);
        assert!(!is_in(&backend, waits("2-c"), NOW + 10).await);
        assert!(is_in(&backend, waits("1-b"), NOW + 10).await);
        leave(&backend, "line", "1-b", NOW + 20).await;
        // Whoever came back waits since it came first, and goes before those that came later.
        let returns = Enter { since: Some(NOW + 1), ..waits("3-e") };
        assert!(is_in(&backend, returns, NOW + 20).await);
        leave(&backend, "line", "3-e", NOW + 30).await;
        leave(&backend, "line", "2-c", NOW + 30).await;
        assert!(is_in(&backend, waits("1-d"), NOW + 30).await, "whoever left the line stands in nobody's way");
        assert!(!is_in(&backend, waits("9-f"), NOW + 40).await);
        leave(&backend, "line", "1-d", NOW + 50).await;
        // Whoever does not ask again for so long does not wait any more.
        assert!(!is_in(&backend, enter("line", "1-g", 1), NOW + 539).await);
        assert!(is_in(&backend, enter("line", "1-g", 1), NOW + 540).await);
    });
}

#[test]
fn the_first_in_line_is_told_when_somebody_leaves() {
    each(|backend| async move {
        let me = backend.me();
        let holder = |who: &str| format!("{me}-{who}");
        let waits = |who: &str| Enter { patience: 5_000, ..enter("told", &holder(who), 2) };
        for who in ["a", "b"] {
            assert_eq!(enters(&backend, waits(who), NOW).await, Entered::In);
        }
        for who in ["c", "d"] {
            assert!(matches!(enters(&backend, waits(who), NOW + 1).await, Entered::Wait { .. }));
        }
        let mut freed = backend.permits_freed();
        leave(&backend, "told", &holder("a"), NOW + 2).await;
        leave(&backend, "told", &holder("b"), NOW + 2).await;
        let told = async |freed: &mut tokio::sync::broadcast::Receiver<Name>| {
            let told = tokio::time::timeout(Duration::from_secs(20), freed.recv()).await;
            assert_eq!(told.expect("nobody said so").unwrap(), Name::of(&["told"]));
        };
        told(&mut freed).await;
        told(&mut freed).await;
        // Where there is another one free, whoever gets in lets the next one know.
        assert_eq!(enters(&backend, waits("c"), NOW + 3).await, Entered::In);
        told(&mut freed).await;
    });
}

/// Many that come and go at once, from three connections where there can be several.
#[test]
fn never_more_are_in_than_there_are_permits() {
    let run = |backends: Vec<Arc<dyn Backend>>| async move {
        let inside = std::cell::Cell::new(0);
        let work = (0..12).map(|n: usize| {
            let (backend, inside) = (backends[n % backends.len()].clone(), &inside);
            async move {
                for round in 0..4 {
                    let mut me = enter("busy", &format!("{}-{n}-{round}", backend.me()), 3);
                    (me.lease, me.patience) = (60_000, 60_000);
                    while backend.enter_permit(me.clone(), None).await.unwrap() != Entered::In {
                        tokio::task::yield_now().await;
                    }
                    inside.set(inside.get() + 1);
                    assert!(inside.get() <= 3, "{} are in", inside.get());
                    for _ in 0..5 {
                        tokio::task::yield_now().await;
                    }
                    inside.set(inside.get() - 1);
                    backend.leave_permit(me.name, me.holder, None).await.unwrap();
                }
            }
        });
        join_all(work).await;
    };
    each(|backend| run(vec![backend]));
    for which in Which::ALL.into_iter().filter(|which| *which != Which::Embedded) {
        let options = which.cluster(&Options { partitions: 4, mailbox_bytes: BUDGET }).unwrap();
        let node = || -> Arc<dyn Backend> { Arc::new(Cluster::open(options.clone()).unwrap()) };
        let nodes = vec![node(), node(), node()];
        actix::System::new().block_on(run(nodes));
    }
}

/// What stands in Redis is read by every build: names and texts never change.
#[test]
fn what_is_stored_never_changes() {
    use fred::prelude::{Builder, ClientLike, Config, KeysInterface, SortedSetsInterface};
    let options = Which::Redis.cluster(&Options { partitions: 4, mailbox_bytes: BUDGET }).unwrap();
    let backend: Arc<dyn Backend> = Arc::new(Cluster::open(options.clone()).unwrap());
    actix::System::new().block_on(async {
        take(&backend, wish("format", rate(3, 1000, 3), 2), NOW).await;
        take(&backend, wish("window", quota(9, 10), 4), NOW).await;
        let waits = |holder: &str| Enter { patience: 5_000, ..enter("permits", holder, 1) };
        enters(&backend, waits("1-a"), NOW).await;
        enters(&backend, waits("1-b"), NOW + 5).await;
        let redis = Builder::from_config(Config::from_url(&options.redis).unwrap()).build().unwrap();
        redis.init().await.unwrap();
        let key = |name: &str| {
            let name = Name::of(&[name]);
            format!("{}:{{limit-{:02}}}:{name}", options.prefix, name.spread() % 16)
        };
        assert_eq!(key("format"), format!("{}:{{limit-06}}:f60658ea8e4921ae671e724c20e6c024", options.prefix));
        let text: String = redis.get(key("format")).await.unwrap();
        assert_eq!(text, format!("2000 {NOW}"));
        let text: String = redis.get(key("window")).await.unwrap();
        assert_eq!(text, format!("4 {}", NOW / 10_000));
        let ttl: i64 = redis.pttl(key("format")).await.unwrap();
        assert!((55_000..=60_667).contains(&ttl), "an idle bucket goes by itself: {ttl}");
        for (part, holder, score) in
            [("in", "1-a", NOW + 1_000), ("line", "1-b", NOW + 5), ("here", "1-b", NOW + 5_005)]
        {
            let key = format!("{}:{part}", key("permits"));
            let found: Option<f64> = redis.zscore(&key, holder).await.unwrap();
            assert_eq!(found, Some(score as f64), "{part}");
            let ttl: i64 = redis.pttl(&key).await.unwrap();
            assert!(ttl > 0, "{part} goes by itself");
        }
    });
}
