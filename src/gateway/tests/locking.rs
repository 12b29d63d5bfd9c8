//! Locks over HTTP, and what is posted under one.

use actix_web::{http::header, test::TestRequest};
use serde_json::json;

use super::{app, assert_described, call, here, json_post, problem, value};
use crate::{
    backend::Fence,
    gateway::{
        fencing,
        schemas::{HeldView, LockView, LocksView},
    },
};

fn take(name: &str, body: &str) -> TestRequest {
    here(json_post(&format!("/admin/locks/{name}"), body))
}

fn renew(name: &str, id: &str) -> TestRequest {
    let put = TestRequest::put().uri(&format!("/admin/locks/{name}"));
    here(put.insert_header((header::CONTENT_TYPE, "application/json")).set_payload(json!({ "id": id }).to_string()))
}

fn release(name: &str, query: &str) -> TestRequest {
    here(TestRequest::delete().uri(&format!("/admin/locks/{name}{query}")))
}

#[actix_web::test]
async fn a_lock_is_taken_waited_for_renewed_and_let_go() {
    let app = app(|_| {}).await;
    let (status, _, body) = call(&app, take("a%20b", r#"{"id":"one","lease_ms":60000}"#)).await;
    let first = value(&body);
    assert_described::<LockView>(&first);
    assert_eq!((status.as_u16(), &first["lock"], &first["id"]), (200, &json!("a b"), &json!("one")));
    assert_eq!(first["fencing_token"], format!("{};lock=\"a b\"", first["token"]));
    // A repeat is a renewal.
    assert_eq!(value(&call(&app, take("a%20b", r#"{"id":"one","lease_ms":60000}"#)).await.2)["token"], first["token"]);
    let (status, headers, body) = problem(&app, take("a%20b", r#"{"queue":false}"#)).await;
    assert_eq!((status, &body["type"]), (409, &json!("/problems/lock-held")));
    assert!(headers.contains_key(header::RETRY_AFTER));
    let (status, _, body) = call(&app, take("a%20b", r#"{"id":"two"}"#)).await;
    let second = value(&body);
    assert_described::<LockView>(&second);
    assert_eq!((status.as_u16(), &second["before"]), (202, &json!(0)));
    let listed = value(&call(&app, here(TestRequest::get().uri("/admin/locks"))).await.2);
    assert_described::<LocksView>(&listed);
    assert_described::<HeldView>(&listed["items"][0]);
    assert_eq!((&listed["items"][0]["id"], &listed["items"][0]["waiting"]), (&json!("one"), &json!(1)));
    assert_eq!(call(&app, renew("a%20b", "two")).await.0, 202);
    assert_eq!(call(&app, renew("a%20b", "one")).await.0, 200);
    // Who comes back waits for its turn.
    let waiting = take("a%20b", r#"{"id":"two"}"#).insert_header(("prefer", "wait=5"));
    let ((status, headers, body), released) =
        futures_util::join!(call(&app, waiting), call(&app, release("a%20b", "?id=one")));
    assert_eq!((status.as_u16(), headers.get("preference-applied").unwrap()), (200, &"wait=5".parse().unwrap()));
    assert_eq!(released.0, 204);
    assert!(value(&body)["token"].as_u64() > first["token"].as_u64());
    for lost in [renew("a%20b", "one"), release("a%20b", "?id=one")] {
        assert_eq!(problem(&app, lost).await.2["type"], "/problems/lock-lost");
    }
    assert_eq!(call(&app, release("a%20b", "?force=true")).await.0, 204);
    assert_eq!(problem(&app, release("a%20b", "?force=true")).await.2["detail"], "Nobody has it.");
    assert_eq!(call(&app, here(TestRequest::get().uri("/admin/locks"))).await.2, br#"{"items":[]}"#);
}

#[actix_web::test]
async fn what_cannot_be_a_lock_is_told_and_whoever_lets_go_says_of_what() {
    let app = app(|_| {}).await;
    for unclear in ["", "?force=false", "?id=a&force=true", "?who=a"] {
        assert_eq!(problem(&app, release("a", unclear)).await.0, 400, "{unclear}");
    }
    let (status, _, body) = problem(&app, take("a", r#"{"lease_ms":1}"#)).await;
    assert_eq!((status, &body["errors"][0]["pointer"]), (422, &json!("/lease_ms")));
    let (status, _, body) = problem(&app, take("a%0Ab", "{}")).await;
    assert_eq!((status, &body["errors"][0]["parameter"]), (400, &json!("name")));
    assert_eq!(problem(&app, release("a%0Ab", "?force=true")).await.0, 400);
    let elsewhere = json_post("/admin/locks/a", "{}").insert_header((header::HOST, "rebound.example"));
    assert_eq!(problem(&app, elsewhere).await.0, 403);
}

#[actix_web::test]
async fn what_is_posted_under_a_lost_lock_is_refused() {
    let app = app(|_| {}).await;
    let post = |token| {
        let fence = Fence { lock: "import".into(), token };
        json_post("/counters/a", r#"{"by":1}"#).insert_header(fencing::header(&fence))
    };
    for token in [5, 6] {
        assert_eq!(call(&app, post(token)).await.0, 202, "{token}");
    }
    let (status, _, body) = problem(&app, post(5)).await;
    assert_eq!((status, &body["type"], &body["newest_token"]), (412, &json!("/problems/fenced"), &json!(6)));
    // Who names no lock is under none.
    assert_eq!(call(&app, json_post("/counters/a", r#"{"by":1}"#)).await.0, 202);
    let garbled = json_post("/counters/a", r#"{"by":1}"#).insert_header(("fencing-token", "six"));
    let (status, _, body) = problem(&app, garbled).await;
    assert_eq!((status, &body["errors"][0]["header"]), (400, &json!("Fencing-Token")));
}
