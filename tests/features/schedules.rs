//! Schedules from the command line: of a server that runs, and of a store that nobody serves.

use std::{path::Path, process::Output};

use serde_json::Value;

use crate::support::{build, eventually, server::Setup};

fn bells(dir: &Path) -> Setup {
    Setup::on(dir).program(&build::example("bells"))
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", told(output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", told(output)))
}

#[test]
fn schedules_are_listed_shown_and_steered() {
    let dir = tempfile::tempdir().unwrap();
    let setup = bells(dir.path());
    let server = setup.start();
    let cli = |args: &[&str]| match std::env::var("GREENROOM_TEST_STORE").as_deref() {
        Err(_) | Ok("" | "embedded") => setup.cli(args),
        // A store on servers does not say who serves it.
        Ok(_) => setup.cli(&[args, &["--server", server.base()]].concat()),
    };
    let list = |args: &[&str]| json(&cli(&[&["schedules", "list", "--json"], args].concat()));
    eventually("all bells to be declared", || {
        (list(&["--limit", "1000"])["items"].as_array()?.len() == 200).then_some(())
    });
    let page = list(&["--prefix", "bell-00", "--limit", "4"]);
    let names: Vec<&str> =
        page["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["bell-000", "bell-001", "bell-002", "bell-003"]);
    let rest = list(&["--prefix", "bell-00", "--cursor", page["cursor"].as_str().unwrap()]);
    assert_eq!(rest["items"].as_array().unwrap().len(), 6);
    let table = told(&cli(&["schedules", "list", "--limit", "2"]));
    assert!(
        table.contains("*/2 * * * * * UTC") && table.contains("bell/bell-001") && table.contains("--cursor"),
        "{table}"
    );

    let paused = json(&cli(&["schedules", "pause", "bell-000", "--json"]));
    assert_eq!((&paused["status"], &paused["next"]), (&"paused".into(), &Value::Array(Vec::new())));
    let ran = json(&cli(&["schedules", "run", "bell-000", "--json"]));
    assert_eq!(ran["status"], "paused");
    // A slot that began just before the pause may be the newest one that is told of at first.
    eventually("the run that was wanted to be in the history", || {
        let shown = json(&cli(&["schedules", "show", "bell-000", "--json"]));
        shown["history"].as_array()?.iter().any(|slot| slot["wanted"] == true).then_some(())
    });
    let shown = told(&cli(&["schedules", "show", "bell-000"]));
    assert!(shown.contains("paused") && shown.contains(", wanted") && shown.contains("overlap queue"), "{shown}");
    let none = cli(&["schedules", "pause", "nobody"]);
    assert!(
        none.status.code() == Some(1) && told(&none).contains("There is no schedule \"nobody\""),
        "{}",
        told(&none)
    );
    let unsure = cli(&["schedules", "delete", "bell-001"]);
    assert!(unsure.status.code() == Some(2) && told(&unsure).contains("--yes"), "{}", told(&unsure));
    assert!(cli(&["schedules", "delete", "bell-001", "--yes"]).status.success());
    assert_eq!(list(&["--limit", "1000"])["items"].as_array().unwrap().len(), 199);

    // Nobody serves any more: what is stored is read, and whoever steers is a node for the moment.
    assert!(server.terminate().success());
    let offline = json(&setup.cli(&["schedules", "show", "bell-000", "--json"]));
    assert_eq!((&offline["status"], &offline["history"][0]["outcome"]), (&"paused".into(), &"completed".into()));
    assert!(setup.cli(&["schedules", "list", "--limit", "1"]).status.success());
    let resumed = json(&setup.cli(&["schedules", "resume", "bell-000", "--json"]));
    assert_eq!(resumed["status"], "active");
    let none = setup.cli(&["schedules", "show", "nobody"]);
    assert!(none.status.code() == Some(1) && told(&none).contains("there is no schedule"), "{}", told(&none));
}
