//! States: queries over declared indexes, pages, indexes added later.

use greenroom::{
    Index, Query,
    backend::{StateWrite, document},
    query::declared_fields,
};
use serde::Serialize;

use super::*;

#[derive(Serialize)]
struct Row<'a> {
    customer: &'a str,
    status: &'a str,
    placed: Option<i64>,
}

fn indexes() -> Vec<Index> {
    vec![Index::on(["customer", "status", "placed"]), Index::on(["customer", "placed"])]
}

async fn save(backend: &Arc<dyn Backend>, key: &str, row: Row<'_>, indexes: &[Index]) {
    let lease = take(backend, 0).await;
    let doc = document::encode(&row, 10_000).unwrap();
    let fields = document::values(&doc, &declared_fields(indexes));
    let mut commit = Commit::of(Address::new("row", key).unwrap(), NOW);
    commit.state = Some(StateWrite { from: 0, doc, fields });
    assert_eq!(backend.commit(lease, vec![commit].into()).await, [Ok(())]);
}

async fn keys(backend: &Arc<dyn Backend>, query: Query) -> (Vec<String>, Option<String>) {
    query.check("row", &indexes()).unwrap();
    let (rows, cursor) = backend.query("row", query).await.unwrap();
    (rows.into_iter().map(|(key, _)| key).collect(), cursor)
}

#[test]
fn equality_range_sort_and_pages() {
    each(|backend| async move {
        backend.declare("row", true, &indexes()).await.unwrap();
        for n in 0..25i64 {
            let (customer, status) =
                (if n % 5 == 0 { "bob" } else { "ann" }, if n % 2 == 0 { "paid" } else { "placed" });
            let placed = (n != 7).then_some(n % 10);
            save(&backend, &format!("k{n:02}"), Row { customer, status, placed }, &indexes()).await;
        }
        let (all, _) = keys(&backend, Query::new().eq("customer", "ann").limit(100)).await;
        assert_eq!(all.len(), 20);
        for newest in [true, false] {
            let query = Query::new().eq("customer", "ann").limit(3);
            let query = if newest { query.newest_by("placed") } else { query.oldest_by("placed") };
            let (mut paged, mut cursor) = keys(&backend, query.clone()).await;
            while let Some(at) = cursor {
                let (more, next) = keys(&backend, query.clone().after(at)).await;
                paged.extend(more);
                cursor = next;
            }
            let (whole, end) = keys(&backend, query.limit(100)).await;
            assert_eq!((paged, end), (whole, None), "newest {newest}");
        }
        let range = Query::new().eq("customer", "ann").eq("status", "paid").between(
            "placed",
            Some(2i64.into()),
            Some(6i64.into()),
        );
        assert_eq!(keys(&backend, range).await.0, ["k02", "k12", "k22", "k04", "k14", "k24"]);
        assert!(backend.query("row", Query::new().after("zz")).await.unwrap_err().to_string().contains("cursor"));
    });
}

#[test]
fn an_index_declared_later_knows_what_was_saved_before() {
    each(|backend| async move {
        backend.declare("row", true, &[]).await.unwrap();
        save(&backend, "k", Row { customer: "ann", status: "paid", placed: Some(1) }, &[]).await;
        backend.declare("row", true, &indexes()).await.unwrap();
        assert_eq!(keys(&backend, Query::new().eq("customer", "ann").eq("status", "paid")).await.0, ["k"]);
    });
}

#[test]
fn keys_are_found_by_how_they_begin() {
    each(|backend| async move {
        backend.declare("row", true, &indexes()).await.unwrap();
        for key in ["a", "b", "b/1", "b/2", "b/ä", "b0", "c"] {
            save(&backend, key, Row { customer: "ann", status: "paid", placed: None }, &indexes()).await;
        }
        let of = async |prefix: &str| keys(&backend, Query::new().prefix(prefix)).await.0;
        assert_eq!(of("b/").await, ["b/1", "b/2", "b/ä"]);
        assert_eq!(of("b").await, ["b", "b/1", "b/2", "b/ä", "b0"]);
        assert_eq!((of("").await.len(), of("d").await.len()), (7, 0));
        let (first, cursor) = keys(&backend, Query::new().prefix("b/").limit(2)).await;
        let (rest, end) = keys(&backend, Query::new().prefix("b/").limit(2).after(cursor.unwrap())).await;
        assert_eq!((first, rest, end), (vec!["b/1".to_owned(), "b/2".to_owned()], vec!["b/ä".to_owned()], None));
    });
}
