//! Commands that wait, seen from outside: signals, cancelling, and their whole story.

use std::{sync::Arc, time::Duration};

use actix_web::{http::header, test::TestRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{assert_described, call, json_post, on, problem, value};
use crate::{
    backend::embedded::{Embedded, Options},
    clock::Clock,
    gateway::schemas::{LineView, RequestView, SignalView, StoryView, WaitView},
    prelude::*,
    runtime::{node::Start, view::Found, view::State},
};

/// Does durable things.
struct Flow;

#[derive(Serialize, Deserialize)]
enum Do {
    /// Asks for a card, then waits to be approved.
    Approve,
    /// Makes up a card.
    Card,
    /// Takes a card back when it is cancelled.
    Forever,
    Nothing,
}

impl Actor for Flow {
    const KIND: &'static str = "flow";
    type State = ();
    type Command = Do;
    type Reply = Value;

    async fn handle(&self, _: &mut (), command: Do, cx: &Context<Self>) -> Result<Value> {
        match command {
            Do::Approve => {
                let card = cx.ask(Flow::at("cards"), Do::Card).await?;
                let approval: Value = cx.signal("approval").within(Duration::from_secs(3600)).await?;
                Ok(json!({ "paid": card["number"].is_object(), "approval": approval }))
            }
            Do::Card => {
                let card: Value = cx.run("card.make", |_| async { Ok(json!({ "number": Secret::new(4242) })) }).await?;
                Ok(card)
            }
            Do::Forever => {
                cx.run("take", |_| async { Ok(1) }).await?;
                cx.undo("take", async |_: &Flow, cx: &Context<Flow>| cx.run("give back", |_| async { Ok(()) }).await);
                cx.signal("never").await
            }
            Do::Nothing => Ok(Value::Null),
        }
    }
}

async fn flows() -> Node {
    let backend = Arc::new(Embedded::in_memory(Options { partitions: 2, ..Options::default() }).unwrap());
    // What waits leaves memory at once, so that all of its journal is written.
    let settings = crate::runtime::settings::Settings { arbiters: 0, linger: Duration::ZERO, ..Default::default() };
    let features = vec![Feature::new(Flow)];
    Node::start(Start { backend, features, settings, clock: Clock::System }).await.unwrap()
}

/// Waits until what is known of a request is what `until` looks for.
async fn follow<T>(node: &Node, id: RequestId, until: impl AsyncFn(Node) -> Option<T>) -> T {
    let mut changes = node.watch(id).await.unwrap();
    loop {
        if let Some(found) = until(node.clone()).await {
            return found;
        }
        // What is written may be seen a moment before whoever waits is told, or after.
        let _ = tokio::time::timeout(Duration::from_millis(50), changes.changed()).await;
    }
}

/// Waits until a request waits for a signal.
async fn waits_for_signal(node: &Node, id: RequestId) {
    follow(node, id, async |node| match node.journal(id).await.unwrap() {
        crate::runtime::story::Recorded::Here(story) => story.waits_for.iter().find(|w| w.signal.is_some()).map(|_| ()),
        _ => None,
    })
    .await;
}

async fn ended(node: &Node, id: RequestId) -> crate::runtime::view::View {
    follow(node, id, async |node| match node.request(id).await.unwrap() {
        Found::Here(view) if view.status.ended() => Some(view),
        _ => None,
    })
    .await
}

fn here(request: TestRequest) -> TestRequest {
    request.insert_header((header::HOST, "127.0.0.1:8080"))
}

#[actix_web::test]
async fn a_signal_is_taken_once_and_its_command_goes_on() {
    let node = flows().await;
    let app = on(node.clone(), |settings| settings.body_bytes = 200).await;
    let id = node.tell(Flow::at("a"), Do::Approve).await.unwrap();
    let signal = |body: &str| json_post(&format!("/signals/{id}.approval"), body);
    waits_for_signal(&node, id).await;
    let keyed = || signal(r#"{"by":"ann"}"#).insert_header(("idempotency-key", "k"));
    let (status, headers, first) = call(&app, keyed()).await;
    let answer = value(&first);
    assert_described::<SignalView>(&answer);
    assert_eq!((status.as_u16(), &answer["signal"], &answer["request"]), (202, &json!("approval"), &json!(id)));
    assert_eq!(headers.get(header::LOCATION).unwrap(), format!("/requests/{id}").as_str());
    let view = ended(&node, id).await;
    let result: Value = serde_json::from_str(view.result.unwrap().get()).unwrap();
    assert_eq!(result["approval"], json!({ "by": "ann" }));
    // It has ended: nobody takes signals any more.
    let (status, _, told) = problem(&app, signal("1")).await;
    assert_eq!((status, &told["type"], &told["state"]), (409, &json!("/problems/ended"), &json!("completed")));
}

#[actix_web::test]
async fn a_repeated_signal_gets_the_first_answer_and_one_without_body_is_null() {
    let node = flows().await;
    let app = on(node.clone(), |_| {}).await;
    let first = node.tell(Flow::at("a"), Do::Forever).await.unwrap();
    waits_for_signal(&node, first).await;
    let uri = format!("/signals/{first}.other%20name");
    let keyed = |body: &str| json_post(&uri, body).insert_header(("idempotency-key", "k"));
    let (_, headers, body) = call(&app, keyed("1")).await;
    assert!(!headers.contains_key("idempotency-replayed"));
    assert_eq!(value(&body)["signal"], "other name");
    let (status, headers, again) = call(&app, keyed("1")).await;
    assert_eq!((status.as_u16(), again), (202, body));
    assert_eq!(headers.get("idempotency-replayed").unwrap(), "true");
    assert_eq!(headers.get(header::CONTENT_TYPE).unwrap(), "application/json");
    assert_eq!(problem(&app, keyed("2")).await.2["type"], "/problems/idempotency-key-reused");

    let second = node.tell(Flow::at("b"), Do::Approve).await.unwrap();
    let empty = TestRequest::post().uri(&format!("/signals/{second}.approval"));
    assert_eq!(call(&app, empty).await.0, 202);
    let view = ended(&node, second).await;
    assert!(view.result.unwrap().get().contains(r#""approval":null"#));
}

#[actix_web::test]
async fn what_is_no_signal_is_refused_with_what_was_expected() {
    let node = flows().await;
    let app = on(node.clone(), |settings| settings.body_bytes = 1000).await;
    let none = "00000000-0001-8000-8000-000000000000";
    for id in ["x", "x.y", none, &format!("{none}."), &format!("{none}.go"), &format!("{none}.{}", "g".repeat(129))] {
        let (status, _, told) = problem(&app, json_post(&format!("/signals/{id}"), "1")).await;
        assert_eq!((status, told["detail"].as_str().is_some_and(|d| !d.is_empty())), (404, true), "{id} {told}");
    }
    let id = node.tell(Flow::at("a"), Do::Forever).await.unwrap();
    let uri = format!("/signals/{id}.never");
    let deep = "[".repeat(400) + &"]".repeat(400);
    for (body, expected) in [("{", 400), ("1 2", 400), ("\"\\ud800\"", 400), (&deep, 400), (&" ".repeat(1001), 413)] {
        assert_eq!(problem(&app, json_post(&uri, body)).await.0, expected, "{body}");
    }
    assert_eq!(problem(&app, TestRequest::post().uri(&uri).set_payload("by=1")).await.0, 415);
    node.drain(Duration::from_secs(5)).await;
    let (status, headers, _) = problem(&app, json_post(&uri, "1")).await;
    assert!(status == 503 && headers.contains_key(header::RETRY_AFTER));
}

#[actix_web::test]
async fn a_request_that_waits_is_told_to_end_and_undoes_what_it_did() {
    let node = flows().await;
    let app = on(node.clone(), |_| {}).await;
    let id = node.tell(Flow::at("a"), Do::Forever).await.unwrap();
    waits_for_signal(&node, id).await;
    let (status, headers, body) = call(&app, TestRequest::delete().uri(&format!("/requests/{id}"))).await;
    let view = value(&body);
    assert_described::<RequestView>(&view);
    assert_eq!((status.as_u16(), &view["request"]), (202, &json!(id)));
    assert_eq!(headers.get(header::LOCATION).unwrap(), format!("/requests/{id}").as_str());
    assert_eq!(ended(&node, id).await.status, State::Cancelled);
    let story = value(&call(&app, here(TestRequest::get().uri(&format!("/requests/{id}/journal")))).await.2);
    let lines: Vec<String> = story["entries"].as_array().unwrap().iter().map(line).collect();
    assert_eq!(lines, ["step take done", "signal never dropped", "cancel  done", "undo  done", "step give back done"]);
    assert_eq!(story["entries"][4]["undoes"], true);
    assert_eq!(story["waits_for"], json!([]));
}

fn line(line: &Value) -> String {
    let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    format!("{} {} {}", text("kind"), text("name"), text("status"))
}

#[actix_web::test]
async fn the_story_of_a_request_tells_everything_but_secrets() {
    let node = flows().await;
    let app = on(node.clone(), |_| {}).await;
    let id = node.tell(Flow::at("a"), Do::Approve).await.unwrap();
    waits_for_signal(&node, id).await;
    let journal = || here(TestRequest::get().uri(&format!("/requests/{id}/journal")));
    let (status, headers, body) = call(&app, journal()).await;
    let story = value(&body);
    assert_eq!(status, 200, "{story}");
    assert_eq!(headers.get(header::CACHE_CONTROL).unwrap(), "no-store");
    assert!(!story.to_string().contains("4242"), "{story}");
    assert_described::<StoryView>(&story);
    assert_eq!((&story["to"], &story["command"]), (&json!("flow/a"), &json!("Approve")));
    assert_eq!((&story["status"], &story["attempts"]), (&json!("processing"), &json!(1)));
    assert_eq!(story["build"], env!("CARGO_PKG_VERSION"));
    let asked = &story["entries"][0];
    assert_described::<LineView>(asked);
    assert_eq!((&asked["name"], &asked["result"]), (&json!("flow/cards"), &json!({ "number": "[redacted]" })));
    assert_eq!(
        (line(&asked["calls"]["entries"][0]), &asked["from"]),
        ("step card.make done".into(), &asked["calls"]["request"])
    );
    let waits = &story["waits_for"][0];
    assert_described::<WaitView>(waits);
    assert_eq!((&waits["signal"], &waits["kind"]), (&json!(format!("{id}.approval")), &json!("signal")));
    assert!(waits["until"].as_i64().unwrap() > waits["since"].as_i64().unwrap());
    // The call can be followed.
    let callee = format!("/requests/{}", asked["from"].as_str().unwrap());
    assert_eq!(value(&call(&app, TestRequest::get().uri(&callee)).await.2)["status"], "completed");

    assert_eq!(call(&app, json_post(&format!("/signals/{id}.approval"), "true")).await.0, 202);
    ended(&node, id).await;
    let story = value(&call(&app, journal()).await.2);
    assert_eq!((&story["status"], &story["result"]["approval"]), (&json!("completed"), &json!(true)));
    assert_eq!((line(&story["entries"][1]), &story["waits_for"]), ("signal approval done".into(), &json!([])));
    assert!(!story.to_string().contains("4242"), "{story}");
}

#[actix_web::test]
async fn a_request_without_journal_has_an_empty_story_and_operators_read_it() {
    let node = flows().await;
    let app = on(node.clone(), |settings| settings.admin_token = Some("a token of the operators".into())).await;
    let id = node.tell(Flow::at("a"), Do::Nothing).await.unwrap();
    ended(&node, id).await;
    let uri = format!("/requests/{id}/journal");
    assert_eq!(problem(&app, here(TestRequest::get().uri(&uri))).await.0, 401);
    let bearer = (header::AUTHORIZATION, "Bearer a token of the operators");
    let (status, _, body) = call(&app, TestRequest::get().uri(&uri).insert_header(bearer.clone())).await;
    assert_eq!((status.as_u16(), &value(&body)["entries"]), (200, &json!([])));
    let never = TestRequest::get().uri("/requests/00000000-0001-8000-8000-000000000000/journal").insert_header(bearer);
    assert_eq!(problem(&app, never).await.0, 404);
}

#[actix_web::test]
async fn a_signal_for_a_command_that_takes_none_does_it_no_harm() {
    let node = flows().await;
    let app = on(node.clone(), |_| {}).await;
    let first = node.tell(Flow::at("a"), Do::Forever).await.unwrap();
    waits_for_signal(&node, first).await;
    // It waits behind the first, and a signal comes for it.
    let second = node.tell(Flow::at("a"), Do::Nothing).await.unwrap();
    assert_eq!(call(&app, json_post(&format!("/signals/{second}.go"), "1")).await.0, 202);
    assert_eq!(call(&app, TestRequest::delete().uri(&format!("/requests/{first}"))).await.0, 202);
    assert_eq!(ended(&node, second).await.status, State::Completed);
}
