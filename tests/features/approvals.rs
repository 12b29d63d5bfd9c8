//! Commands that wait, as clients and operators see them: signals, cancelling, their stories, and trying
//! another build on them.

use std::{path::Path, process::Output};

use serde_json::{Value, json};

use crate::support::{Client, build, eventually, server::Setup};

/// The product, on what waits being written at once.
fn approvals(dir: &Path) -> Setup {
    Setup::on(dir).program(&build::example("approvals")).set("runtime", "linger", "1ms")
}

/// Places an order, and waits until it waits for its approval.
fn order(client: &Client, key: &str) -> String {
    let sent = json!({ "to": format!("order/{key}"), "command": { "amount": 900 } });
    let id = client.post("/admin/send", &sent).expect(202).json()["request"].as_str().unwrap().to_owned();
    eventually("the order to wait for its approval", || {
        let story = client.get(&format!("/requests/{id}/journal")).expect(200).json();
        (story["waits_for"][0]["kind"] == "signal").then_some(())
    });
    id
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn an_approval_from_outside_completes_an_order_over_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let server = approvals(dir.path()).start();
    let client = server.client();
    let id = order(&client, "a");
    server.kill();
    let server = approvals(dir.path()).start();
    let client = server.client();
    let key = [("idempotency-key", "hook-1")];
    let taken = client.post_with(&format!("/signals/{id}.approval"), &json!({ "by": "ann" }), &key).expect(202);
    assert_eq!(taken.header("location"), Some(format!("/requests/{id}").as_str()));
    let ended = client.ended(&id);
    assert_eq!((&ended["status"], &ended["result"]), (&json!("completed"), &json!({ "by": "ann" })));
    let late = client.post(&format!("/signals/{id}.approval"), &json!(1)).expect(409).json();
    assert_eq!(late["state"], "completed");
    client.post("/signals/nothing", &json!(1)).expect(404);
    assert_eq!(approvals(dir.path()).audit().1["balanced"], true);
}

/// So many clients at once, each with its number.
fn together<T: Send>(clients: Vec<Client>, work: impl Fn(usize, Client) -> T + Sync) -> Vec<T> {
    let work = &work;
    std::thread::scope(|scope| {
        let numbered = clients.into_iter().enumerate();
        let threads: Vec<_> = numbered.map(|(part, client)| scope.spawn(move || work(part, client))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn two_thousand_orders_that_wait_survive_a_kill() {
    const CLIENTS: usize = 16;
    const EACH: usize = 125;
    let dir = tempfile::tempdir().unwrap();
    let server = approvals(dir.path()).start();
    let ids = together((0..CLIENTS).map(|_| server.client()).collect(), |part, client| {
        (0..EACH).map(|n| order(&client, &format!("{part}-{n}"))).collect::<Vec<_>>()
    });
    server.kill();
    let server = approvals(dir.path()).start();
    together((0..CLIENTS).map(|_| server.client()).collect(), |part, client| {
        for id in &ids[part] {
            client.post(&format!("/signals/{id}.approval"), &json!(part)).expect(202);
        }
        for id in &ids[part] {
            let ended = client.ended(id);
            assert_eq!((&ended["status"], &ended["result"]), (&json!("completed"), &json!(part)));
        }
    });
    assert_eq!(approvals(dir.path()).audit().1["balanced"], true);
}

#[test]
fn a_waiting_order_is_cancelled_and_takes_back_what_it_did() {
    let dir = tempfile::tempdir().unwrap();
    let server = approvals(dir.path()).start();
    let client = server.client();
    let id = order(&client, "a");
    let asked = client.send("DELETE", &format!("/requests/{id}"), &[], None).unwrap().expect(202).json();
    assert_eq!(asked["request"], json!(id));
    assert_eq!(client.ended(&id)["status"], "cancelled");
    let story = client.get(&format!("/requests/{id}/journal")).expect(200).json();
    let last = story["entries"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["name"], &last["undoes"]), (&json!("card.release"), &json!(true)), "{story}");
}

#[test]
fn the_story_of_an_order_is_shown_without_its_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let setup = approvals(dir.path());
    let mut server = setup.start();
    let id = order(&server.client(), "a");
    let story = server.client().get(&format!("/requests/{id}/journal")).expect(200).text;
    assert!(story.contains("[redacted]") && !story.contains("4242"), "{story}");
    for running in [true, false] {
        if !running {
            server.signal(rustix::process::Signal::TERM);
            eventually("the server to stop", || server.ended().map(drop));
        }
        let shown = told(&setup.cli(&["request", "show", &id]));
        for part in
            ["processing", "order/a", "by build first", "card.hold", "risk/eu", "└ step    model.ask", "approval"]
        {
            assert!(shown.contains(part), "{part} is missing, running: {running}\n{shown}");
        }
        assert!(shown.trim_end().ends_with(&format!("POST /signals/{id}.approval")), "{shown}");
        assert!(!shown.contains("4242"), "{shown}");
        let json: Value = serde_json::from_str(&told(&setup.cli(&["request", "show", &id, "--json"]))).unwrap();
        assert_eq!(json["waits_for"][0]["signal"], json!(format!("{id}.approval")));
    }
}

#[test]
fn a_build_that_would_not_follow_what_waits_is_found_before_it_is_deployed() {
    let dir = tempfile::tempdir().unwrap();
    let setup = approvals(dir.path());
    let server = setup.start();
    let client = server.client();
    let ids = [order(&client, "a"), order(&client, "b")];
    let replayed = |build: &str| {
        let output = setup.clone().variable("APPROVALS_BUILD", build).cli(&["replay", "--patience", "50ms", "--json"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", told(&output)));
        assert_eq!(output.status.code(), Some(i32::from(report["wrong"] != 0)), "{report}");
        let items = report["items"].as_array().unwrap().clone();
        assert_eq!(items.len(), 2, "{report}");
        assert!(items.iter().all(|item| item["build"] == "first" && ids.iter().any(|id| item["request"] == **id)));
        items[0].clone()
    };
    for (build, status, said) in [
        ("first", "ok", "null"),
        ("versioned", "ok", "null"),
        (
            "renamed",
            "mismatch",
            "operation 0: the journal has run \\\"card.hold\\\", this build does run \\\"check\\\"",
        ),
        ("shorter", "mismatch", "operation 2: the journal has signal \\\"approval\\\", this build ends before it"),
        ("retyped", "unreadable", "is of another type"),
        ("plain", "mismatch", "the end of an operation that this build does not begin"),
        ("panics", "panics", "a mistake of this build"),
        ("without", "unknown-kind", "no actor of that kind"),
    ] {
        let item = replayed(build);
        assert_eq!(item["status"], status, "{build}: {item}");
        assert!(item["error"].to_string().contains(said), "{build}: {item}");
    }
    assert_eq!(replayed("first")["waits_for"], json!([{ "kind": "signal", "name": "approval" }]));
    // Nothing of it had an effect: both still wait, and go on.
    for id in &ids {
        client.post(&format!("/signals/{id}.approval"), &json!("yes")).expect(202);
        assert_eq!(client.ended(id)["result"], "yes");
    }
    let none = setup.cli(&["replay"]);
    assert!(none.status.success() && told(&none).contains("No command is in flight"), "{}", told(&none));
}
