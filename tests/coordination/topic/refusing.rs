//! Events that a group can make nothing of: they hold up nobody for ever, and are not lost.

use greenroom::topic::{Steer, view::GroupStatus};

use super::*;

/// Another build's idea of a sale.
#[derive(Serialize, Deserialize)]
struct Priced {
    n: u64,
    price: u64,
}

const PRICED: Topic<Priced> = Topic::new("sales").shards(2);

fn priced() -> Feature {
    Feature::default().subscribe(PRICED, "mail", |event, to| {
        to.tell(Desk::at(format!("mail:{}", event.key)), event.value.n + event.value.price);
    })
}

#[test]
fn an_event_that_this_build_cannot_read_waits_for_one_that_can() {
    let build = Build::new(|| vec![group("billing"), priced()]);
    build.world().play(async |mut world| {
        let node = world.node().clone();
        node.publish(PRICED, "a1", &Priced { n: 1, price: 100 }).await.unwrap();
        sell(&mut world, "a", &["a1"], 2).await;
        world.advance(MINUTE).await;
        assert_eq!(world.state::<Desk>("mail:a1").await, Some(vec![101]));
        let view = topic(&mut world).await;
        let mail = view.groups.iter().find(|view| view.group == "mail").unwrap();
        assert_eq!((mail.status, mail.lag), (GroupStatus::Waiting, 2));
        assert!(mail.why.as_deref().unwrap().contains("cannot read the event"), "{mail:?}");
        build.becomes(|| vec![group("billing"), group("mail")]);
        world.restart().await;
        world.advance(MINUTE).await;
        assert_eq!(world.state::<Desk>("mail:a1").await, Some(vec![101, 1, 2]));
        // Nobody could read the first one as a sale.
        assert_eq!(world.dead().await, 0);
        world.no_loss().await;
    });
}

#[test]
fn an_event_that_no_build_can_read_becomes_a_dead_letter_and_is_redriven() {
    let build = Build::new(|| vec![group("billing"), priced()]);
    build.world().play(async |mut world| {
        sell(&mut world, "a", &["a1"], 2).await;
        let node = world.node().clone();
        world.settle().await;
        node.publish(PRICED, "a1", &Priced { n: 3, price: 100 }).await.unwrap();
        world.advance(9 * MINUTE).await;
        assert_eq!((world.dead().await, world.state::<Desk>("mail:a1").await), (0, None));
        // Each has its ten minutes.
        world.advance(15 * MINUTE).await;
        let dead = node.dead(Default::default(), None, 10).await.unwrap();
        let to: Vec<String> = dead.iter().map(|dead| dead.envelope.as_ref().unwrap().to.to_string()).collect();
        assert!(to.iter().filter(|to| to.ends_with("/mail")).count() == 2, "{to:?}");
        assert_eq!(world.state::<Desk>("mail:a1").await, Some(vec![103]));
        // For the others, the third one is none: they have no price to miss, but a padding.
        assert_eq!(world.state::<Desk>("billing:a1").await, Some(vec![1, 2]));
        build.becomes(|| vec![group("billing"), group("mail")]);
        world.restart().await;
        world.redrive_all().await;
        world.settle().await;
        assert_eq!(world.state::<Desk>("mail:a1").await, Some(vec![103, 1, 2]));
    });
}

#[test]
fn a_group_that_panics_holds_up_nobody_and_its_events_are_redriven() {
    let panics = || {
        Feature::default().subscribe(SALES, "mail", |event, to| {
            assert!(!event.value.n.is_multiple_of(5), "a number that mail cannot stand");
            to.tell(Desk::at(format!("mail:{}", event.key)), event.value.n);
            if event.value.n == 6 {
                to.tell(Desk::at(""), 6);
            }
        })
    };
    let build = Build::new(move || vec![group("billing"), panics()]);
    build.world().play(async |mut world| {
        // First its groups become known, else they have to catch up, which takes time.
        world.settle().await;
        sell(&mut world, "a", &["a1"], 12).await;
        world.settle().await;
        all_once_but_mail(&mut world).await;
        assert_eq!(world.state::<Desk>("mail:a1").await, Some(vec![1, 2, 3, 4, 7, 8, 9, 11, 12]));
        let dead = world.node().dead(Default::default(), None, 10).await.unwrap();
        let codes: Vec<&str> = dead.iter().map(|dead| &*dead.failures[0].code).collect();
        assert_eq!(codes, ["panic", "refused", "panic"], "{dead:?}");
        assert!(dead[0].failures[0].message.contains("cannot stand"), "{dead:?}");
        // The same when it gets them again.
        world.node().clone().steer_topic("sales", "mail", Steer::Replay { since: None }).await.unwrap();
        world.settle().await;
        assert_eq!(world.dead().await, 6);
        build.becomes(|| vec![group("billing"), group("mail")]);
        world.restart().await;
        assert_eq!(world.redrive_all().await, 6);
        world.settle().await;
        let mail = world.state::<Desk>("mail:a1").await.unwrap();
        assert_eq!(mail[18..], [5, 6, 10, 5, 6, 10]);
        assert_eq!(world.dead().await, 0);
    });
}

#[test]
fn an_event_that_becomes_too_much_is_a_dead_letter_of_that_group_only() {
    let floods = || {
        Feature::default()
            .subscribe(SALES, "many", |event, to| {
                for n in 0..999 + event.value.n {
                    to.tell(Desk::at(format!("many:{}", event.key)), n);
                }
            })
            .subscribe(SALES, "large", |event, to| {
                for _ in 0..event.value.n * 300 {
                    to.tell(Note::at("n"), "x".repeat(2000));
                }
            })
    };

    struct Note;

    impl Actor for Note {
        const KIND: &'static str = "note";
        type State = u64;
        type Command = String;
        type Reply = ();

        async fn handle(&self, count: &mut u64, _: String, _: &Context<Self>) -> Result<()> {
            *count += 1;
            Ok(())
        }
    }

    Build::new(move || vec![group("billing"), floods(), Feature::new(Note)]).world().play(async |mut world| {
        sell(&mut world, "a", &["a1"], 2).await;
        world.advance(MINUTE).await;
        assert_eq!(world.state::<Desk>("billing:a1").await, Some(vec![1, 2]));
        assert_eq!(world.state::<Desk>("many:a1").await.unwrap().len(), 1000);
        assert_eq!(world.state::<Note>("n").await, Some(300));
        let dead = world.node().dead(Default::default(), None, 10).await.unwrap();
        assert_eq!(dead.len(), 2);
        assert!(dead.iter().all(|dead| dead.failures[0].message.contains("one event became")), "{dead:?}");
    });
}

async fn all_once_but_mail(world: &mut World) {
    let sold = sold(world, &["a"]).await;
    assert_eq!(got(world, "billing", sold.keys()).await, sold);
}

#[test]
fn what_is_declared_in_two_ways_does_not_start() {
    use greenroom::{
        backend::embedded::{Embedded, Options},
        clock::Clock,
        runtime::{node::Start, settings::Settings},
    };
    let says = |features: Vec<Feature>| {
        actix::System::new().block_on(async {
            let backend = std::sync::Arc::new(Embedded::in_memory(Options::default()).unwrap());
            let settings = Settings { arbiters: 0, ..Settings::default() };
            let start = Start { backend, features, settings, clock: Clock::System };
            Node::start(start).await.err().expect("it does not start").to_string()
        })
    };
    let other: Topic<Sale> = Topic::new("sales").shards(3);
    assert!(says(vec![Feature::default().topic(SALES).topic(other)]).contains("declared in two ways"));
    assert!(says(vec![group("mail"), group("mail")]).contains("subscribes twice"));
    assert!(says(vec![group("a/b")]).contains("cannot be called so"));
    assert!(says(vec![Feature::default().topic(Topic::<u64>::new("Sales"))]).contains("cannot be called so"));
    assert!(says(vec![Feature::default().topic(Topic::<u64>::new("none").shards(0))]).contains("0 shards"));
}
