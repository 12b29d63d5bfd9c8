//! G3 one effect, and who waits hears of it once: on Redis and MongoDB an answer leaves when its commit is
//! decided, before Redis knows. Whatever happens then, nobody is ever told anything else.

use std::{sync::Arc, time::Duration};

use greenroom::{
    Actor, Context, Error, Feature, Node, Result, Retry,
    backend::cluster::{Cluster, Options},
    clock::Clock,
    runtime::{
        node::{Accept, Accepted, Cancel, Start},
        settings::Settings,
        view::{Found, State, View},
    },
    testing::Which,
};
use serde_json::value::to_raw_value;
use tokio::sync::{Notify, Semaphore};

use crate::support::{
    PATIENCE,
    servers::{Proxy, Redis, RedisSetup},
};

/// Lets a handler wait for the test, and the test for the handler.
#[derive(Clone)]
struct Gate {
    began: Arc<Notify>,
    open: Arc<Semaphore>,
}

impl Gate {
    fn closed() -> Self {
        Self { began: Arc::default(), open: Arc::new(Semaphore::new(0)) }
    }

    /// `0` waits, everything else does not.
    async fn pass(&self, number: u64) {
        if number == 0 {
            self.began.notify_one();
            self.open.acquire().await.unwrap().forget();
        }
    }
}

/// Remembers numbers; a broken one is given up at once.
struct Tally(Gate);

const BROKEN: u64 = 13;

impl Actor for Tally {
    const KIND: &'static str = "tally";
    type State = Vec<u64>;
    type Command = u64;
    type Reply = Vec<u64>;

    fn retry(&self) -> Retry {
        Retry::times(1)
    }

    async fn handle(&self, tally: &mut Vec<u64>, number: u64, _: &Context<Self>) -> Result<Vec<u64>> {
        self.0.pass(number).await;
        if number == BROKEN {
            return Err(Error::new("it is broken"));
        }
        tally.push(number);
        Ok(tally.clone())
    }
}

/// Remembers nothing.
struct Echo(Gate);

impl Actor for Echo {
    const KIND: &'static str = "echo";
    type State = ();
    type Command = u64;
    type Reply = u64;

    async fn handle(&self, _: &mut (), number: u64, _: &Context<Self>) -> Result<u64> {
        self.0.pass(number).await;
        Ok(number)
    }
}

/// A Redis of its own, and the way to it that can be blocked.
struct Stage {
    redis: Redis,
    way: Proxy,
    options: Options,
}

impl Stage {
    fn new(partitions: u16) -> Self {
        let redis = Redis::start(RedisSetup::redis());
        let way = Proxy::start(&redis.address());
        let options = Which::Redis.cluster(&Default::default()).unwrap();
        // Long enough that what is blocked for a moment is not given up meanwhile.
        let options = Options { partitions, lease: Duration::from_secs(2), ..options };
        Self { redis, way, options }
    }

    /// A node that comes to Redis by this address.
    async fn node(&self, redis: String, gate: &Gate) -> Node {
        let backend = Arc::new(Cluster::open(Options { redis, ..self.options.clone() }).unwrap());
        let features = vec![Feature::new(Tally(gate.clone())).actor(Echo(gate.clone()))];
        let settings = Settings { arbiters: 1, ..Settings::default() };
        Node::start(Start { backend, features, settings, clock: Clock::System }).await.unwrap()
    }
}

async fn accept<A: Actor<Command = u64>>(node: &Node, key: &str, number: u64) -> Accepted {
    let accept = Accept {
        to: A::at(key).address().unwrap(),
        command: to_raw_value(&number).unwrap(),
        due: None,
        trace: None,
        idempotency: None,
        fence: None,
        wait: true,
    };
    node.accept(accept).await.unwrap()
}

async fn told(accepted: &mut Accepted) -> View {
    let told = accepted.ended.as_mut().unwrap();
    tokio::time::timeout(PATIENCE, told).await.expect("an answer").unwrap()
}

async fn ended(node: &Node, accepted: &Accepted) -> View {
    let look = async {
        loop {
            if let Ok(Found::Here(view)) = node.request(accepted.request).await
                && view.status.ended()
            {
                return view;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("it ends")
}

fn json(view: &View) -> serde_json::Value {
    serde_json::to_value(view).unwrap()
}

#[test]
fn what_was_answered_before_redis_knew_is_what_the_next_owner_makes_true() {
    let stage = Stage::new(1);
    actix::System::new().block_on(async {
        let gate = Gate::closed();
        let old = stage.node(stage.way.url("redis"), &gate).await;
        assert_eq!(old.ask(Tally::at("a"), 1).await.unwrap(), [1]);
        let mut accepted = accept::<Tally>(&old, "a", 0).await;
        gate.began.notified().await;
        // From here on Redis hears nothing of this node any more.
        stage.way.stall();
        gate.open.add_permits(1);
        let answer = told(&mut accepted).await;
        assert_eq!((answer.status, answer.result.as_ref().unwrap().get()), (State::Completed, "[1,0]"));
        // Whoever was told may look, and may not cancel.
        let Found::Here(looked) = old.request(accepted.request).await.unwrap() else { panic!("not here") };
        assert_eq!(json(&looked), json(&answer));
        let Cancel::Refused(Found::Here(refused)) = old.cancel(accepted.request).await.unwrap() else {
            panic!("cancelled")
        };
        assert_eq!(json(&refused), json(&answer));
        // What it has sent is lost on the way, as if it had died.
        stage.way.cut();
        let new = stage.node(stage.redis.url(), &gate).await;
        assert_eq!(json(&ended(&new, &accepted).await), json(&answer));
        assert_eq!(new.ask(Tally::at("a"), 2).await.unwrap(), [1, 0, 2]);
        // And when it comes back it changes nothing.
        stage.way.heal();
        assert_eq!(json(&ended(&old, &accepted).await), json(&answer));
        assert_eq!(new.state::<Tally>("a").await.unwrap(), Some(vec![1, 0, 2]));
        let audit = new.audit().await.unwrap();
        assert!(audit.balanced && audit.in_flight == 0, "{audit:?}");
    });
}

/// Keys of two actors that are in different partitions.
fn apart() -> (String, String) {
    let partition = |address: greenroom::Result<greenroom::Address>| address.unwrap().partition(2);
    let keys = || (0..).map(|n: u64| n.to_string());
    let tally = keys().find(|key| partition(Tally::at(key.as_str()).address()) == 0).unwrap();
    let echo = keys().find(|key| partition(Echo::at(key.as_str()).address()) == 1).unwrap();
    (tally, echo)
}

#[test]
fn what_redis_alone_decides_is_answered_when_redis_has_it() {
    let stage = Stage::new(2);
    actix::System::new().block_on(async {
        let (gate, (tally, echo)) = (Gate::closed(), apart());
        let node = stage.node(stage.way.url("redis"), &gate).await;
        // Both actors are in memory, so that neither needs Redis to begin.
        node.ask(Tally::at(tally.as_str()), 1).await.unwrap();
        node.ask(Echo::at(echo.as_str()), 1).await.unwrap();
        let mut stateless = accept::<Echo>(&node, &echo, 0).await;
        gate.began.notified().await;
        let mut stateful = accept::<Tally>(&node, &tally, 0).await;
        gate.began.notified().await;
        stage.way.stall();
        gate.open.add_permits(2);
        assert_eq!(told(&mut stateful).await.result.unwrap().get(), "[1,0]");
        assert!(stateless.ended.as_mut().unwrap().try_recv().is_err(), "nothing has decided it");
        stage.way.heal();
        assert_eq!(told(&mut stateless).await.result.unwrap().get(), "0");
        assert_eq!(ended(&node, &stateful).await.status, State::Completed);
        node.drain(Duration::from_secs(10)).await;
    });
}

#[test]
fn nobody_is_told_out_of_turn() {
    let stage = Stage::new(1);
    actix::System::new().block_on(async {
        let gate = Gate::closed();
        let node = stage.node(stage.way.url("redis"), &gate).await;
        node.ask(Tally::at("a"), 1).await.unwrap();
        let mut running = accept::<Tally>(&node, "a", 0).await;
        gate.began.notified().await;
        // These wait for it, and are committed as one.
        let mut all = Vec::new();
        for number in [2, BROKEN, 3] {
            all.push(accept::<Tally>(&node, "a", number).await);
        }
        gate.open.add_permits(1);
        told(&mut running).await;
        // What Redis has to know takes long enough that an answer which does not wait for it comes first.
        stage.way.delay(Duration::from_millis(150));
        let mut views = vec![told(&mut all[2]).await];
        for accepted in all[..2].iter_mut().rev() {
            views.push(accepted.ended.as_mut().unwrap().try_recv().expect("told before who comes after it"));
        }
        let status: Vec<State> = views.iter().map(|view| view.status).collect();
        assert_eq!(status, [State::Completed, State::DeadLettered, State::Completed]);
        // A dead letter is in the store when its client hears of it.
        let dead = node.dead(Default::default(), None, 10).await.unwrap();
        assert_eq!(node.redrive(dead.iter().map(|dead| dead.position).collect()).await.unwrap(), 1);
        node.drain(Duration::from_secs(10)).await;
    });
}
