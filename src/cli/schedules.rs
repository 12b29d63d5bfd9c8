//! `schedules`: what is told by the clock. List, look, pause, resume, run now, delete.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Context, Verdict,
    http::{Server, encode},
    nodes::{cell, items},
    output::{Output, Tone, moment, table},
    page::Page,
    sure::sure,
    target::{Place, Target},
    trouble::Trouble,
};
use crate::{
    app::App,
    coordination::schedule::{self, Steer},
    error::Error,
};

/// List schedules, show one with its last slots and its next ones, or steer it
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  greenroom schedules
  greenroom schedules list --prefix remind/ --limit 20
  greenroom schedules show reconcile
  greenroom schedules pause reconcile        until resume; what runs goes on
  greenroom schedules run reconcile          now, whenever the next slot is

Slots that pass while it is paused do not run. What is deleted and declared by a feature is there again
when a node starts: pause it instead. With no server running, one is started for the moment it takes to
steer; what is due by then is told.")]
pub(super) struct Schedules {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    place: Place,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// List schedules, by name
    List {
        /// Only those whose names begin with this
        #[arg(long)]
        prefix: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// Show one with its last slots and its next ones
    Show(Of),
    /// Take no slots until it is resumed
    Pause(Of),
    /// Go on with the next slot
    Resume(Of),
    /// Run now
    Run(Of),
    /// Remove it
    Delete {
        #[command(flatten)]
        of: Of,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Args, Clone, Debug)]
struct Of {
    /// The schedule's name
    name: String,
}

impl Schedules {
    pub(super) fn run(self, cx: &Context) -> Result<Verdict, Trouble> {
        let place = &self.place;
        match self.verb.unwrap_or(Verb::List { prefix: None, page: Page::default() }) {
            Verb::List { prefix, page } => list(cx, place, prefix, page),
            Verb::Show(of) => show(cx, place, of.name),
            Verb::Pause(of) => steer(cx, place, of.name, Steer::Pause, "pause"),
            Verb::Resume(of) => steer(cx, place, of.name, Steer::Resume, "resume"),
            Verb::Run(of) => steer(cx, place, of.name, Steer::Run, "run"),
            Verb::Delete { of, yes } => {
                if !yes {
                    let name = &of.name;
                    sure(&format!("deleting {name} cannot be undone"), &format!("Delete the schedule {name}?"))?;
                }
                delete(cx, place, of.name)
            }
        }
    }
}

fn list(cx: &Context, place: &Place, prefix: Option<String>, Page { limit, cursor }: Page) -> Result<Verdict, Trouble> {
    let page = match place.target(cx)? {
        Target::Server(server) => {
            let mut path = format!("/admin/schedules?limit={limit}");
            for (name, value) in [("prefix", &prefix), ("cursor", &cursor)] {
                path += &value.as_ref().map(|value| format!("&{name}={}", encode(value))).unwrap_or_default();
            }
            server.get(&path)?
        }
        Target::Store(store) => {
            let prefix = prefix.unwrap_or_default();
            store.read(|backend| async move {
                let (items, cursor) = schedule::list(&*backend, &prefix, cursor, limit.into()).await?;
                Ok(json!({ "items": items, "cursor": cursor }))
            })?
        }
    };
    let out = &cx.out;
    if out.json {
        out.value(&page)?;
        return Ok(Verdict::Fine);
    }
    let found = items(&page);
    if found.is_empty() {
        out.line("No schedules.");
        return Ok(Verdict::Fine);
    }
    let head = ["NAME", "STATUS", "NEXT", "WHEN", "TO", "TAKEN", "LEFT OUT"].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(found.iter().map(row)).collect();
    for (i, line) in table(&rows).iter().enumerate() {
        out.line(if i == 0 { out.tone(Tone::Dim, line) } else { line.clone() });
    }
    if let Some(cursor) = page.get("cursor").and_then(Value::as_str) {
        out.line(format!("… more: --cursor {cursor}"));
    }
    out.next("greenroom schedules show NAME, for its last slots and its next ones");
    Ok(Verdict::Fine)
}

fn show(cx: &Context, place: &Place, name: String) -> Result<Verdict, Trouble> {
    let found = match place.target(cx)? {
        Target::Server(server) => server.get(&format!("/admin/schedules/{}", encode(&name)))?,
        Target::Store(store) => {
            let name = name.clone();
            store.read(|backend| async move {
                let found = schedule::one(&*backend, &name).await?;
                Ok(serde_json::to_value(found.ok_or_else(|| unknown(&name))?)?)
            })?
        }
    };
    if cx.out.json {
        cx.out.value(&found)?;
    } else {
        print(&found, &cx.out);
        let verb = if cell(&found, "status") == "paused" { "resume" } else { "run" };
        cx.out.next(format!("greenroom schedules {verb} {name}"));
    }
    Ok(Verdict::Fine)
}

fn steer(cx: &Context, place: &Place, name: String, how: Steer, verb: &str) -> Result<Verdict, Trouble> {
    let path = format!("/admin/schedules/{}/{verb}", encode(&name));
    let schedule = change(cx, place, name, how, |server| server.post(&path, &json!({})))?;
    if cx.out.json {
        cx.out.value(&schedule)?;
    } else {
        print(&schedule, &cx.out);
    }
    Ok(Verdict::Fine)
}

fn delete(cx: &Context, place: &Place, name: String) -> Result<Verdict, Trouble> {
    let path = format!("/admin/schedules/{}", encode(&name));
    let deleted = change(cx, place, name.clone(), Steer::Delete, |server| server.delete(&path))?;
    if cx.out.json {
        cx.out.value(&deleted)?;
    } else {
        cx.out.line(format!("{name} is deleted."));
    }
    Ok(Verdict::Fine)
}

fn change(
    cx: &Context,
    place: &Place,
    name: String,
    how: Steer,
    ask: impl FnOnce(&Server) -> Result<Value, Trouble>,
) -> Result<Value, Trouble> {
    let (config, features) = cx.load(place.flags())?;
    match place.resolve(config)? {
        Target::Server(server) => ask(&server),
        Target::Store(store) => {
            let app = App::new(store.config()).version(cx.product.version);
            Ok(features.into_iter().fold(app, App::feature).run_until(|node| async move {
                node.steer_schedule(&name, how).await?;
                Ok(match node.scheduled(&name).await? {
                    Some(view) => serde_json::to_value(view)?,
                    None => json!({ "deleted": name }),
                })
            })?)
        }
    }
}

fn unknown(name: &str) -> Error {
    Error::terminal(format!("there is no schedule {name:?}"))
}

/// When its slots are, in a few words.
fn when(schedule: &Value) -> String {
    let of = |kind: &str, name: &str| schedule.get("when").and_then(|when| when.get(kind)?.get(name).cloned());
    let number = |kind, name| of(kind, name).and_then(|value| value.as_i64());
    if let Some(expression) = of("cron", "expression") {
        let zone = of("cron", "zone").unwrap_or_default();
        return format!("{} {}", expression.as_str().unwrap_or("?"), zone.as_str().unwrap_or_default());
    }
    match (number("every", "period_ms"), number("once", "at")) {
        (Some(period), _) if period % 1000 == 0 => format!("every {} s", period / 1000),
        (Some(period), _) => format!("every {period} ms"),
        (None, Some(at)) => format!("once {}", moment(at)),
        _ => "?".to_owned(),
    }
}

fn at(item: &Value, name: &str) -> String {
    item.get(name).and_then(Value::as_i64).map_or_else(|| "-".to_owned(), moment)
}

fn row(schedule: &Value) -> Vec<String> {
    vec![
        cell(schedule, "name"),
        cell(schedule, "status"),
        at(schedule, "next_at"),
        when(schedule),
        cell(schedule, "to"),
        cell(schedule, "taken"),
        cell(schedule, "left_out"),
    ]
}

fn print(schedule: &Value, out: &Output) {
    let status = cell(schedule, "status");
    let tone = match status.as_str() {
        "active" => Tone::Good,
        "orphaned" => Tone::Bad,
        _ => Tone::Warn,
    };
    out.line(format!("{}  {}", out.tone(Tone::Bold, &cell(schedule, "name")), out.tone(tone, &status)));
    out.line(format!("  when      {}", when(schedule)));
    out.line(format!("  tells     {} {}", cell(schedule, "to"), cell(schedule, "command")));
    out.line(format!("  missed    {}, overlap {}", cell(schedule, "missed"), cell(schedule, "overlap")));
    out.line(format!("  slots     {} taken, {} left out", cell(schedule, "taken"), cell(schedule, "left_out")));
    if let Some(running) = schedule.get("running").and_then(Value::as_i64) {
        out.line(format!("  running   {}, {} waiting", moment(running), cell(schedule, "waiting")));
    }
    let next = schedule.get("next").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for (i, slot) in next.iter().filter_map(Value::as_i64).enumerate() {
        out.line(format!("  {}{}", if i == 0 { "next      " } else { "          " }, moment(slot)));
    }
    let history = schedule.get("history").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for (i, past) in history.iter().enumerate() {
        out.line(format!("  {}{}", if i == 0 { "last      " } else { "          " }, line(past)));
    }
}

/// What became of one slot.
fn line(past: &Value) -> String {
    let number = |name: &str| past.get(name).and_then(Value::as_i64);
    let mut line = format!("{}  {}", at(past, "slot"), cell(past, "outcome"));
    if let Some(slots) = number("slots").filter(|slots| *slots > 1) {
        line += &format!(" ({slots} slots)");
    }
    if past.get("wanted") == Some(&Value::Bool(true)) {
        line += ", wanted";
    }
    if let Some(took) = number("took_ms") {
        line += &format!(", took {took} ms");
    }
    if let Some(attempts) = number("attempts").filter(|attempts| *attempts > 1) {
        line += &format!(", {attempts} attempts");
    }
    line
}
