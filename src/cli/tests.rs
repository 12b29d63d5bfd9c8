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
        "schedules --json",
        "schedules --json --data d show reconcile",
        "schedules list --prefix remind/ --limit 20 --json",
        "schedules show reconcile --server http://127.0.0.1:1",
        "schedules pause reconcile",
        "schedules delete remind/ann --yes",
        "topics",
        "topics list --json",
        "topics show orders --server http://127.0.0.1:1",
        "topics events orders --after 7.0 --limit 5",
        "topics pause orders billing",
        "topics resume orders billing",
        "topics skip orders billing --yes",
        "topics replay orders billing --since 2026-01-31T12:00:00Z",
        "topics replay orders billing --all",
        "topics forget orders billing -y",
        "replay --data d --patience 500ms --json",
        "audit --data d --json",
        "locks --data d",
        "locks list --limit 5 --cursor 7b --data d",
        "locks break warehouse --server http://127.0.0.1:1",
        "nodes --server http://127.0.0.1:1",
        "pause mail --data d",
        "pause order/a/b --server http://127.0.0.1:1 --json",
        "resume mail",
        "paused --json",
        "cancel mail --yes",
        "cancel order/42",
        "partitions --busy --json --data d",
        "partitions resize 64 --dry-run",
        "partitions resize 64 --yes --json",
        "store check --json",
        "store upgrade --yes",
        "sessions ann",
        "sessions ann --revoke --data d --json",
        "sessions ann --revoke --id AAAAAAAAAAAAAAAA",
        "limits --server http://127.0.0.1:1 --json",
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
        ("pause Mail", "is not a name"),
        ("cancel order/", "cannot be used"),
        ("request show 7", "expected a UUID"),
        ("dead redrive --all --kind order", "cannot be used with"),
        ("dead list --limit 0", "1..=1000"),
        ("schedules reconcile", "unrecognized subcommand 'reconcile'"),
        ("schedules --limit 3", "unexpected argument '--limit'"),
        ("partitions resize 4097", "1..=4096"),
        ("partitions resize", "<PARTITIONS>"),
        ("sessions ann --id AAAAAAAAAAAAAAAA", "--revoke"),
        ("sessions ann --revoke --id 7", "16 characters"),
        ("topics replay orders billing", "--all"),
        ("topics replay orders billing --since yesterday", "yesterday"),
        ("topics pause orders", "<GROUP>"),
    ] {
        let error = parse(args).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{args}");
        assert!(error.to_string().contains(says), "{args}: {error}");
    }
}

#[test]
fn help_teaches_by_example_under_the_products_own_name() {
    for sub in [
        "",
        "serve",
        "send",
        "request",
        "dead",
        "topics",
        "schedules",
        "locks",
        "replay",
        "audit",
        "nodes",
        "pause",
        "resume",
        "paused",
        "cancel",
        "partitions",
        "store",
        "sessions",
        "limits",
        "config check",
        "doctor",
        "completions",
    ] {
        let help = help(sub);
        assert!(help.contains("  greenroom "), "no example in the help of {sub:?}:\n{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 110), "too wide:\n{help}");
    }
    let renamed = command("shop", "1").render_long_help().to_string();
    assert!(renamed.contains("shop doctor") && !renamed.contains("greenroom doctor"), "{renamed}");
}

mod offline {
    //! Commands on a store that nobody serves.

    use super::*;
    use crate::{Actor, Error, Retry};

    struct Till;

    impl Actor for Till {
        const KIND: &'static str = "till";
        type State = i64;
        type Command = i64;
        type Reply = i64;

        async fn handle(&self, total: &mut i64, add: i64, _: &crate::Context<Self>) -> Result<i64> {
            match add {
                0 => Err(Error::new("nothing to add")),
                ..0 => Err(Error::terminal("a till only takes")),
                _ => {
                    *total += add;
                    Ok(*total)
                }
            }
        }

        fn retry(&self) -> Retry {
            Retry::times(1)
        }
    }

    fn features(_: &Config) -> Result<Vec<Feature>> {
        Ok(vec![Feature::new(Till)])
    }

    fn exits(dir: &std::path::Path, args: &str) -> String {
        let data = dir.display().to_string();
        let args = std::iter::once("till").chain(args.split_whitespace()).chain(["--data", &data]);
        format!("{:?}", run(Product::new("till", "1", features), args.map(OsString::from)))
    }

    #[test]
    fn what_is_sent_is_handled_and_accounted_for() {
        let (fine, wrong) = (format!("{:?}", ExitCode::SUCCESS), format!("{:?}", ExitCode::from(WRONG)));
        let dir = tempfile::tempdir().unwrap();
        let exits = |args: &str| exits(dir.path(), args);
        // There is nothing to look at before there is a store.
        assert_eq!(exits("audit"), wrong);
        assert_eq!(exits("send till/a 5 --wait 10s"), fine);
        assert_eq!(exits("send till/a -1 --wait 10s"), wrong, "a terminal error fails the command");
        assert_eq!(exits("send till/a 0 --wait 10s"), wrong, "the only attempt failed");
        assert_eq!(exits("send till/a \"five\""), wrong, "not a command of the kind");
        assert_eq!(exits("send shop/a 5"), wrong, "no such kind");
        assert_eq!(exits("dead list --kind till"), fine);
        assert_eq!(exits("dead discard --all --yes"), fine);
        assert_eq!(exits("send till/b 0 --wait 10s"), wrong);
        assert_eq!(exits("dead redrive --kind till"), fine);
        assert_eq!(exits("request show 018f2c9e-0000-8000-8000-000000000000"), wrong);
        assert_eq!(exits("audit --json"), fine);
        assert_eq!(exits("nodes"), fine);
        assert_eq!(exits("partitions --busy"), fine);
        assert_eq!(exits("sessions ann"), fine);
        assert_eq!(exits("sessions ann --revoke"), fine);
        assert_eq!(exits("sessions ann --revoke --id AAAAAAAAAAAAAAAA"), wrong, "there is none of that name");
        let audit =
            wait(crate::backend::Books::audit(&crate::backend::embedded::Embedded::inspect(dir.path()).unwrap()))
                .unwrap();
        let ended = (audit.completed, audit.failed, audit.cancelled);
        assert_eq!((audit.accepted, ended, audit.in_flight, audit.balanced), (4, (1, 1, 1), 1, true), "{audit:?}");
    }

    #[test]
    fn nothing_named_is_no_wish_for_everything() {
        let usage = format!("{:?}", ExitCode::from(trouble::USAGE));
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(exits(dir.path(), "dead redrive"), usage);
        assert_eq!(exits(dir.path(), "dead discard --yes"), usage);
    }

    use crate::cli::target::wait;
}
