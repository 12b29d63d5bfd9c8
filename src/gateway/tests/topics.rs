//! Topics over HTTP: how they stand, steering a group, reading on from a cursor, and events as they come.

use std::{future::poll_fn, sync::Arc};

use actix_web::{body::MessageBody, dev::Service, http::header, test::TestRequest};
use serde_json::{Value, json};

use super::{Counter, assert_described, call, here, json_post, on, problem, value};
use crate::{
    backend::embedded::{Embedded, Options},
    clock::Clock,
    gateway::schemas::{TopicEventView, TopicEventsView, TopicGroupView, TopicPage, TopicView},
    prelude::*,
    runtime::node::Start,
};

const SALES: Topic<u64> = Topic::new("sales").shards(2);

async fn node() -> Node {
    let features = vec![
        Feature::new(Counter).subscribe(SALES, "totals", |event, to| to.tell(Counter::at(&*event.key), event.value)),
    ];
    let backend = Arc::new(Embedded::in_memory(Options { partitions: 1, ..Options::default() }).unwrap());
    let settings = crate::runtime::settings::Settings { arbiters: 0, ..Default::default() };
    Node::start(Start { backend, features, settings, clock: Clock::System }).await.unwrap()
}

fn get(uri: &str) -> TestRequest {
    here(TestRequest::get().uri(uri))
}

/// Publishes, and waits until all of it has become something.
async fn publish(node: &Node, events: std::ops::RangeInclusive<u64>) {
    let before = node.topic("sales").await.unwrap().map_or(0, |topic| topic.events);
    let after = before + events.clone().count() as u64;
    for n in events {
        node.publish(SALES, &format!("k{}", n % 3), &n).await.unwrap();
    }
    while node.topic("sales").await.unwrap().is_none_or(|topic| topic.events < after) {
        tokio::task::yield_now().await;
    }
}

#[actix_web::test]
async fn topics_and_their_groups_are_listed_and_steered() {
    let node = node().await;
    publish(&node, 11..=20).await;
    let app = on(node.clone(), |_| {}).await;
    let page = value(&call(&app, get("/admin/topics")).await.2);
    assert_described::<TopicPage>(&page);
    let topic = &page["items"][0];
    assert_described::<TopicView>(topic);
    assert_described::<TopicGroupView>(&topic["groups"][0]);
    assert_eq!((&topic["topic"], &topic["events"], &topic["shards"]), (&json!("sales"), &json!(10), &json!(2)));
    let post = |path: &str, body: &str| here(json_post(&format!("/admin/topics/sales/groups/{path}"), body));
    let group = |body: &[u8]| value(body)["groups"][0].clone();
    let (status, _, body) = call(&app, post("totals/pause", "")).await;
    assert_eq!((status.as_u16(), &group(&body)["status"]), (200, &json!("paused")));
    publish(&node, 21..=22).await;
    let (_, _, metrics) = call(&app, TestRequest::get().uri("/metrics")).await;
    let metrics = String::from_utf8(metrics).unwrap();
    for line in [
        "greenroom_topic_lag_events{topic=\"sales\",group=\"totals\"} 2",
        "greenroom_topic_published_total{topic=\"sales\"} 12",
        "greenroom_topic_delivered_total{topic=\"sales\",group=\"totals\"} 10",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    let (_, _, body) = call(&app, post("totals/skip", "")).await;
    assert_eq!((&group(&body)["status"], &group(&body)["lag"]), (&json!("paused"), &json!(0)));
    let (_, _, body) = call(&app, post("totals/resume", "")).await;
    assert_eq!(group(&body)["status"], "live");
    for unclear in ["{}", r#"{"all":true,"since":1}"#, r#"{"all":false}"#, r#"{"since":-1}"#] {
        assert_eq!(problem(&app, post("totals/replay", unclear)).await.0, 422, "{unclear}");
    }
    assert_eq!(call(&app, post("totals/replay", r#"{"all":true}"#)).await.0, 200);
    while node.state::<Counter>("k0").await.unwrap() != Some(2 * (12 + 15 + 18) + 21) {
        tokio::task::yield_now().await;
    }
    let forget = || here(TestRequest::delete().uri("/admin/topics/sales/groups/totals"));
    assert_eq!(value(&call(&app, forget()).await.2)["groups"], json!([]));
    for unknown in [forget(), post("totals/pause", ""), post("a%2Fb/pause", ""), get("/admin/topics/none")] {
        assert_eq!(problem(&app, unknown).await.0, 404);
    }
    let far = get("/admin/topics").insert_header((header::HOST, "rebound.example"));
    assert_eq!(problem(&app, far).await.2["type"], "/problems/admin-closed");
}

#[actix_web::test]
async fn events_are_read_on_from_a_cursor() {
    let node = node().await;
    publish(&node, 1..=10).await;
    let app = on(node.clone(), |_| {}).await;
    let (mut read, mut after) = (Vec::new(), String::new());
    for _ in 0..4 {
        let page = value(&call(&app, get(&format!("/admin/topics/sales/events?limit=4{after}"))).await.2);
        assert_described::<TopicEventsView>(&page);
        page["items"].as_array().unwrap().iter().for_each(assert_described::<TopicEventView>);
        read.extend(page["items"].as_array().unwrap().iter().map(|event| event["value"].as_u64().unwrap()));
        after = format!("&after={}", page["cursor"].as_str().unwrap());
    }
    read.sort_unstable();
    assert_eq!(read, (1..=10).collect::<Vec<u64>>());
    let now = value(&call(&app, get("/admin/topics/sales/events?after=now")).await.2);
    assert_eq!(now["items"], json!([]));
    let wrong = problem(&app, get("/admin/topics/sales/events?after=x")).await.2;
    assert_eq!((&wrong["status"], &wrong["errors"][0]["parameter"]), (&json!(400), &json!("after")));
    assert_eq!(problem(&app, get("/admin/topics/none/events")).await.0, 404);
    assert_eq!(problem(&app, get("/admin/topics/sales/events?limit=0")).await.0, 400);
}

#[actix_web::test]
async fn events_come_as_they_are_published_and_go_on_after_the_last_one_seen() {
    let node = node().await;
    publish(&node, 1..=3).await;
    let app = on(node.clone(), |_| {}).await;
    let stream = async |seen: Option<&str>| {
        let mut request = get("/admin/topics/sales/events").insert_header((header::ACCEPT, "text/event-stream"));
        if let Some(seen) = seen {
            request = request.insert_header(("last-event-id", seen));
        }
        let response = app.call(request.peer_addr("127.0.0.1:9".parse().unwrap()).to_request()).await.unwrap();
        assert_eq!(response.headers().get(header::CONTENT_TYPE).unwrap(), "text/event-stream");
        Box::pin(response.into_body())
    };
    let mut body = stream(None).await;
    let mut next = async || {
        let bytes = poll_fn(|cx| body.as_mut().poll_next(cx)).await.unwrap().unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    let ids = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.strip_prefix("id: ")).map(str::to_owned).collect()
    };
    let values = |text: &str| -> Vec<u64> {
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|data| serde_json::from_str::<Value>(data).unwrap()["value"].as_u64().unwrap()).collect()
    };
    let first = next().await;
    assert_eq!(values(&first).len(), 3, "{first}");
    publish(&node, 4..=4).await;
    assert_eq!(values(&next().await), [4]);
    // Somebody who had seen two of them connects again.
    let mut body = stream(Some(&ids(&first)[1])).await;
    let bytes = poll_fn(|cx| body.as_mut().poll_next(cx)).await.unwrap().unwrap();
    let rest = values(std::str::from_utf8(&bytes).unwrap());
    assert_eq!(rest.len(), 2);
    assert!(rest.contains(&values(&first)[2]) && rest.contains(&4), "{rest:?}");
    let wrong = get("/admin/topics/sales/events").insert_header((header::ACCEPT, "text/event-stream"));
    let wrong = problem(&app, wrong.insert_header(("last-event-id", "x"))).await;
    assert_eq!((wrong.0, &wrong.2["errors"][0]["header"]), (400, &json!("Last-Event-ID")));
}
