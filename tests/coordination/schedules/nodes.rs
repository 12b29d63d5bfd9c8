//! Over nodes and builds: what passes while none runs, and what only an old one declares.

use super::*;

/// Runs a node for as long as `play` takes, on a clock that stands still unless it is moved.
async fn node<T>(
    backend: &Arc<dyn greenroom::backend::Backend>,
    clock: &Arc<Virtual>,
    feature: Feature,
    play: impl AsyncFnOnce(&Node) -> T,
) -> T {
    let settings = Settings { arbiters: 0, ..Settings::default() };
    let start =
        Start { backend: backend.clone(), features: vec![feature], settings, clock: Clock::Virtual(clock.clone()) };
    let node = Node::start(start).await.unwrap();
    let played = play(&node).await;
    node.drain(SECOND).await;
    played
}

#[test]
fn slots_that_pass_while_nothing_runs_are_made_up_as_was_said() {
    let missed = |missed: Missed| {
        actix::System::new().block_on(async move {
            let backend = Which::from_env().unwrap().open(&Default::default()).unwrap();
            let clock = Virtual::at(BEGINNING);
            let hourly = || bell("hourly", Schedule::cron("0 * * * *").missed(missed), Ring::Now);
            let declared = async |node: &Node| while node.scheduled("hourly").await.unwrap().is_none() {};
            node(&backend, &clock, hourly(), declared).await;
            // Five hours and some minutes nobody is there.
            clock.advance(5 * HOUR + 10 * MINUTE);
            node(&backend, &clock, hourly(), async |node: &Node| {
                // Whatever is due has begun when all that was due is taken, and ended when its schedule knows.
                let settled = async || {
                    let view = node.scheduled("hourly").await.unwrap().unwrap();
                    view.taken + view.left_out == 5 && view.running.is_none()
                };
                while !settled().await {}
                let state = node.state::<Bell>("tower").await.unwrap().unwrap_or_default();
                let view = node.scheduled("hourly").await.unwrap().unwrap();
                (state.slots.into_iter().map(|(slot, _)| slot / 3600).collect::<Vec<_>>(), view.left_out)
            })
            .await
        })
    };
    assert_eq!(missed(Missed::Once), (vec![5], 4));
    assert_eq!(missed(Missed::All { most: 100 }), (vec![1, 2, 3, 4, 5], 0));
    assert_eq!(missed(Missed::All { most: 2 }), (vec![4, 5], 3));
    assert_eq!(missed(Missed::Skip), (vec![], 5));
}

/// A node among others on the same servers, by the machine's clock.
async fn among_others(options: &greenroom::backend::cluster::Options, feature: Feature) -> Node {
    let backend = Arc::new(greenroom::backend::cluster::Cluster::open(options.clone()).unwrap());
    let settings = Settings { arbiters: 0, ..Settings::default() };
    let start = Start { backend, features: vec![feature], settings, clock: Clock::System };
    Node::start(start).await.unwrap()
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !done().await {
        assert!(begun.elapsed() < MINUTE, "{what} did not come");
        tokio::task::yield_now().await;
    }
}

#[test]
fn while_an_old_build_runs_what_only_it_declares_goes_on() {
    actix::System::new().block_on(async {
        let mut options = Which::Redis.cluster(&Default::default()).unwrap();
        options.lease = SECOND;
        let old = among_others(&options, bell("often", Schedule::every(SECOND), Ring::Now)).await;
        let new = among_others(&options, Feature::new(Bell)).await;
        until("both", async || new.nodes().await.unwrap().len() == 2).await;
        let rung = async || new.state::<Bell>("tower").await.unwrap().unwrap_or_default().slots.len();
        let before = rung().await;
        until("three more", async || rung().await >= before + 3).await;
        assert_eq!(new.scheduled("often").await.unwrap().unwrap().status, Standing::Active);
        old.drain(SECOND).await;
        let status = async || new.scheduled("often").await.unwrap().unwrap().status;
        until("its end", async || status().await == Standing::Orphaned).await;
        new.drain(SECOND).await;
    });
}
