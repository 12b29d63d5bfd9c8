//! Limits of HTTP requests against the real binary: shared by nodes where there are several, and shown to
//! operators.

use serde_json::{Value, json};

use crate::support::{Client, server::Setup};

const CONFIG: &str = r#"
[limits]
user_header = "x-user"
trusted_proxies = ["127.0.0.1"]

[[limits.http]]
name = "orders"
who = "user"
paths = ["/orders"]
rate = "6/h"
"#;

fn left(client: &Client, user: &str) -> (u16, String) {
    let answer = client.send("GET", "/orders?customer=ann", &[("x-user", user)], None).unwrap();
    (answer.status, answer.header("ratelimit-remaining").unwrap().to_owned())
}

#[test]
fn nodes_share_a_bucket_and_an_operator_sees_who_empties_it() {
    let (dir, config) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(config.path(), CONFIG).unwrap();
    let setup = Setup::on(dir.path()).variable("GREENROOM_CONFIG", config.path().to_str().unwrap());
    let shared = greenroom::testing::Which::from_env().unwrap() != greenroom::testing::Which::Embedded;
    let servers: Vec<_> = (0..if shared { 2 } else { 1 }).map(|_| setup.start()).collect();
    let clients: Vec<Client> = servers.iter().map(|server| server.client()).collect();
    for n in 0..6 {
        let (status, remaining) = left(&clients[n % clients.len()], "ann");
        assert_eq!((status, remaining), (200, (5 - n).to_string()));
    }
    for client in &clients {
        assert_eq!(left(client, "ann"), (429, "0".to_owned()), "no other node has more of it");
    }
    assert_eq!(left(&clients[0], "bob"), (200, "5".to_owned()));
    let refused = clients[0].send("GET", "/orders", &[("x-user", "ann")], None).unwrap().expect(429);
    assert_eq!(refused.json()["violated-policies"], json!(["orders"]));
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() > 500);

    let limits = clients[0].get("/admin/limits").expect(200).json();
    assert_eq!((&limits["items"][0]["name"], &limits["store_answers"]), (&json!("http:orders"), &json!(true)));
    assert_eq!(limits["items"][0]["low"][0]["who"], "user ann");
    let metrics = clients[0].get("/metrics").expect(200).text;
    assert!(metrics.contains("greenroom_limit_asked_total{limit=\"http:orders\",outcome=\"refused\"} 2"), "{metrics}");
    let output = setup.run(&["limits", "--json", "--server", clients[0].base()]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["items"][0]["refused"], 2);
    let text = String::from_utf8(setup.run(&["limits", "--server", clients[0].base()]).stdout).unwrap();
    assert!(text.contains("http:orders") && text.contains("user ann"), "{text}");
}
