//! Each group gets each event once, in the order of its key, whatever crashes.

use greenroom::{
    testing::{Point, Random},
    topic::read::Cursor,
};

use super::*;

fn build() -> Build {
    // One gets half of them twice, at different desks, and one nothing.
    let copies = || {
        Feature::default()
            .subscribe(SALES, "copies", |event, to| {
                for desk in 0..(event.value.n % 2) * 2 {
                    to.tell(Desk::at(format!("copy{desk}:{}", event.key)), event.value.n);
                }
            })
            .subscribe(SALES, "none", |_, _| {})
    };
    Build::new(move || vec![group("billing"), group("mail"), copies()])
}

/// Three shops sell under keys of their own; what may crash does.
fn play(crash: Option<(Point, u32)>) -> bool {
    build().world().play(async |mut world| {
        if let Some((point, nth)) = crash {
            world.crash_at_nth(point, nth);
        }
        for round in 1..=4 {
            sell(&mut world, "a", &["a1", "a2", "a3"], 5).await;
            sell(&mut world, "b", &["b1"], round).await;
            world.settle().await;
            sell(&mut world, "c", &["c1", "c2"], 7).await;
        }
        world.advance(MINUTE).await;
        let what = format!("{crash:?}");
        all_once(&mut world, &["a", "b", "c"], &["billing", "mail"], &what).await;
        let mut odd = sold(&mut world, &["a", "b", "c"]).await;
        odd.values_mut().for_each(|all| all.retain(|n| n % 2 == 1));
        for copy in ["copy0", "copy1"] {
            assert_eq!(got(&mut world, copy, odd.keys()).await, odd, "{copy}: {what}");
        }
        // The log has the same, to the end.
        let events = world.node().events("sales", &Cursor::default(), 1000).await.unwrap().unwrap();
        let mut kept: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for event in events.items {
            kept.entry(event.key).or_default().push(serde_json::from_str::<Sale>(event.value.get()).unwrap().n);
        }
        assert_eq!(kept, sold(&mut world, &["a", "b", "c"]).await, "{what}");
        let topic = topic(&mut world).await;
        assert_eq!((topic.events, topic.groups.len()), (topic.kept, 4), "{topic:?}");
        assert!(topic.bytes > 32 << 10, "there are pages: {topic:?}");
        world.crashes() > 0
    })
}

#[test]
fn each_group_gets_each_event_once_whatever_crashes() {
    play(None);
    let seed = std::env::var("GREENROOM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    println!("GREENROOM_SEED={seed}");
    let mut random = Random::new(seed);
    let rare = [Point::Counted, Point::Deferred, Point::Journal, Point::Journaled];
    let mut died = 0;
    for point in Point::ALL.into_iter().filter(|point| !rare.contains(point)) {
        for _ in 0..3 {
            let nth = 1 + random.below(if point == Point::Accepted { 10 } else { 60 }) as u32;
            died += u32::from(play(Some((point, nth))));
        }
    }
    assert!(died >= 10, "only {died} of 18 died");
}

#[test]
fn handlers_that_run_twice_send_once() {
    let world = build().world().always_replay();
    world.play(async |mut world| {
        // First its groups become known, else they have to catch up, which takes time.
        world.settle().await;
        sell(&mut world, "a", &["a1", "a2", "a3"], 30).await;
        world.settle().await;
        all_once(&mut world, &["a"], &["billing", "mail"], "replayed").await;
    });
}

#[test]
fn a_handler_that_fails_publishes_nothing() {
    struct Careless;

    impl Actor for Careless {
        const KIND: &'static str = "careless";
        type State = ();
        type Command = u64;
        type Reply = ();

        async fn handle(&self, _: &mut (), n: u64, cx: &Context<Self>) -> Result<()> {
            cx.publish(SALES, if n == 7 { "" } else { "k" }, &sale(n));
            if n % 2 == 1 { Err(Error::terminal("odd").code("odd")) } else { Ok(()) }
        }
    }

    Build::new(|| vec![group("billing"), Feature::new(Careless)]).world().play(async |mut world| {
        for n in 1..=4 {
            let _ = world.ask(Careless::at("c"), n).await;
        }
        let refused = world.ask(Careless::at("c"), 7).await.unwrap().unwrap_err();
        assert!(refused.to_string().contains("odd"), "{refused}");
        let large = "x".repeat(300 << 10);
        let refused = world.node().publish(Topic::<String>::new("sales"), "k", &large).await.unwrap_err();
        assert!(refused.is_terminal() && refused.to_string().contains("too large"), "{refused}");
        let refused = world.node().publish(SALES, "a\nb", &sale(1)).await.unwrap_err();
        assert!(refused.is_terminal(), "{refused}");
        world.settle().await;
        assert_eq!(world.state::<Desk>("billing:k").await, Some(vec![2, 4]));
    });
}
