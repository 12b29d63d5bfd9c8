//! The life of a request as its client sees it.

use std::time::{Duration, Instant};

use actix_web::{
    body::{BoxBody, MessageBody},
    dev::{Service, ServiceResponse},
    http::header,
    test::TestRequest,
};
use serde_json::{Value, json};

use super::{FLAKY, REFUSED, SLOW, app, assert_described, call, json_post, node, on, problem, value};
use crate::gateway::schemas::{ProblemView, PromiseView, RequestView};

fn add(by: u64) -> TestRequest {
    json_post("/counters/a", &json!({ "by": by }).to_string())
}

fn look(answer: &Value) -> TestRequest {
    TestRequest::get().uri(&format!("/requests/{}", answer["request"].as_str().unwrap()))
}

#[actix_web::test]
async fn a_command_is_accepted_at_once_and_its_end_can_be_looked_up() {
    let app = app(|_| {}).await;
    let (status, headers, body) = call(&app, add(1)).await;
    let promise = value(&body);
    assert_eq!(status, 202, "{promise}");
    assert_eq!((&promise["status"], &promise["counter"]), (&json!("accepted"), &json!("a")));
    assert_eq!(headers.get(header::LOCATION).unwrap().to_str().unwrap(), promise["links"]["self"].as_str().unwrap());
    assert_eq!(headers.get(header::CACHE_CONTROL).unwrap(), "no-store");
    let waiting = look(&promise).insert_header(("prefer", "wait=5"));
    let (status, headers, body) = call(&app, waiting).await;
    let view = value(&body);
    assert_described::<RequestView>(&view);
    assert_eq!((status.as_u16(), &view["status"], &view["result"]), (200, &json!("completed"), &json!(1)));
    assert_eq!(headers.get("preference-applied").unwrap(), "wait=5");
    assert!(!headers.contains_key(header::RETRY_AFTER));
    let described = json!({ "request": 0, "status": 0, "links": 0 });
    assert_described::<PromiseView>(&described);
}

#[actix_web::test]
async fn the_end_is_the_answer_to_who_waits() {
    let app = app(|_| {}).await;
    let waited = |by| add(by).insert_header(("prefer", "wait=5"));
    let (status, headers, body) = call(&app, waited(2)).await;
    assert_eq!((status.as_u16(), &value(&body)["result"], &value(&body)["counter"]), (200, &json!(2), &json!("a")));
    assert!(headers.contains_key(header::LOCATION));
    let (status, headers, told) = problem(&app, waited(REFUSED)).await;
    assert_eq!((status, &told["type"], &told["state"]), (422, &json!("/problems/failed"), &json!("failed")));
    assert_eq!((&told["detail"], &told["error"]["code"]), (&json!("nine is refused"), &json!("nine")));
    assert!(told["links"]["self"].is_string() && headers.contains_key("preference-applied"));
    let standard = ["type", "title", "status", "detail", "instance"].map(|name| (name.to_owned(), told[name].clone()));
    assert_described::<ProblemView>(&Value::Object(standard.into_iter().collect()));
    let (status, _, body) = call(&app, waited(FLAKY)).await;
    assert_eq!((status.as_u16(), &value(&body)["status"]), (202, &json!("dead-lettered")));
}

#[actix_web::test]
async fn who_waits_too_short_gets_the_promise() {
    let app = app(|settings| settings.max_wait = Duration::from_millis(100)).await;
    let began = Instant::now();
    let (status, _, body) = call(&app, add(SLOW).insert_header(("prefer", "wait=30"))).await;
    assert_eq!((status.as_u16(), &value(&body)["status"]), (202, &json!("accepted")));
    assert!(began.elapsed() < Duration::from_millis(390), "{:?}", began.elapsed());
    let (status, headers, body) = call(&app, look(&value(&body))).await;
    assert_eq!((status.as_u16(), &value(&body)["status"]), (200, &json!("processing")));
    assert_eq!(headers.get(header::RETRY_AFTER).unwrap(), "1");
}

#[actix_web::test]
async fn a_repeat_happens_once_and_gets_the_first_answer() {
    let app = app(|_| {}).await;
    let keyed = |by| add(by).insert_header(("idempotency-key", "k-1"));
    let (status, headers, first) = call(&app, keyed(3)).await;
    assert!(status == 202 && !headers.contains_key("idempotency-replayed"));
    let (status, headers, second) = call(&app, keyed(3)).await;
    assert_eq!((status.as_u16(), &second), (202, &first));
    assert_eq!(headers.get("idempotency-replayed").unwrap(), "true");
    // Waiting for a repeat waits for the first.
    let (status, headers, body) = call(&app, keyed(3).insert_header(("prefer", "wait=5"))).await;
    assert_eq!((status.as_u16(), &value(&body)["result"]), (200, &json!(3)));
    assert_eq!(headers.get("idempotency-replayed").unwrap(), "true");
    let (status, _, told) = problem(&app, keyed(4)).await;
    assert_eq!((status, &told["type"]), (422, &json!("/problems/idempotency-key-reused")));
    // The same key elsewhere is another key.
    let elsewhere = json_post("/counters/b", r#"{"by":3}"#).insert_header(("idempotency-key", "k-1"));
    assert_ne!(value(&call(&app, elsewhere).await.2)["request"], value(&first)["request"]);
    let (_, _, body) = call(&app, add(1).insert_header(("prefer", "wait=5"))).await;
    assert_eq!(value(&body)["result"], 4, "3 was added once");
}

#[actix_web::test]
async fn a_full_mailbox_asks_to_come_back() {
    let app = on(node(2_000).await, |_| {}).await;
    let mut statuses = Vec::new();
    for _ in 0..60 {
        let (status, headers, body) = call(&app, add(SLOW)).await;
        if status == 429 {
            assert_eq!(headers.get(header::RETRY_AFTER).unwrap(), "2");
            assert_eq!(value(&body)["type"], "/problems/mailbox-full");
        }
        statuses.push(status.as_u16());
    }
    assert!(statuses.starts_with(&[202]) && statuses.ends_with(&[429]), "{statuses:?}");
}

#[actix_web::test]
async fn events_tell_every_change_and_then_end() {
    let app = app(|settings| settings.heartbeat = Duration::from_millis(50)).await;
    let promise = value(&call(&app, add(SLOW)).await.2);
    let (status, headers, body) = call(&app, look(&promise).insert_header((header::ACCEPT, "text/event-stream"))).await;
    let text = String::from_utf8(body).unwrap();
    assert_eq!(
        (status.as_u16(), headers.get(header::CONTENT_TYPE).unwrap().to_str().unwrap()),
        (200, "text/event-stream")
    );
    let events: Vec<Value> =
        text.lines().filter_map(|line| Some(serde_json::from_str(line.strip_prefix("data: ")?).unwrap())).collect();
    assert!(events.len() >= 2 && text.contains(": still here"), "{text}");
    assert_eq!(events.last().unwrap()["status"], "completed");
    // Who has seen the end is told to stay away.
    let last = text.lines().rfind(|line| line.starts_with("id: ")).unwrap().trim_start_matches("id: ").to_owned();
    let again = TestRequest::get().uri(promise["links"]["events"].as_str().unwrap());
    assert_eq!(call(&app, again.insert_header(("last-event-id", last))).await.0, 204);
}

#[actix_web::test]
async fn streams_beyond_the_bound_are_refused_and_places_come_back() {
    let app = app(|settings| settings.max_event_streams = 1).await;
    let promise = value(&call(&app, add(SLOW)).await.2);
    let events = || TestRequest::get().uri(promise["links"]["events"].as_str().unwrap());
    let open: ServiceResponse<BoxBody> = app.call(events().to_request()).await.unwrap();
    assert_eq!(problem(&app, events()).await.2["type"], "/problems/too-many-streams");
    assert!(matches!(open.response().body().size(), actix_web::body::BodySize::Stream));
    drop(open);
    assert_eq!(call(&app, events()).await.0, 200);
    // HEAD opens no stream.
    let head = events().method(actix_web::http::Method::HEAD);
    assert_eq!(call(&app, head).await.2, b"");
    assert_eq!(call(&app, events()).await.0, 200);
}
