//! One process, one store, one clock, all under the test's control.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;

use super::{
    random::Random,
    recorder::{History, Recorder, backend},
    stores::Which,
};
use crate::{
    actor::Actor,
    address::At,
    backend::{
        Audit, Backend, DeadFilter,
        embedded::{Embedded, Options},
    },
    clock::{Clock, Virtual},
    error::{Error, Result},
    feature::Feature,
    request::RequestId,
    runtime::{
        faults::{Faults, Plan, Point},
        node::{Node, Start},
        settings::Settings,
        view::{Found, View},
    },
};

/// When every world begins: 2026-01-01T00:00:00Z, in milliseconds since the Unix epoch.
const BEGINNING: i64 = 1_767_225_600_000;
/// How long, by the machine's own clock, a world may take until it is nearer to rest than ever, before something hangs:
/// a busy machine is slow, and gets on.
const PATIENCE: Duration = Duration::from_secs(20);

type Features = Arc<dyn Fn() -> Vec<Feature>>;

/// What to test and how; see the [module](super).
pub struct World {
    features: Features,
    seed: u64,
    settings: Settings,
    options: Options,
    store: Option<Arc<dyn Backend>>,
    clock: Arc<Virtual>,
    history: Arc<History>,
    plan: Arc<Plan>,
    node: Option<Node>,
    replay: bool,
    always: Option<Point>,
    answered: Vec<RequestId>,
    crashes: u32,
}

impl World {
    /// A world with these features, made anew at each start. The seed comes from
    /// `GREENROOM_SEED`, or is 1; it is printed when a test fails.
    pub fn new(features: impl Fn() -> Vec<Feature> + 'static) -> Self {
        let seed = std::env::var("GREENROOM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
        let settings = Settings { arbiters: 0, ..Settings::default() };
        Self {
            features: Arc::new(features),
            seed,
            settings,
            options: Options { partitions: 4, ..Options::default() },
            store: None,
            clock: Virtual::at(BEGINNING),
            history: Arc::default(),
            plan: Arc::default(),
            node: None,
            replay: false,
            always: None,
            answered: Vec::new(),
            crashes: 0,
        }
    }

    /// Another seed for jitter and [`World::random`].
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Other bounds.
    pub fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Another store: partitions and budgets.
    pub fn options(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self
    }

    /// On a file in `data` instead of in memory.
    pub fn on_file(mut self, data: &Path) -> Result<Self> {
        self.store = Some(Arc::new(Embedded::open(data, self.options.clone())?));
        Ok(self)
    }

    /// Runs every handler twice, the first time for nothing, as a crash just before each commit
    /// would: a handler that cannot be repeated shows itself.
    pub fn always_replay(mut self) -> Self {
        self.replay = true;
        self
    }

    /// Starts the world and runs `play` in it.
    ///
    /// # Panics
    /// When the world cannot be started, and when `play` panics, after printing the seed.
    pub fn play<T, F: AsyncFnOnce(World) -> T>(mut self, play: F) -> T {
        let seed = self.seed;
        let run = std::panic::AssertUnwindSafe(|| {
            actix::System::new().block_on(async move {
                if self.store.is_none() {
                    let store = Which::from_env().and_then(|which| which.open(&self.options));
                    self.store = Some(store.unwrap_or_else(|e| panic!("no store: {e}")));
                }
                self.start().await;
                play(self).await
            })
        });
        std::panic::catch_unwind(run).unwrap_or_else(|panic| {
            eprintln!("the world had the seed {seed}: set GREENROOM_SEED={seed} to see it again");
            std::panic::resume_unwind(panic)
        })
    }

    pub(crate) fn store(&self) -> Arc<dyn Backend> {
        self.store.clone().unwrap_or_else(|| panic!("the world has not begun: use World::play"))
    }

    async fn start(&mut self) {
        self.plan = Arc::default();
        if let Some(point) = self.always {
            self.plan.crash_at(point, 1);
        }
        self.plan.replay.store(self.replay, Ordering::Relaxed);
        let recorder = Recorder {
            store: self.store(),
            history: self.history.clone(),
            plan: self.plan.clone(),
            company: None,
            hold: None,
        };
        let start = Start {
            backend: backend(recorder),
            features: (self.features)(),
            settings: self.settings.clone(),
            clock: Clock::Virtual(self.clock.clone()),
        };
        let node = Node::start_with(start, Faults::planned(self.plan.clone()), self.seed).await;
        self.node = Some(node.unwrap_or_else(|e| panic!("the node does not start: {e}")));
    }

    /// The node of this life of the process.
    pub fn node(&self) -> &Node {
        self.node.as_ref().unwrap_or_else(|| panic!("the world has not begun: use World::play"))
    }

    /// Randomness of this world's seed.
    pub fn random(&self) -> Random {
        Random::new(self.seed)
    }

    /// Now, in milliseconds since the Unix epoch.
    pub fn now(&self) -> i64 {
        Clock::Virtual(self.clock.clone()).now()
    }

    /// Lets the process die the next time a message passes `point`.
    pub fn crash_at(&mut self, point: Point) {
        self.crash_at_nth(point, 1);
    }

    /// Lets the process die the `nth` time a message passes `point`, counted from 1.
    pub fn crash_at_nth(&mut self, point: Point, nth: u32) {
        self.plan.crash_at(point, nth);
    }

    /// Lets the process die now, and starts it again.
    pub async fn crash(&mut self) {
        self.plan.die();
        self.restart_if_dead().await;
    }

    /// Lets the process die now, and starts it again after so long.
    pub async fn crash_for(&mut self, time: Duration) {
        self.plan.die();
        self.clock.advance(time);
        self.restart_if_dead().await;
    }

    /// Lets every life of the process die when a message first passes `point`; `None` ends that.
    pub fn crash_whenever(&mut self, point: Option<Point>) {
        self.always = point;
        match point {
            Some(point) => self.plan.crash_at(point, 1),
            None => self.plan.spare(),
        }
    }

    /// How often the process has died.
    pub fn crashes(&self) -> u32 {
        self.crashes
    }

    /// How often messages passed `point` since the process started.
    pub fn passed(&self, point: Point) -> u64 {
        self.plan.met(point)
    }

    async fn restart_if_dead(&mut self) {
        while self.plan.crashed() {
            self.crashes += 1;
            assert!(self.crashes < 1000, "the process dies again and again");
            self.start().await;
        }
    }

    /// Drains the process as SIGTERM does, and starts it again.
    pub async fn restart(&mut self) {
        self.restart_if_dead().await;
        // One that dies meanwhile has been started again.
        if self.call(async |node| node.drain(Duration::from_secs(30)).await).await.is_some() {
            self.plan.die();
            self.start().await;
        }
    }

    /// Runs a call on the node; `None` when the process died before it answered.
    pub(super) async fn call<T>(&mut self, call: impl AsyncFnOnce(Node) -> T) -> Option<T> {
        let (plan, node) = (self.plan.clone(), self.node().clone());
        let answer = tokio::select! {
            biased;
            answer = call(node) => Some(answer),
            () = plan.died.notified() => None,
        };
        self.restart_if_dead().await;
        answer
    }

    /// Tells an actor; the id once it is accepted, `None` when the process died before it said so.
    ///
    /// # Panics
    /// When the message is refused.
    pub async fn tell<A: Actor>(&mut self, to: At<A>, command: A::Command) -> Option<RequestId> {
        let told = self.call(async |node| node.tell(to, command).await).await?;
        let request = told.unwrap_or_else(|e| panic!("not accepted: {e}"));
        self.answered.push(request);
        Some(request)
    }

    /// Asks an actor for its reply; `None` when the process died before it answered.
    pub async fn ask<A: Actor<Reply: DeserializeOwned>>(
        &mut self,
        to: At<A>,
        command: A::Command,
    ) -> Option<Result<A::Reply>> {
        self.call(async |node| node.ask(to, command).await).await
    }

    /// Lets everything happen that can happen now, restarting the process when it dies.
    ///
    /// # Panics
    /// When it does not come to rest, and gets no nearer to it within 20 seconds of real time.
    pub async fn settle(&mut self) {
        let (mut quiet, mut before) = (0, 0);
        // Nearer to rest than ever: fewer could run, or it was quiet for longer.
        let (mut nearer, mut fewest, mut longest) = (Instant::now(), u64::MAX, 0);
        loop {
            self.restart_if_dead().await;
            // Each look goes through the store's queue, behind whatever is on its way there.
            let runnable = self.store().runnable(self.now()).await.unwrap_or_else(|e| panic!("no store: {e}"));
            let (begun_calls, open_calls) = self.plan.calls();
            quiet = if begun_calls == before && open_calls == 0 { quiet + 1 } else { 0 };
            before = begun_calls;
            if runnable < fewest || quiet > longest {
                (nearer, fewest, longest) = (Instant::now(), fewest.min(runnable), longest.max(quiet));
            }
            // Nothing asks the store for anything: what is left, if anything, waits for time to pass. What a
            // store of several partitions carries between them by itself asks nobody, and is waited for.
            if quiet >= if runnable == 0 { 3 } else { 100 } {
                break;
            }
            for _ in 0..32 {
                tokio::task::yield_now().await;
            }
            if nearer.elapsed() > PATIENCE {
                panic!("{runnable} messages could run and do not come to an end");
            }
        }
        self.restart_if_dead().await;
    }

    /// Lets time pass, with everything that happens meanwhile in its order.
    pub async fn advance(&mut self, time: Duration) {
        let target = self.now() + time.as_millis() as i64;
        loop {
            self.settle().await;
            match self.clock.next_due().filter(|due| *due <= target) {
                Some(due) => self.clock.advance_to(due),
                None => break,
            }
            // Whoever was woken runs before anybody looks.
            tokio::task::yield_now().await;
        }
        self.clock.advance_to(target);
        self.settle().await;
    }

    /// The committed state of one actor.
    ///
    /// # Panics
    /// When it cannot be read.
    pub async fn state<A: Actor>(&mut self, key: &str) -> Option<A::State> {
        self.node().state::<A>(key).await.unwrap_or_else(|e| panic!("no state: {e}"))
    }

    /// How a request stands.
    ///
    /// # Panics
    /// When it is unknown or expired.
    pub async fn view(&mut self, request: RequestId) -> View {
        match self.node().request(request).await {
            Ok(Found::Here(view)) => view,
            other => panic!("request {request}: {other:?}"),
        }
    }

    /// How many dead letters there are.
    pub async fn dead(&mut self) -> usize {
        let dead = self.node().dead(DeadFilter::default(), None, 1000).await;
        dead.map(|dead| dead.len()).unwrap_or_else(|e| panic!("no dead letters: {e}"))
    }

    /// Puts all dead letters back.
    pub async fn redrive_all(&mut self) -> usize {
        let moved = async {
            let dead = self.node().dead(DeadFilter::default(), None, 1000).await?;
            self.node().redrive(dead.into_iter().map(|dead| dead.position).collect()).await
        };
        moved.await.unwrap_or_else(|e: Error| panic!("not redriven: {e}"))
    }

    /// The ledger held against the store.
    ///
    /// # Panics
    /// When the store cannot be read.
    pub async fn audit(&self) -> Audit {
        self.store().audit().await.unwrap_or_else(|e| panic!("no audit: {e}"))
    }

    /// Every message whose acceptance was answered has ended, and the ledger balances (G1, G11).
    ///
    /// # Panics
    /// When not.
    pub async fn no_loss(&mut self) {
        self.settle().await;
        for request in self.answered.clone() {
            match self.node().request(request).await {
                Ok(Found::Here(view)) => assert!(view.status.ended(), "request {request} has not ended: {view:?}"),
                Ok(Found::Expired) => {}
                other => panic!("request {request} was accepted: {other:?}"),
            }
        }
        let audit = self.audit().await;
        assert!(audit.balanced, "the ledger does not balance: {audit:?}");
    }

    /// No message ended twice in committed history (G3).
    ///
    /// # Panics
    /// When one did.
    pub fn no_duplicate(&self) {
        let doubles = self.history.doubles();
        assert!(doubles.is_empty(), "messages ended more than once: {doubles:?}");
    }

    /// One actor's messages ended in the order they were accepted, timers aside (G2).
    ///
    /// # Panics
    /// When not.
    pub fn in_order<A: Actor>(&self, at: At<A>) {
        let address = at.address().unwrap_or_else(|e| panic!("no address: {e}"));
        let order = self.history.order(&address);
        assert!(order.is_sorted(), "{address} handled its messages out of order: {order:?}");
    }
}
