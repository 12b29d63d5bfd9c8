//! Schedules over HTTP: listed, shown, steered, deleted.

use actix_web::test::TestRequest;
use serde_json::json;

use super::{Counter, SLOW, assert_described, call, here, node, on, problem, value};
use crate::{
    Actor, Schedule,
    gateway::schemas::{PastView, SchedulePage, ScheduleView},
};

fn get(uri: &str) -> TestRequest {
    here(TestRequest::get().uri(uri))
}

fn post(uri: &str) -> TestRequest {
    here(TestRequest::post().uri(uri))
}

#[actix_web::test]
async fn schedules_are_listed_shown_steered_and_deleted() {
    let node = node(64 << 20).await;
    let app = on(node.clone(), |_| {}).await;
    for name in ["remind/a", "remind/b", "weekly"] {
        let schedule = Schedule::cron("0 9 * * MON").zone("Europe/Berlin").history(3);
        node.schedule(name, schedule, Counter::at("a"), 1).await.unwrap();
    }
    let page = value(&call(&app, get("/admin/schedules?limit=1&prefix=remind/")).await.2);
    assert_described::<SchedulePage>(&page);
    let item = &page["items"][0];
    assert_described::<ScheduleView>(item);
    assert_eq!(
        (&item["name"], &item["status"], &item["origin"]),
        (&json!("remind/a"), &json!("active"), &json!("actor"))
    );
    assert_eq!(item["when"], json!({ "cron": { "expression": "0 9 * * MON", "zone": "Europe/Berlin" } }));
    assert_eq!((&item["to"], &item["command"], item.get("history")), (&json!("counter/a"), &json!(1), None));
    let next = format!("/admin/schedules?prefix=remind/&cursor={}", page["cursor"].as_str().unwrap());
    let rest = value(&call(&app, get(&next)).await.2);
    assert_eq!((&rest["items"][0]["name"], rest.get("cursor")), (&json!("remind/b"), None));
    let wrong = problem(&app, get("/admin/schedules?cursor=x")).await;
    assert_eq!((wrong.0, &wrong.2["errors"][0]["parameter"]), (400, &json!("cursor")));

    let one = "/admin/schedules/remind%2Fa";
    let paused = value(&call(&app, post(&format!("{one}/pause"))).await.2);
    assert_described::<ScheduleView>(&paused);
    assert_eq!((&paused["status"], &paused["next"], paused.get("next_at")), (&json!("paused"), &json!([]), None));
    assert_eq!(call(&app, post(&format!("{one}/resume"))).await.0, 200);
    assert_eq!(call(&app, post(&format!("{one}/run"))).await.0, 200);
    let shown = loop {
        let shown = value(&call(&app, get(one)).await.2);
        if shown["history"][0]["outcome"] == "completed" {
            break shown;
        }
    };
    assert_described::<ScheduleView>(&shown);
    assert_described::<PastView>(&shown["history"][0]);
    assert_eq!((&shown["taken"], &shown["history"][0]["wanted"]), (&json!(1), &json!(true)));
    assert_eq!((shown["next"].as_array().unwrap().len(), &shown["overlap"]), (5, &json!("skip")));
    assert_eq!(value(&call(&app, here(TestRequest::delete().uri(one))).await.2), json!({ "deleted": "remind/a" }));
    for gone in [
        get(one),
        here(TestRequest::delete().uri(one)),
        post(&format!("{one}/run")),
        post("/admin/schedules/weekly/stop"),
    ] {
        assert_eq!(problem(&app, gone).await.0, 404);
    }
    assert_eq!(problem(&app, get("/admin/schedules/a%0Ab")).await.0, 422, "that is no name");
}

#[actix_web::test]
async fn what_must_not_overlap_is_not_run_again_while_it_runs() {
    let node = node(64 << 20).await;
    let app = on(node.clone(), |_| {}).await;
    node.schedule("slow", "0 9 * * MON", Counter::at("a"), SLOW).await.unwrap();
    assert_eq!(call(&app, post("/admin/schedules/slow/run")).await.0, 200);
    let (status, _, body) = problem(&app, post("/admin/schedules/slow/run")).await;
    assert!(status == 409 && body["detail"].as_str().unwrap().contains("has not ended"), "{body}");
}
