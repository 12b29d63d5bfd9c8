//! Consumers that are no actors: they read on from a cursor.

use greenroom::topic::read::Cursor;

use super::*;

#[test]
fn a_topic_is_read_page_by_page_from_a_cursor() {
    Build::new(|| vec![group("billing")]).world().play(async |mut world| {
        assert!(world.node().events("nothing", &Cursor::default(), 10).await.unwrap().is_none());
        let mut read = Vec::new();
        let mut cursor = Cursor::default();
        for round in 1..=5 {
            sell(&mut world, "a", &["a1", "a2", "a3", "a4"], 20).await;
            world.settle().await;
            let mut text = cursor.to_string();
            loop {
                // A consumer keeps a text.
                cursor = text.parse().unwrap();
                let page = world.node().events("sales", &cursor, 7).await.unwrap().unwrap();
                assert!(page.items.len() <= 7 && page.missed == 0);
                if let Some(last) = page.items.last() {
                    assert_eq!(last.cursor, page.cursor);
                }
                text = page.cursor.to_string();
                if page.items.is_empty() {
                    break;
                }
                read.extend(page.items);
            }
            assert_eq!(read.len(), 20 * round);
        }
        let mut by_key: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for event in &read {
            let sale: Sale = serde_json::from_str(event.value.get()).unwrap();
            by_key.entry(event.key.clone()).or_default().push(sale.n);
        }
        assert_eq!(by_key, sold(&mut world, &["a"]).await);
        // From the middle on, and from the end.
        let rest = world.node().events("sales", &read[49].cursor, 100).await.unwrap().unwrap();
        assert_eq!(rest.items.len(), 50);
        assert_eq!((&rest.items[0].key, rest.items[0].sequence), (&read[50].key, read[50].sequence));
        let now = world.node().events_now("sales").await.unwrap();
        assert_eq!(now, cursor);
        assert!(world.node().events("sales", &now, 100).await.unwrap().unwrap().items.is_empty());
    });
}

#[test]
fn whoever_comes_late_is_told_what_it_missed() {
    Build::new(|| vec![group("billing")]).world().play(async |mut world| {
        sell(&mut world, "a", &["a1", "a2"], 60).await;
        world.advance(8 * 24 * 60 * MINUTE).await;
        sell(&mut world, "a", &["a1", "a2"], 5).await;
        world.settle().await;
        let page = world.node().events("sales", &Cursor::default(), 100).await.unwrap().unwrap();
        assert_eq!((page.items.len(), page.missed), (5, 60));
        let next = world.node().events("sales", &page.cursor, 100).await.unwrap().unwrap();
        assert_eq!((next.items.len(), next.missed), (0, 0));
    });
    for bad in ["", "x", "1.", "-1", "1 2"] {
        assert!(bad.parse::<Cursor>().unwrap_err().is_terminal(), "{bad}");
    }
}
