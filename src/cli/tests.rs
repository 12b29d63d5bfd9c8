//! The shape of the command line: clap's own checks, what is refused, and what help teaches.

use super::*;

fn parse(args: &str) -> std::result::Result<Cli, clap::Error> {
    let args = std::iter::once("greenroom").chain(args.split_whitespace());
    command("greenroom", "1.0.0").try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches))
}

fn help(args: &str) -> String {
    parse(&format!("{args} --help")).unwrap_err().to_string()
}

#[test]
fn the_command_line_is_consistent() {
    command("greenroom", "1.0.0").debug_assert();
}

#[test]
fn the_documented_forms_are_read() {
    let id = "018f2c9e-0000-8000-8000-000000000000";
    for args in [
        "serve --data d --listen 127.0.0.1:0 --config f.toml",
        "send order/42 {} --after 5s --wait 10s",
        "send order/a/b - --server http://127.0.0.1:1 --json",
        &format!("request show {id}"),
        &format!("request watch {id} --data d"),
        &format!("request cancel {id}"),
        "dead list --kind order --key 42 --limit 10",
        &format!("dead show {id}"),
        &format!("dead redrive {id} {id}"),
        "dead redrive --all",
        "dead discard --kind order --yes",
        "audit --data d --json",
        "config check --json",
        "config defaults",
        "doctor --data d",
        "completions bash",
    ] {
        parse(args).map_err(|e| format!("{args}: {e}")).unwrap();
    }
}

#[test]
fn mistakes_are_refused_with_what_was_expected() {
    for (args, says) in [
        ("serv", "serve"),
        ("send order {}", "expected kind/key"),
        ("send order/1 {} --after 5", "did you mean \"5s\"?"),
        ("request show 7", "expected a UUID"),
        ("dead redrive --all --kind order", "cannot be used with"),
        ("dead list --limit 0", "1..=1000"),
    ] {
        let error = parse(args).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{args}");
        assert!(error.to_string().contains(says), "{args}: {error}");
    }
}

#[test]
fn help_teaches_by_example_under_the_products_own_name() {
    for sub in ["", "serve", "send", "request", "dead", "audit", "config check", "doctor", "completions"] {
        let help = help(sub);
        assert!(help.contains("  greenroom "), "no example in the help of {sub:?}:\n{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 110), "too wide:\n{help}");
    }
    let renamed = command("shop", "1").render_long_help().to_string();
    assert!(renamed.contains("shop doctor") && !renamed.contains("greenroom doctor"), "{renamed}");
}
