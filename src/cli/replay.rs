//! `replay`: whether this build follows the journals of the commands that are in flight, tried before it
//! is deployed. Reads only, so it works beside a running server.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use clap::Args;
use serde_json::{Value, json};

use super::{
    Context, Verdict,
    output::{Output, Tone},
    trouble::Trouble,
};
use crate::{
    app::inspect,
    config::parse_duration,
    durable::dry::Followed,
    runtime::replay::{Tried, Verdict as Judged, replay},
};

/// Try this build on the commands in flight: would it follow their journals?
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  greenroom replay                         with the new binary, before it is deployed
  greenroom replay --data /var/lib/shop --json | jq '.items[] | select(.status != \"ok\")'

Every command that has begun and not ended is run against its journal by this binary's handlers, without
any effect: no step is called, nothing is sent or written. Works while the server runs and when it is
stopped. Exits 1 when one of them would not be followed; keep the old way behind `cx.version` for these.
Dead letters are tried and told too, but do not decide: they are only run when somebody redrives them.")]
pub(super) struct Replay {
    /// Data directory [default: data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// How long a handler may do what its journal does not know
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration)]
    patience: Duration,
}

impl Replay {
    pub(super) fn run(self, cx: &Context) -> Result<Verdict, Trouble> {
        let flag = self.data.map(|data| ("--data", "store", "data", data.display().to_string()));
        let (config, features) = cx.load(flag.into_iter().collect())?;
        let store = inspect(&config).map_err(|e| {
            Trouble::from(e).help("name the data directory with --data DIR, or the servers in --config")
        })?;
        let mut tried = Vec::new();
        // Handlers live where they do when they are served.
        actix::System::new()
            .block_on(replay(store, &features, config.runtime.settings(), self.patience, |one| tried.push(one)))?;
        let wrong = tried.iter().filter(|one| !one.dead && !one.verdict.is_fine()).count();
        if cx.out.json {
            let items: Vec<Value> = tried.iter().map(item).collect();
            cx.out.value(&json!({ "build": cx.product.version, "wrong": wrong, "items": items }))?;
        } else {
            print(&cx.out, cx.product.version, &tried, wrong);
        }
        Ok(if wrong == 0 { Verdict::Fine } else { Verdict::Wrong })
    }
}

/// What a verdict is called, and what there is to say of it.
fn words(judged: &Judged) -> (&'static str, Option<String>) {
    match judged {
        Judged::NotBegun | Judged::Followed(Followed::Waits(_) | Followed::Ends) => ("ok", None),
        Judged::UnknownKind => ("unknown-kind", Some("this build has no actor of that kind".to_owned())),
        Judged::Followed(Followed::Mismatch(why)) => ("mismatch", Some(why.clone())),
        Judged::Followed(Followed::Unreadable(why)) => ("unreadable", Some(why.clone())),
        Judged::Followed(Followed::Panics(why)) => ("panics", Some(why.clone())),
        Judged::Followed(Followed::Hangs) => {
            ("hangs", Some("the handler waits for something that its journal does not know".to_owned()))
        }
    }
}

fn item(one: &Tried) -> Value {
    let (status, error) = words(&one.verdict);
    let waits: Vec<Value> = match &one.verdict {
        Judged::Followed(Followed::Waits(waits)) => {
            waits.iter().map(|(kind, name)| json!({ "kind": called(kind), "name": name })).collect()
        }
        _ => Vec::new(),
    };
    json!({
        "request": one.request, "to": one.to.as_ref().map(ToString::to_string), "build": one.build,
        "status": status, "error": error, "waits_for": waits, "dead": one.dead,
    })
}

/// Steps are called what they are called everywhere.
fn called(kind: &str) -> &str {
    if kind == "run" { "step" } else { kind }
}

/// What a command goes on with, as it is counted.
fn goes_on(judged: &Judged) -> String {
    match judged {
        Judged::Followed(Followed::Waits(waits)) => {
            let mut names: Vec<String> = waits
                .iter()
                // Addresses differ from one command to the next.
                .map(|(kind, name)| match *kind {
                    "ask" => format!("ask {}", name.split('/').next().unwrap_or_default()),
                    kind => format!("{} {name}", called(kind)).trim_end().to_owned(),
                })
                .collect();
            names.sort();
            names.dedup();
            names.join(", ")
        }
        Judged::NotBegun => "its beginning".to_owned(),
        _ => "its end".to_owned(),
    }
}

fn print(out: &Output, version: &str, tried: &[Tried], wrong: usize) {
    if tried.is_empty() {
        out.line("No command is in flight that has a journal.");
        return;
    }
    let mut fine: BTreeMap<(String, String), usize> = BTreeMap::new();
    for one in tried {
        let to = one.to.as_ref();
        let (status, error) = words(&one.verdict);
        let Some(error) = error else {
            let kind = to.map_or_else(String::new, |to| to.kind().to_owned());
            *fine.entry((kind, goes_on(&one.verdict))).or_default() += 1;
            continue;
        };
        let tone = if one.dead { Tone::Dim } else { Tone::Bad };
        let to = to.map_or_else(|| "(unreadable)".to_owned(), ToString::to_string);
        let build = one.build.as_deref().unwrap_or("unknown");
        let dead = if one.dead { ", a dead letter" } else { "" };
        out.line(format!(
            "{}  {to}  {}, begun by build {build}{dead}",
            out.tone(tone, &format!("✗ {status}")),
            one.request
        ));
        out.line(format!("    {error}"));
    }
    let rows: Vec<Vec<String>> = fine
        .iter()
        .map(|((kind, on), count)| vec![format!("✓ {count:>5}"), kind.clone(), format!("goes on with {on}")])
        .collect();
    super::output::table(&rows).iter().for_each(|line| out.line(line));
    let total = tried.iter().filter(|one| !one.dead).count();
    out.line("");
    if wrong == 0 {
        out.line(format!("{} Build {version} follows all {total} commands in flight.", out.tone(Tone::Good, "Fine.")));
    } else {
        out.line(format!(
            "{} Build {version} does not follow {wrong} of {total} commands in flight.",
            out.tone(Tone::Bad, "Wrong.")
        ));
        out.next("greenroom request show ID, for what one of them did; cx.version keeps the old way for them");
    }
}
