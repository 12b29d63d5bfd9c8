//! Many commands in one request.

use super::*;
use crate::gateway::schemas::{BatchView, FailedView};

fn many(name: &str, commands: &[Value]) -> Value {
    let member = |(n, command): (usize, &Value)| json!({ "to": format!("counter/{n}"), "command": command });
    json!({ "name": name, "members": commands.iter().enumerate().map(member).collect::<Vec<_>>() })
}

#[actix_web::test]
async fn a_batch_is_accepted_as_a_whole_looked_at_and_the_same_when_it_is_repeated() {
    let app = app(|_| {}).await;
    let send =
        |body: &Value| here(json_post("/admin/batches", &body.to_string())).insert_header(("idempotency-key", "k"));
    // All members, or none.
    let wrong = json!({ "members": [
        { "to": "counter/a", "command": 1 },
        { "to": "counter/b", "command": "one" },
        { "to": "nobody/c", "command": 1 },
        { "to": "greenroom_lock/d", "command": "Release" },
    ] });
    let (status, _, told) = problem(&app, send(&wrong)).await;
    let pointers: Vec<&Value> = told["errors"].as_array().unwrap().iter().map(|error| &error["pointer"]).collect();
    assert_eq!(status, 422);
    assert_eq!(pointers, ["/members/1/command", "/members/2/to", "/members/3/to"], "{told}");
    assert_eq!(problem(&app, send(&json!({ "members": [] }))).await.2["errors"][0]["pointer"], "/members");
    let (status, headers, body) = call(&app, send(&many("three", &[json!(1), json!(2), json!(3)]))).await;
    let sent = value(&body);
    assert_eq!((status.as_u16(), &sent["status"]), (202, &json!("accepted")), "{sent}");
    let href = headers.get(header::LOCATION).unwrap().to_str().unwrap().to_owned();
    assert_eq!(href, sent["links"]["self"]);
    let waits = || TestRequest::get().uri(&href).insert_header(("prefer", "wait=5"));
    let done = value(&call(&app, waits()).await.2);
    assert_described::<BatchView>(&done);
    assert_eq!((&done["status"], &done["name"], &done["completed"]), (&json!("done"), &json!("three"), &json!(3)));
    // Whoever did not hear the answer sends it again.
    let again = value(&call(&app, send(&many("three", &[json!(1), json!(2), json!(3)]))).await.2);
    assert_eq!(again, sent);
    assert_eq!(value(&call(&app, waits()).await.2)["total"], 3);
    assert_eq!(problem(&app, send(&many("four", &[json!(4)]))).await.2["type"], "/problems/idempotency-key-reused");
    for unknown in ["/batches/7", "/batches/0192f3b0-0000-7000-8000-000000000000"] {
        assert_eq!(problem(&app, TestRequest::get().uri(unknown)).await.0, 404);
        assert_eq!(problem(&app, TestRequest::delete().uri(unknown)).await.0, 404);
    }
}

#[actix_web::test]
async fn a_batch_is_called_off_and_says_of_whom() {
    let app = app(|_| {}).await;
    call(&app, here(json_post("/admin/pause", r#"{"kind":"counter"}"#))).await;
    let sent = call(&app, here(json_post("/admin/batches", &many("", &[json!(1), json!(2)]).to_string()))).await;
    let href = value(&sent.2)["links"]["self"].as_str().unwrap().to_owned();
    let stands = value(&call(&app, TestRequest::get().uri(&href)).await.2);
    assert_eq!((&stands["status"], &stands["waiting"]), (&json!("running"), &json!(2)));
    let (status, _, body) = call(&app, TestRequest::delete().uri(&href)).await;
    assert_eq!((status.as_u16(), &value(&body)["status"]), (202, &json!("cancelling")));
    call(&app, here(json_post("/admin/resume", r#"{"kind":"counter"}"#))).await;
    let done = value(&call(&app, TestRequest::get().uri(&href).insert_header(("prefer", "wait=5"))).await.2);
    assert_eq!((&done["status"], &done["waiting"]), (&json!("done"), &json!(0)), "{done}");
    let ended = done["cancelled"].as_i64().unwrap() + done["completed"].as_i64().unwrap();
    assert_eq!(ended, 2, "{done}");
    done["failures"].as_array().unwrap().iter().for_each(assert_described::<FailedView>);
}
