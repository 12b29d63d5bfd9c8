//! Everything the README says, run as it is written: each `sh` block in order in one shell, against
//! real servers, each `text` block held against what the block before it printed.

mod support;

use std::{
    io::Write,
    net::TcpListener,
    process::{Command, Stdio},
};

use support::build;

const README: &str = include_str!("../README.md");
const CLUSTER: &str = include_str!("../docs/CLUSTER.md");

/// Stands for `make run`: what its recipe runs, on a port of this test, without compiling again.
/// `curl` goes to that port. All else is run as it is written.
const PRELUDE: &str = r#"
set -u
server=
make() {
    [ "$*" = run ] || exit 3
    greenroom serve --listen "127.0.0.1:$PORT" 2>> server.log &
    server=$!
    for try in $(seq 400); do
        command curl -s -o /dev/null "127.0.0.1:$PORT/readyz" && return
        kill -0 $server || break
        read -rt 0.05 <> <(:) || :
    done
    cat server.log >&2
    exit 4
}
curl() { command curl "${@//localhost:8080/127.0.0.1:$PORT}"; }
trap '[ -z "$server" ] || kill -9 $server' EXIT
"#;

/// A fenced block: its language and text.
fn blocks(page: &'static str) -> Vec<(&'static str, &'static str)> {
    let fences: Vec<&str> = page.split("\n```").collect();
    let inside = fences.iter().skip(1).step_by(2);
    inside.map(|block| block.split_once('\n').expect("a block has a language and lines")).collect()
}

/// Whether `text` is `pattern` where `…` stands for anything; every line of the pattern, in order.
fn matches(pattern: &str, text: &str) -> bool {
    let mut rest = text;
    for line in pattern.lines() {
        let mut parts = line.split('…');
        let first = parts.next().unwrap_or_default();
        let Some(at) = rest.find(first) else { return false };
        rest = &rest[at + first.len()..];
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
    }
    true
}

/// Runs the page's `sh` blocks in one shell and holds each `text` block against what was printed
/// before it; how many were held.
fn run(page: &'static str, prelude: &str, change: impl Fn(&str) -> String) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("target/debug");
    std::fs::create_dir_all(&bin).unwrap();
    std::os::unix::fs::symlink(build::greenroom(), bin.join("greenroom")).unwrap();

    let blocks = blocks(page);
    let mut script = prelude.to_owned();
    for (number, (_, code)) in blocks.iter().enumerate().filter(|(_, (language, _))| *language == "sh") {
        script += &format!("\nprintf '\\n===== {number}\\n'\n{}\n", change(code));
    }
    let ports: Vec<String> = (0..3)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect::<Vec<_>>()
        .iter()
        .map(|listener| listener.local_addr().unwrap().port().to_string())
        .collect();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash")
        .current_dir(dir.path())
        .envs([("PATH", path.as_str()), ("GREENROOM_LOG__FORMAT", "json")])
        .envs(["PORT", "PORT_A", "PORT_B"].into_iter().zip(&ports))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = shell.wait_with_output().unwrap();
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n--- stderr\n{complained}");
    let of = |number: usize| said.split("\n===== ").find_map(|part| part.strip_prefix(&format!("{number}\n")));
    let mut checked = 0;
    for (number, (language, expected)) in blocks.iter().enumerate() {
        if *language == "text" {
            let printed = of(number - 1).unwrap_or_else(|| panic!("block {number} follows no command"));
            assert!(matches(expected, printed), "the page says\n{expected}\nbut it printed\n{printed}\n{complained}");
            checked += 1;
        }
    }
    checked
}

#[test]
fn every_command_does_what_is_said() {
    let checked = run(README, PRELUDE, str::to_owned);
    assert!(checked >= 8, "only {checked} outputs were checked");
}

/// Two nodes on the servers that tests share, killed when the shell ends.
#[test]
fn the_page_about_clusters_does_what_it_says() {
    let options = greenroom::testing::Which::Redis.cluster(&Default::default()).unwrap();
    let prelude = format!(
        "set -u\nexport GREENROOM_STORE__PREFIX={0} GREENROOM_STORE__DATABASE={0}\ntrap 'kill -9 $(jobs -p) 2>/dev/null' EXIT\n",
        options.prefix
    );
    let change = |code: &str| {
        let code = code.replace("redis://localhost:6379", &options.redis);
        code.replace("mongodb://localhost:27017", &format!("'{}'", options.mongo)).replace("& \n", "&\n")
    };
    assert_eq!(run(CLUSTER, &prelude, change), 3);
}

#[test]
fn the_commands_of_make_are_there() {
    for (target, runs) in [
        ("run", "--bin greenroom -- serve"),
        ("unit", "nextest run"),
        ("doc", "cargo test"),
        ("test", "unit stores doc"),
    ] {
        let output = Command::new("make").args(["-n", target]).current_dir(build::root()).output().unwrap();
        let recipe = String::from_utf8_lossy(&output.stdout);
        let either = target == "unit" && (recipe.contains("nextest run") || recipe.contains(" test --workspace"));
        assert!(output.status.success() && (recipe.contains(runs) || either), "make {target}: {recipe}");
    }
}

#[test]
fn the_actor_is_the_example() {
    let (_, shown) = blocks(README).into_iter().find(|(language, _)| *language == "rust").expect("an actor");
    let example = include_str!("../examples/hello.rs");
    let (_, code) = example.split_once("\n\n").expect("a header");
    assert_eq!(shown.trim(), code.trim());
}

#[test]
fn every_command_and_link_exists() {
    let commands = README.lines().filter_map(|line| line.strip_prefix("| `greenroom ")?.split('`').next());
    let mut seen = 0;
    for command in commands {
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let output = Command::new(build::greenroom()).args(&words).output().unwrap();
        assert!(output.status.success(), "greenroom {command}");
        seen += 1;
    }
    assert_eq!(seen, 21);
    for link in README.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        let file = build::root().join(link.split('#').next().unwrap_or(link));
        assert!(link.starts_with("https://") || file.exists(), "{link} does not exist");
    }
}
