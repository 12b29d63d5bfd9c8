//! Sessions of a real process: over a kill, in several nodes' hands, and in those of an operator.

use std::path::Path;

use serde_json::Value;

use crate::support::{Client, build, server::Setup};

/// The product of tests/deploy, which knows who somebody is.
fn sticky(dir: &Path) -> Setup {
    Setup::on(dir).program(&build::example("sticky"))
}

/// Logs in; the cookie.
fn log_in(client: &Client, user: &str) -> String {
    let path = format!("/login/{user}");
    let answer = client.send("POST", &path, &[("user-agent", "Browser 1.0")], Some(b"")).unwrap().expect(204);
    answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

fn user(client: &Client, cookie: &str) -> Value {
    client.send("GET", "/who", &[("cookie", cookie)], None).unwrap().expect(200).json()["user"].clone()
}

fn listed(setup: &Setup, args: &[&str]) -> Vec<Value> {
    let output = setup.cli(&[&["sessions", "ann", "--json"], args].concat());
    assert!(output.status.success(), "{output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["items"].as_array().cloned().unwrap_or_default()
}

#[test]
fn what_a_client_was_told_outlives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let server = sticky(dir.path()).start();
    let client = server.client();
    let [phone, laptop, bob] = ["ann", "ann", "bob"].map(|user| log_in(&client, user));
    let add = [("cookie", phone.as_str()), ("sec-fetch-site", "same-origin")];
    client.send("POST", "/count", &add, Some(b"")).unwrap().expect(200);
    server.kill();

    // Nobody serves it: an operator looks, and ends one.
    let setup = sticky(dir.path());
    let sessions = listed(&setup, &[]);
    assert_eq!((sessions.len(), &sessions[0]["agent"]), (2, &"Browser 1.0".into()), "{sessions:?}");
    let id = sessions[1]["id"].as_str().unwrap();
    assert!(setup.cli(&["sessions", "ann", "--revoke", "--id", id]).status.success());
    assert_eq!(setup.cli(&["sessions", "ann", "--revoke", "--id", id]).status.code(), Some(1), "it is gone");

    let server = sticky(dir.path()).start();
    let client = server.client();
    let who = client.send("GET", "/who", &[("cookie", &phone)], None).unwrap().expect(200).json();
    assert_eq!((&who["user"], &who["n"]), (&"ann".into(), &1.into()));
    assert_eq!((user(&client, &laptop), user(&client, &bob)), (Value::Null, "bob".into()));

    // By the server, at once; and for good.
    let at = ["--server", server.base()];
    assert_eq!(listed(&setup, &at).len(), 1);
    assert!(setup.cli(&["sessions", "ann", "--revoke", "--server", server.base()]).status.success());
    assert_eq!((user(&client, &phone), user(&client, &bob)), (Value::Null, "bob".into()));
    server.kill();
    let server = sticky(dir.path()).start();
    assert_eq!((user(&server.client(), &phone), user(&server.client(), &bob)), (Value::Null, "bob".into()));
}

#[test]
fn cookies_of_an_old_secret_are_good_until_it_is_taken_away() {
    const OLD: &str = "an-old-secret-of-thirty-two-characters";
    const NEW: &str = "a-new-secret-of-thirty-two-characters!";
    let dir = tempfile::tempdir().unwrap();
    let with = |secret: &str| sticky(dir.path()).set("session", "secret", secret).start();
    let server = with(OLD);
    let old = log_in(&server.client(), "ann");
    assert!(server.terminate().success());
    let server = with(&format!("{NEW} {OLD}"));
    let new = log_in(&server.client(), "ann");
    assert_eq!([&old, &new].map(|cookie| user(&server.client(), cookie)), ["ann", "ann"]);
    assert!(server.terminate().success());
    let server = with(NEW);
    assert_eq!([&old, &new].map(|cookie| user(&server.client(), cookie)), [Value::Null, "ann".into()]);
}
