//! The operator's side: who is let in, dead letters, the ledger, sending by hand.

use actix_web::{
    http::{Method, header},
    test::TestRequest,
};
use serde_json::{Value, json};

use super::{FLAKY, app, assert_described, call, here, json_post, node_of, on, problem, value};
use crate::{
    backend::embedded::{Embedded, Options},
    gateway::schemas::{
        AuditView, ChangedView, DeadLetterPage, LedgerView, NodeView, NodesView, PartitionView, PartitionsView,
        PauseView, PausedView, SweptView,
    },
};

#[actix_web::test]
async fn administration_is_for_the_token_or_for_who_is_here() {
    let list = || TestRequest::get().uri("/admin/dead-letters").insert_header((header::HOST, "localhost:8080"));
    let open = app(|_| {}).await;
    let (status, _, body) = call(&open, list()).await;
    assert_eq!((status.as_u16(), serde_json::from_slice::<Value>(&body).unwrap()), (200, json!({ "items": [] })));
    let rebound = list().insert_header((header::HOST, "rebound.example"));
    assert_eq!(problem(&open, rebound).await.2["type"], "/problems/admin-closed");
    let public = app(|settings| settings.listen = ([0, 0, 0, 0], 80).into()).await;
    assert_eq!(problem(&public, list()).await.0, 403);
    let guarded = app(|settings| settings.admin_token = Some("0123456789abcdef".into())).await;
    let (status, headers, _) = problem(&guarded, list()).await;
    assert!(status == 401 && headers.contains_key(header::WWW_AUTHENTICATE));
    let bearing = list().insert_header((header::AUTHORIZATION, "Bearer 0123456789abcdef"));
    assert_eq!(call(&guarded, bearing).await.0, 200);
}

#[actix_web::test]
async fn an_operation_on_many_says_which() {
    let app = app(|_| {}).await;
    let redrive =
        |body: &str| json_post("/admin/dead-letters/redrive", body).insert_header((header::HOST, "localhost"));
    for unclear in [
        "{}",
        r#"{"all":true,"kind":"order"}"#,
        r#"{"ids":[],"all":true}"#,
        r#"{"ids":null,"all":true}"#,
        r#"{"ids":null}"#,
        r#"{"kind":null,"key":"7"}"#,
    ] {
        assert_eq!(problem(&app, redrive(unclear)).await.0, 422, "{unclear}");
    }
    for clear in [r#"{"all":true}"#, r#"{"kind":"order","key":"7"}"#, r#"{"ids":["x"]}"#] {
        assert_eq!(call(&app, redrive(clear)).await.2, br#"{"count":0,"more":false}"#, "{clear}");
    }
}

#[actix_web::test]
async fn an_operation_on_many_is_no_dead_letter() {
    let app = app(|_| {}).await;
    for verb in ["redrive", "discard"] {
        for method in [Method::GET, Method::HEAD, Method::DELETE, Method::PUT] {
            let asked = TestRequest::default().method(method.clone()).uri(&format!("/admin/dead-letters/{verb}"));
            let (status, headers, _) = call(&app, here(asked)).await;
            assert_eq!(status, 405, "{method} {verb}");
            assert_eq!(headers.get(header::ALLOW).unwrap(), "POST", "{method} {verb}");
        }
    }
}

#[actix_web::test]
async fn who_runs_what_is_told() {
    let node = node_of(Embedded::in_memory(Options { partitions: 3, ..Options::default() }).unwrap()).await;
    node.announce("http://127.0.0.1:8080").await.unwrap();
    let app = on(node, |_| {}).await;
    let sent = json_post("/counters/a", r#"{"by":1}"#).insert_header(("prefer", "wait=5"));
    assert_eq!(call(&app, sent).await.0, 200);
    let nodes = value(&call(&app, here(TestRequest::get().uri("/admin/nodes"))).await.2);
    assert_described::<NodesView>(&nodes);
    let only = &nodes["items"][0];
    assert_described::<NodeView>(only);
    assert_eq!((&only["id"], &only["me"], &only["partitions"]), (&json!(1), &json!(true), &json!([0, 1, 2])));
    assert_eq!((&only["listen"], &only["pid"]), (&json!("http://127.0.0.1:8080"), &json!(std::process::id())));
    let partitions = value(&call(&app, here(TestRequest::get().uri("/admin/partitions"))).await.2);
    assert_described::<PartitionsView>(&partitions);
    let items = partitions["items"].as_array().unwrap();
    items.iter().for_each(assert_described::<PartitionView>);
    let sum = |name: &str| items.iter().map(|item| item[name].as_i64().unwrap()).sum::<i64>();
    assert_eq!((items.len(), sum("node"), sum("epoch")), (3, 3, 3));
    assert_eq!((sum("accepted"), sum("completed"), sum("in_flight")), (1, 1, 0));
}

#[actix_web::test]
async fn a_dead_letter_is_listed_shown_redriven_and_discarded() {
    let dir = tempfile::tempdir().unwrap();
    let app =
        on(node_of(Embedded::open(dir.path(), Options { partitions: 1, ..Options::default() }).unwrap()).await, |_| {})
            .await;
    for n in 0..3 {
        let post = json_post(&format!("/counters/c{n}"), &json!({ "by": FLAKY }).to_string());
        let (status, _, body) = call(&app, post.insert_header(("prefer", "wait=5"))).await;
        assert_eq!((status.as_u16(), &value(&body)["status"]), (202, &json!("dead-lettered")));
    }
    let (_, _, body) = call(&app, here(TestRequest::get().uri("/admin/dead-letters?kind=counter&limit=2"))).await;
    let page = value(&body);
    assert_described::<DeadLetterPage>(&page);
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    assert_eq!(page["items"][0]["to"], "counter/c0");
    assert_eq!(page["items"][0]["failures"][0]["causes"], json!(["the line is dead"]));
    let next = format!("/admin/dead-letters?limit=2&cursor={}", page["cursor"].as_str().unwrap());
    let rest = value(&call(&app, here(TestRequest::get().uri(&next))).await.2);
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    assert!(rest.get("cursor").is_none());
    let wrong = here(TestRequest::get().uri("/admin/dead-letters?cursor=x"));
    assert_eq!(problem(&app, wrong).await.2["errors"][0]["parameter"], "cursor");

    let one = format!("/admin/dead-letters/{}", page["items"][0]["id"].as_str().unwrap());
    assert_eq!(value(&call(&app, here(TestRequest::get().uri(&one))).await.2), page["items"][0]);
    assert_eq!(call(&app, here(TestRequest::delete().uri(&one))).await.0, 200);
    assert_eq!(problem(&app, here(TestRequest::get().uri(&one))).await.0, 404);
    let request = format!("/requests/{}", page["items"][0]["id"].as_str().unwrap());
    assert_eq!(value(&call(&app, TestRequest::get().uri(&request)).await.2)["status"], "cancelled");

    let many = here(json_post("/admin/dead-letters/discard", r#"{"kind":"counter"}"#));
    assert_eq!(value(&call(&app, many).await.2), json!({ "count": 2, "more": false }));
    let (_, _, body) = call(&app, here(TestRequest::get().uri("/admin/ledger"))).await;
    assert_described::<LedgerView>(&value(&body));
    assert_eq!((&value(&body)["accepted"], &value(&body)["cancelled"]), (&json!(3), &json!(3)));
    let (status, _, body) = call(&app, here(TestRequest::post().uri("/admin/audit"))).await;
    assert_eq!(status, 200, "{}", value(&body));
    assert_described::<AuditView>(&value(&body));
    assert_eq!(value(&body)["balanced"], true);
}

#[actix_web::test]
async fn a_command_sent_by_hand_is_checked_first() {
    let app = app(|_| {}).await;
    let send = |body: Value| here(json_post("/admin/send", &body.to_string()));
    for (body, pointer) in [
        (json!({ "to": "counter", "command": 1 }), "/to"),
        (json!({ "to": "nobody/1", "command": 1 }), "/to"),
        (json!({ "to": "counter/1", "command": "one" }), "/command"),
        (json!({ "to": "counter/1" }), "/command"),
    ] {
        let (status, _, told) = problem(&app, send(body.clone())).await;
        assert_eq!((status, &told["errors"][0]["pointer"]), (422, &json!(pointer)), "{body} {told}");
    }
    let sent = send(json!({ "to": "counter/1", "command": 3 })).insert_header(("prefer", "wait=5"));
    let (status, _, body) = call(&app, sent).await;
    assert_eq!((status.as_u16(), &value(&body)["result"]), (200, &json!(3)));
    let later = send(json!({ "to": "counter/1", "command": 3, "after_ms": 60_000 }));
    let (status, _, body) = call(&app, later).await;
    let request = format!("/requests/{}", value(&body)["request"].as_str().unwrap());
    assert_eq!(status, 202);
    // It waits for its time, so it can still be cancelled, once.
    assert_eq!(value(&call(&app, TestRequest::delete().uri(&request)).await.2)["status"], "cancelled");
    let (status, _, told) = problem(&app, TestRequest::delete().uri(&request)).await;
    assert_eq!((status, &told["state"]), (409, &json!("cancelled")));
}

#[actix_web::test]
async fn what_is_paused_is_listed_waits_and_can_be_cancelled() {
    let app = app(|_| {}).await;
    let post = |path: &str, body: Value| here(json_post(path, &body.to_string()));
    for (path, body, pointer) in [
        ("/admin/pause", json!({ "kind": "nobody" }), "/kind"),
        ("/admin/cancel", json!({ "kind": "nobody" }), "/kind"),
        ("/admin/pause", json!({ "kind": "counter", "key": null }), "/key"),
        ("/admin/resume", json!({ "kind": "counter", "key": "a\nb" }), "/key"),
        ("/admin/cancel", json!({ "kind": "counter", "all": true }), "/all"),
        ("/admin/pause", json!({}), "/kind"),
    ] {
        let (status, _, told) = problem(&app, post(path, body.clone())).await;
        assert_eq!((status, &told["errors"][0]["pointer"]), (422, &json!(pointer)), "{path} {body} {told}");
    }
    let whole = json!({ "kind": "counter" });
    let one = json!({ "kind": "counter", "key": "a/b" });
    for (path, body, expected) in [
        ("/admin/pause", &one, true),
        ("/admin/pause", &one, false),
        ("/admin/pause", &whole, true),
        ("/admin/resume", &one, true),
        ("/admin/resume", &one, false),
    ] {
        let changed = value(&call(&app, post(path, body.clone())).await.2);
        assert_described::<ChangedView>(&changed);
        assert_eq!(changed, json!({ "changed": expected }), "{path} {body}");
    }
    let paused = value(&call(&app, here(TestRequest::get().uri("/admin/paused"))).await.2);
    assert_described::<PausedView>(&paused);
    assert_described::<PauseView>(&paused["items"][0]);
    assert_eq!((&paused["items"][0]["kind"], paused["items"].as_array().unwrap().len()), (&json!("counter"), 1));
    let (status, _, body) = call(&app, json_post("/counters/a", r#"{"by":1}"#)).await;
    assert_eq!(status, 202);
    let request = format!("/requests/{}", value(&body)["request"].as_str().unwrap());
    let swept = value(&call(&app, post("/admin/cancel", whole.clone())).await.2);
    assert_described::<SweptView>(&swept);
    assert_eq!(swept, json!({ "cancelled": 1, "asked": 0, "more": false }));
    assert_eq!(value(&call(&app, TestRequest::get().uri(&request)).await.2)["status"], "cancelled");
    call(&app, post("/admin/resume", whole)).await;
    let sent = json_post("/counters/a", r#"{"by":2}"#).insert_header(("prefer", "wait=5"));
    assert_eq!(value(&call(&app, sent).await.2)["result"], json!(2));
}
