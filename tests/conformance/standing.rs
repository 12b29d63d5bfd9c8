//! A server that stands still, and a caller that does: neither holds up more than itself, and what its client was
//! told is not done is not done later.

use std::{
    collections::VecDeque,
    future::Future,
    pin::{Pin, pin},
    sync::Mutex,
    task::Poll,
    time::Duration,
};

use greenroom::backend::{
    NotAppended,
    cluster::{
        Cluster, Injector,
        inject::{Fate, Store},
    },
};

use super::*;

/// How long a call is held: longer than what a test does meanwhile takes.
const HELD: Duration = Duration::from_secs(2);

/// The fates of the next calls, in order.
#[derive(Debug, Default)]
struct Holds(Mutex<VecDeque<(&'static str, Fate)>>);

impl Holds {
    /// Holds the next call of a function.
    fn next(&self, call: &'static str) {
        self.then(call, Fate::Delay(HELD));
    }

    fn then(&self, call: &'static str, fate: Fate) {
        self.0.lock().unwrap().push_back((call, fate));
    }

    /// Waits until all have come.
    async fn holding(&self) {
        while !self.0.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

impl Injector for Holds {
    fn fate(&self, store: Store, call: &str) -> Fate {
        let mut next = self.0.lock().unwrap();
        let meant = store == Store::Redis && next.front().is_some_and(|(name, _)| *name == call);
        if meant { next.pop_front().map_or(Fate::Pass, |(_, fate)| fate) } else { Fate::Pass }
    }
}

fn store(play: impl AsyncFn(Arc<dyn Backend>, Arc<Holds>)) {
    for which in Which::ALL.into_iter().filter(|which| *which != Which::Embedded) {
        println!("against {which:?}");
        let holds = Arc::new(Holds::default());
        let options = which.cluster(&Options { partitions: 4, mailbox_bytes: 1 << 30 }).unwrap();
        let options = greenroom::backend::cluster::Options { faults: Some(holds.clone()), ..options };
        let backend: Arc<dyn Backend> = Arc::new(Cluster::open(options).unwrap());
        actix::System::new().block_on(async {
            backend.join().await.unwrap();
            backend.beat().await.unwrap();
            backend.declare("thing", true, &[]).await.unwrap();
            play(backend, holds).await;
        });
    }
}

/// Makes one step of a future; nothing when it is not at its end.
async fn once<T>(mut future: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Option<T> {
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

type Appending<'a> = Pin<Box<dyn Future<Output = Vec<Result<Appended, NotAppended>>> + 'a>>;

/// An append that the server of its partition does not answer, so that the next ones wait behind it.
async fn stand_still<'a>(backend: &'a Arc<dyn Backend>, holds: &Holds) -> Appending<'a> {
    append(backend, message("thing/a", "0")).await;
    holds.next("append");
    let mut on_its_way: Appending<'a> = Box::pin(backend.append(vec![message("thing/a", "1")]));
    assert!(once(on_its_way.as_mut()).await.is_none());
    holds.holding().await;
    on_its_way
}

#[test]
fn what_waits_for_a_server_that_stands_still_is_not_appended_when_its_client_is_gone() {
    store(async |backend, holds| {
        let on_its_way = stand_still(&backend, &holds).await;
        for _ in 0..1000 {
            drop(backend.append(vec![message("thing/a", "2")]));
        }
        let last = backend.append(vec![message("thing/a", "3")]);
        let (first, last) = tokio::join!(on_its_way, last);
        assert!(matches!(first[..], [Ok(Appended::New(_))]) && matches!(last[..], [Ok(Appended::New(_))]));
        assert_eq!(backend.audit().await.unwrap().accepted, 3);
    });
}

#[test]
fn what_waits_for_a_server_that_stands_still_is_bounded_and_refused_at_once_beyond() {
    store(async |backend, holds| {
        let on_its_way = stand_still(&backend, &holds).await;
        let large = format!("\"{}\"", "x".repeat(1 << 20));
        let mut waiting = pin!(backend.append((0..16).map(|_| message("thing/a", &large)).collect()));
        assert!(once(waiting.as_mut()).await.is_none());
        let mut beyond = pin!(backend.append(vec![message("thing/a", &large)]));
        let refused = once(beyond.as_mut()).await.expect("an answer at once");
        assert!(matches!(refused[..], [Err(NotAppended::Unavailable(_))]), "{refused:?}");
        let other =
            (0..).map(|n| format!("thing/{n}")).find(|to| address(to).partition(4) != address("thing/a").partition(4));
        append(&backend, message(&other.unwrap(), "4")).await;
        let (first, waited) = tokio::join!(on_its_way, waiting);
        assert!(first[0].is_ok());
        assert_eq!(
            waited.iter().filter(|answer| answer.is_err()).count(),
            1,
            "what they are beside their bytes counts"
        );
        append(&backend, message("thing/a", "5")).await;
        assert_eq!(backend.audit().await.unwrap().accepted, 19);
    });
}

#[test]
fn a_caller_that_stands_still_in_a_call_holds_up_no_later_owner() {
    store(async |backend, holds| {
        let partition = address("thing/a").partition(4);
        let lease = take(&backend, partition).await;
        append(&backend, message("thing/a", "1")).await;
        let message = first(&backend, partition, start(partition)).await;
        let begins = vec![(message.position, message.home)];
        holds.next("begin");
        let mut held = pin!(backend.begin(lease, begins.clone()));
        assert!(once(held.as_mut()).await.is_none());
        holds.holding().await;
        let lease = take(&backend, partition).await;
        let begun = tokio::time::timeout(Duration::from_secs(10), backend.begin(lease, begins)).await;
        assert_eq!(begun.expect("it waits for a caller that stands still").unwrap().len(), 1);
    });
}

#[test]
fn what_was_cancelled_before_its_append_was_answered_is_not_handed_out() {
    store(async |backend, holds| {
        let partition = address("thing/a").partition(4);
        let lease = take(&backend, partition).await;
        append(&backend, message("thing/a", "0")).await;
        let before = first(&backend, partition, start(partition)).await.position;
        holds.then("append", Fate::LoseAnswer);
        holds.next("append");
        let mut appending = pin!(backend.append(vec![message("thing/a", "1")]));
        assert!(once(appending.as_mut()).await.is_none());
        holds.holding().await;
        // It is there; that is said when it is asked for again.
        let position = Position::new(partition, before.number() + 1);
        assert!(backend.cancel(lease, position, NOW).await.unwrap());
        assert_eq!(appending.await, [Ok(Appended::New(position))]);
        assert_eq!(backend.read(partition, before, 10).await.unwrap().len(), 0, "it has ended");
    });
}
