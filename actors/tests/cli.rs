//! The `greenroom` binary as a process: it serves, is found, refuses a second one, and stops in
//! order.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

fn greenroom(args: &[&str], data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_greenroom"));
    command.args(args).arg("--data").arg(data).env_remove("GREENROOM_SERVER").env_remove("GREENROOM_CONFIG");
    command
}

fn run(args: &[&str], data: &Path) -> Output {
    greenroom(args, data).output().unwrap()
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// A serving process, killed if a test forgets it.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(data: &Path) -> Self {
        let mut child = greenroom(&["serve", "--listen", "127.0.0.1:0"], data).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        // Not on a terminal, every line is JSON; the one that says where it listens means it serves.
        let url = loop {
            let line: Value = serde_json::from_str(&log.next().expect("it ended").unwrap()).unwrap();
            if let Some(url) = line["listen"].as_str() {
                break url.to_owned();
            }
        };
        std::thread::spawn(move || log.for_each(drop));
        Self { child, url }
    }

    fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(kill.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_is_found_by_its_data_directory_and_stops_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path());

    let second = run(&["serve", "--listen", "127.0.0.1:0"], dir.path());
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("in use by another process") && said.contains(&server.url), "{said}");

    assert_eq!(json(&run(&["dead", "list", "--json"], dir.path())), serde_json::json!({ "items": [] }));
    let audit = json(&run(&["audit", "--json"], dir.path()));
    assert_eq!((&audit["balanced"], &audit["accepted"]), (&Value::Bool(true), &Value::from(0)));

    server.signal("-TERM");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert_eq!(json(&run(&["audit", "--json"], dir.path()))["balanced"], Value::Bool(true));
    // A process that is gone is not found any more; the store answers itself.
    assert_eq!(run(&["dead", "list"], dir.path()).status.code(), Some(0));
}

#[test]
fn a_killed_server_does_not_stand_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path());
    server.signal("-KILL");
    server.child.wait().unwrap();
    assert_eq!(run(&["audit"], dir.path()).status.code(), Some(0));
    drop(Server::start(dir.path()));
}

#[test]
fn results_go_to_standard_output_and_errors_to_standard_error() {
    let dir = tempfile::tempdir().unwrap();
    let missing = run(&["audit", "--json"], &dir.path().join("nowhere"));
    assert_eq!((missing.status.code(), missing.stdout.len()), (Some(1), 0));
    let error: Value = serde_json::from_slice(&missing.stderr).unwrap();
    assert!(error["error"].as_str().unwrap().contains("nowhere"), "{error}");

    let checked = Command::new(env!("CARGO_BIN_EXE_greenroom"))
        .args(["config", "check"])
        .env("GREENROOM_GATEWAY__LISTN", "x")
        .output()
        .unwrap();
    assert_eq!(checked.status.code(), Some(1));
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(said.contains("GREENROOM_GATEWAY__LISTN") && said.contains("did you mean \"listen\"?"), "{said}");
}

#[test]
fn the_doctor_says_what_to_mend() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let output = run(&["doctor", "--json", "--listen", &listen], dir.path());
    assert_eq!(output.status.code(), Some(1));
    let report = json(&output);
    let port = report["findings"].as_array().unwrap().iter().find(|finding| finding["check"] == "port").unwrap();
    assert_eq!(port["level"], "failure");
    assert!(port["mend"].as_str().unwrap().contains("--listen"));
}
