//! Every route, fuzzed: schemathesis reads our own OpenAPI document and sends what it allows and
//! what it does not. Nothing may answer 5xx, nor anything the document does not promise.

mod support;

use std::{path::PathBuf, process::Command};

use support::{
    Server, build,
    server::{Setup, audit},
};

/// What every answer is checked for.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,response_headers_conformance";

/// Where `schemathesis` is: `SCHEMATHESIS` names it, else `.venv` (made by `make setup`), else the
/// path. Without it this test fails: what was not fuzzed must not look fuzzed.
fn schemathesis() -> PathBuf {
    let venv = build::root().join(".venv/bin/schemathesis");
    match std::env::var_os("SCHEMATHESIS") {
        Some(path) => path.into(),
        None if venv.exists() => venv,
        None => "schemathesis".into(),
    }
}

#[test]
fn no_route_breaks_whatever_it_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    // Whoever prefers to wait for what never ends shall not wait for long.
    let server = Setup::on(&data).set("gateway", "max_wait", "1s").start();
    // Something to find: an order that is paid, one that is not, and a dead letter.
    fill(&server);
    let output = Command::new(schemathesis())
        .args(["run", "--checks", CHECKS, "--max-examples", "40", "--seed", "20261122", "--no-color"])
        .args(["--request-timeout", "30", "--continue-on-failure"])
        // Live connections do not end by themselves; tests/features opens them.
        .args(["--exclude-path-regex", "/live$"])
        .arg(format!("{}/openapi.json", server.base()))
        .current_dir(dir.path())
        .output()
        .unwrap_or_else(|e| panic!("schemathesis cannot run ({e}): `make setup` installs it, SCHEMATHESIS names it"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("No issues found") || said.contains("passed"), "it tested something: {said}");
    server.client().get("/readyz").expect(200);
    let (code, books) = audit(&data);
    assert_eq!((code, &books["balanced"]), (Some(0), &true.into()), "{books}");
}

fn fill(server: &Server) {
    let client = server.client();
    let lines = serde_json::json!([{"sku": "tea", "quantity": 2, "unit_price": 450}]);
    let placement = serde_json::json!({"customer": "ann", "currency": "EUR", "lines": lines});
    for payment in [serde_json::json!({"amount": 900}), serde_json::json!({"amount": 900, "fail_times": 20})] {
        let placed = client.post("/orders", &placement).expect(202).json();
        let path = format!("/orders/{}/payments", placed["order"].as_str().unwrap());
        client.done(&path, &payment);
    }
}
