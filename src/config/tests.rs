//! What is refused, and in which words; what wins over what.

use std::collections::BTreeSet;

use super::*;

fn with(toml: &str, vars: &[(&str, &str)]) -> Result<Config> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shop.toml");
    std::fs::write(&file, toml).unwrap();
    let environment = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let built = Config::from_sources(Sources { file: Some(file.clone()), environment, ..Sources::default() });
    // The path of the test's own file is noise in what is compared.
    built.map_err(|e| Error::terminal(e.to_string().replace(&file.display().to_string(), "shop.toml")))
}

fn refused(toml: &str, vars: &[(&str, &str)]) -> String {
    with(toml, vars).err().map(|e| e.to_string()).unwrap_or_else(|| panic!("accepted: {toml:?} {vars:?}"))
}

#[test]
fn the_defaults_are_what_the_code_says() {
    let config = with("", &[]).unwrap();
    let settings = crate::runtime::settings::Settings::default();
    assert_eq!(format!("{:?}", config.runtime.settings()), format!("{settings:?}"));
    assert_eq!(format!("{:?}", config.live.settings()), format!("{:?}", settings.live));
    assert_eq!(format!("{:?}", config.store.embedded()), format!("{:?}", crate::backend::embedded::Options::default()));
    let session = crate::coordination::session::Settings::default();
    assert_eq!(format!("{:?}", config.session.settings()), format!("{session:?}"));
    let gateway = config.gateway.settings(None, config.drain.deadline);
    assert_eq!(format!("{gateway:?}"), format!("{:?}", crate::gateway::Settings::default()));
    assert_eq!(format!("{:?}", config.limits.gateway()), format!("{:?}", crate::gateway::limits::Settings::default()));
}

#[test]
fn limits_are_read_and_their_mistakes_are_named() {
    let config = with(
        "[limits]\nuser_header = \"X-User\"\ntrusted_proxies = [\"10.0.0.0/8\"]\n\
         [[limits.named]]\nname = \"openai\"\nrate = \"60/m\"\nburst = 10\nat_once = 4\nlease = \"5s\"\n\
         [[limits.kind]]\nkind = \"mailer\"\nrate = \"5/s\"\n\
         [[limits.kind]]\nkind = \"mailer\"\neach_key = true\nrate = \"1/s\"\nunavailable = \"refuse\"\n\
         [[limits.http]]\nname = \"api\"\nwho = \"user\"\npaths = [\"/orders\"]\nmethods = [\"POST\"]\n\
         rate = \"10/s\"\nquota = \"10000/d\"",
        &[],
    )
    .unwrap();
    let declared = config.limits.declarations();
    assert_eq!((declared.named.len(), declared.kinds.len(), declared.keys.len()), (1, 1, 1));
    assert_eq!((declared.named[0].1.burst, declared.named[0].1.at_once), (Some(10), Some(4)));
    let gateway = config.limits.gateway();
    assert_eq!(gateway.user_header.unwrap().as_str(), "x-user");
    assert_eq!(gateway.rules[0].limit.quota, Some((10_000, std::time::Duration::from_secs(86_400))));
    for (toml, says) in [
        ("[[limits.http]]\nname = \"api\"", "section [limits.http[0]]: the key \"who\" is missing"),
        (
            "[[limits.http]]\nname = \"api\"\nwho = \"ip\"\nrate = \"10\"",
            "limits.http[0].rate = \"10\" (from shop.toml): expected so many per time",
        ),
        (
            "[[limits.named]]\nname = \"a\"\nrates = \"1/s\"",
            "unknown key \"limits.named[0].rates\" (from shop.toml): did you mean \"rate\"?",
        ),
        ("[limits]\ntrusted_proxies = [\"ten\"]", "\"ten\" is no network"),
    ] {
        let error = refused(toml, &[]);
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn every_key_of_the_reference_is_known_and_every_known_key_is_in_the_reference() {
    let config = with("", &[]).unwrap();
    let written: BTreeSet<String> = config.layers.keys().into_iter().filter(|key| !key.ends_with("_file")).collect();
    let known: BTreeSet<String> = config.claimed().values().flat_map(|section| section.known.clone()).collect();
    assert_eq!(written, known);
    config.finish().unwrap();
}

#[test]
fn every_key_of_the_reference_has_a_reason_above_it() {
    let lines: Vec<&str> = REFERENCE.lines().collect();
    for (above, line) in
        lines.iter().zip(&lines[1..]).filter(|(_, line)| line.contains(" = ") && !line.starts_with('#'))
    {
        assert!(above.starts_with("# "), "no comment above {line:?}");
    }
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    assert_eq!(
        refused("[gateway]\nlisten_on = \"x\"\n[runtime]\nidel = \"1s\"", &[("GREENROOM_GATEWAY__WORKER", "2")]),
        "unknown key \"runtime.idel\" (from shop.toml): did you mean \"idle\"?\n\
         unknown key \"gateway.listen_on\" (from shop.toml): did you mean \"listen\"?\n\
         unknown key \"gateway.worker\" (from GREENROOM_GATEWAY__WORKER): did you mean \"workers\"?"
    );
    assert_eq!(
        refused("listen = \"x\"", &[]),
        "unknown key \"listen\" (from shop.toml): did you mean \"gateway.listen\"?"
    );
    assert_eq!(
        refused(
            "",
            &[("GREENROOM_GATEWAY_LISTEN", "x"), ("GREENROOM_PORT_8080_TCP", "tcp://…"), ("GREENROOM_LOG", "warn")]
        ),
        "environment variable GREENROOM_GATEWAY_LISTEN is not known: did you mean GREENROOM_GATEWAY__LISTEN?"
    );
    let config = with("[gatway]\nlisten = \"127.0.0.1:1\"", &[]).unwrap();
    let error = config.finish().unwrap_err().to_string();
    assert!(error.starts_with("unknown section [gatway] (from "), "{error}");
    assert!(error.ends_with("did you mean \"gateway\"?"), "{error}");
}

#[test]
fn a_wrong_value_names_key_value_source_and_what_was_expected() {
    for (toml, vars, says) in [
        (
            "[runtime]\nidle = \"60\"",
            vec![],
            "runtime.idle = \"60\" (from shop.toml): 60 has no unit: did you mean \"60s\"?",
        ),
        (
            "[runtime]\nidle = 60",
            vec![],
            "runtime.idle = 60 (from shop.toml): expected a duration as text, such as \"60s\", found a whole number",
        ),
        (
            "",
            vec![("GREENROOM_RUNTIME__CRASH_LIMIT", "many")],
            "runtime.crash_limit = \"many\" (from GREENROOM_RUNTIME__CRASH_LIMIT): expected a whole number from 0 to \
             4294967295, found text",
        ),
        ("[runtime]\ncrash_limit = 0", vec![], "runtime.crash_limit = 0 (from shop.toml): expected at least 1"),
        (
            "[store]\npartitions = 5000",
            vec![],
            "store.partitions = 5000 (from shop.toml): expected a number from 1 to 4096",
        ),
        (
            "[runtime]\narbiters = \"all\"",
            vec![],
            "runtime.arbiters = \"all\" (from shop.toml): expected a number of threads from 1 to 4096, or \"auto\"",
        ),
        (
            "[log]\nformat = \"jsn\"",
            vec![],
            "log.format = \"jsn\" (from shop.toml): did you mean \"json\"? expected one of auto, pretty, json",
        ),
        (
            "[gateway]\ncors_origins = \"x\"",
            vec![],
            "gateway.cors_origins = \"x\" (from shop.toml): expected a list, found text",
        ),
        ("gateway = 3", vec![], "gateway = 3 (from shop.toml): expected a section of keys: [gateway]\nunknown key"),
    ] {
        let error = refused(toml, &vars);
        assert!(error.starts_with(says), "\n{error}\n  expected\n{says}");
    }
    let error = refused("[gateway\n", &[]);
    assert!(error.starts_with("shop.toml is no TOML:") && error.contains("line 1"), "{error}");
}

#[test]
fn the_environment_wins_over_the_file_and_flags_over_both() {
    let vars = [
        ("GREENROOM_RUNTIME__ARBITERS", "3"),
        ("GREENROOM_RUNTIME__WINDOW_MESSAGES", "7"),
        ("GREENROOM_GATEWAY__CORS_ORIGINS", "https://a.example, https://b.example"),
    ];
    let config = with("[runtime]\narbiters = 2\nidle = \"1h\"", &vars).unwrap();
    let settings = config.runtime.settings();
    assert_eq!((settings.arbiters, settings.window_messages, settings.idle.as_secs()), (3, 7, 3600));
    assert_eq!(config.gateway.cors_origins, ["https://a.example", "https://b.example"]);
    let source = |key: &str| config.shown().into_iter().find(|shown| shown.key == key).unwrap().source;
    assert_eq!(source("runtime.arbiters"), "GREENROOM_RUNTIME__ARBITERS");
    assert!(source("runtime.idle").ends_with("shop.toml"));
    assert_eq!(source("runtime.stall"), "default");

    let flags = vec![("--listen", "gateway", "listen", "127.0.0.1:0".to_owned())];
    let environment = vec![("GREENROOM_GATEWAY__LISTEN".to_owned(), "127.0.0.1:9".to_owned())];
    let config = Config::from_sources(Sources { flags, environment, ..Sources::default() }).unwrap();
    assert_eq!(config.gateway.listen.port(), 0);
}

#[test]
fn secrets_come_from_the_environment_or_a_file_and_are_never_shown() {
    // All digits: read as a number it would lose its leading zero.
    let config = with("", &[("GREENROOM_ADMIN__TOKEN", "0123")]).unwrap();
    assert_eq!(config.admin.token.as_ref().unwrap().reveal(), "0123");
    let shown = format!("{:?} {:?}", config.shown(), config.admin);
    assert!(!shown.contains("0123") && shown.contains("(secret)"), "{shown}");

    let error = refused("[admin]\ntoken = \"hunter2\"", &[]);
    assert!(error.contains("GREENROOM_ADMIN__TOKEN") && !error.contains("hunter2"), "{error}");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "hunter2\n").unwrap();
    let toml = format!("[admin]\ntoken_file = {:?}", file.display().to_string());
    assert_eq!(with(&toml, &[]).unwrap().admin.token.unwrap().reveal(), "hunter2");
    assert!(refused(&toml, &[("GREENROOM_ADMIN__TOKEN", "x")]).contains("both set"));
    assert!(refused("[admin]\ntoken_file = \"/nowhere\"", &[]).contains("the secret cannot be read"));
    assert!(refused("[gateway]\nlisten_file = \"/nowhere\"", &[]).contains("only a secret can be read from a file"));
    assert!(with("", &[]).unwrap().admin.token.is_none());
}

#[test]
fn a_feature_reads_its_section_with_the_same_strictness() {
    #[derive(Debug, serde::Deserialize)]
    struct Shop {
        currency: String,
        #[serde(default)]
        stock: u32,
    }
    let config = with("[shop]\ncurrency = \"EUR\"\nstok = 3", &[]).unwrap();
    let error = config.section::<Shop>("shop").unwrap_err().to_string();
    assert!(error.contains("unknown key \"shop.stok\"") && error.contains("did you mean \"stock\"?"), "{error}");
    let config = with("", &[]).unwrap();
    let error = config.section::<Shop>("shop").unwrap_err().to_string();
    assert_eq!(error, "section [shop]: the key \"currency\" is missing");
    let config = with("", &[("GREENROOM_SHOP__CURRENCY", "EUR"), ("GREENROOM_SHOP__STOCK", "3")]).unwrap();
    let shop: Shop = config.section("shop").unwrap();
    assert_eq!((shop.currency.as_str(), shop.stock), ("EUR", 3));
    config.finish().unwrap();
}
