//! `topics`: what is published, and the groups that get it. List, look, read, steer a group.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Context, Verdict,
    http::encode,
    output::{Tone, moment, table},
    sure::sure,
    target::{Place, Target},
    trouble::Trouble,
};
use crate::{
    clock::Clock,
    coordination::topic::{read, view},
};

/// Look at topics and their groups, read events, steer a group
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  greenroom topics
  greenroom topics show orders
  greenroom topics events orders --limit 10
  greenroom topics pause orders billing
  greenroom topics replay orders billing --since 2026-01-31T12:00:00Z
  greenroom topics forget orders billing    when no build declares it any more

A group that is paused or cannot go on loses nothing: what comes is kept for it.")]
pub(super) struct Topics {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    place: Place,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// List topics, each with its groups
    List,
    /// Show one topic
    Show {
        /// Its name
        topic: String,
    },
    /// Read events
    Events {
        /// The topic
        topic: String,
        /// Go on after this cursor; from the oldest event that is kept when not said
        #[arg(long)]
        after: Option<String>,
        /// At most this many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
    /// Give a group nothing for now; what comes is kept for it
    Pause(Of),
    /// Let a group go on where it was
    Resume(Of),
    /// Let a group go on with what comes now, without what it has not had
    Skip {
        #[command(flatten)]
        of: Of,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Give a group once more what it has had
    #[command(group(clap::ArgGroup::new("from").required(true).args(["since", "all"])))]
    Replay {
        #[command(flatten)]
        of: Of,
        /// What came since this time, such as 2026-01-31T12:00:00Z
        #[arg(long, value_name = "TIME")]
        since: Option<jiff::Timestamp>,
        /// All that is kept
        #[arg(long)]
        all: bool,
    },
    /// Forget a group that no build declares any more
    Forget {
        #[command(flatten)]
        of: Of,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Args, Clone, Debug)]
struct Of {
    /// The topic
    topic: String,
    /// The group
    group: String,
}

impl Topics {
    pub(super) fn run(self, cx: &Context) -> Result<Verdict, Trouble> {
        let place = &self.place;
        match self.verb.unwrap_or(Verb::List) {
            Verb::List => list(cx, place.target(cx)?),
            Verb::Show { topic } => show(cx, place.target(cx)?, &topic),
            Verb::Events { topic, after, limit } => events(cx, place.target(cx)?, &topic, after.as_deref(), limit),
            Verb::Pause(of) => steer(cx, place, &of, "pause", &json!({})),
            Verb::Resume(of) => steer(cx, place, &of, "resume", &json!({})),
            Verb::Skip { of, yes } => {
                if !yes {
                    let what = format!("{} of {} go on without what it has not had", of.group, of.topic);
                    sure(&format!("letting {what} cannot be undone"), &format!("Let {what}?"))?;
                }
                steer(cx, place, &of, "skip", &json!({}))
            }
            Verb::Replay { of, since, all } => {
                let from = match since {
                    Some(since) => json!({ "since": since.as_millisecond().max(0) }),
                    None => json!({ "all": all }),
                };
                steer(cx, place, &of, "replay", &from)
            }
            Verb::Forget { of, yes } => {
                if !yes {
                    let what = format!("{} of {}, and what is kept for it", of.group, of.topic);
                    sure(&format!("forgetting {what}, cannot be undone"), &format!("Forget {what}?"))?;
                }
                let server = server(cx, place)?;
                let topic = server.delete(&path(&of))?;
                told(cx, &topic)
            }
        }
    }
}

/// Who steers: the shards themselves, so they must run.
fn server(cx: &Context, place: &Place) -> Result<super::http::Server, Trouble> {
    match place.target(cx)? {
        Target::Server(server) => Ok(server),
        Target::Store(_) => Err(Trouble::new("no server runs, and only a running one steers a group")
            .help("start it with `greenroom serve`, or name another with --server URL")),
    }
}

fn path(of: &Of) -> String {
    format!("/admin/topics/{}/groups/{}", encode(&of.topic), encode(&of.group))
}

fn steer(cx: &Context, place: &Place, of: &Of, verb: &str, body: &Value) -> Result<Verdict, Trouble> {
    let topic = server(cx, place)?.post(&format!("{}/{verb}", path(of)), body)?;
    told(cx, &topic)
}

/// How a topic stands after it was steered.
fn told(cx: &Context, topic: &Value) -> Result<Verdict, Trouble> {
    if cx.out.json {
        cx.out.value(topic)?;
    } else {
        print(cx, std::slice::from_ref(topic));
    }
    Ok(Verdict::Fine)
}

fn of_store(target: Target, topic: Option<String>, remote: &str) -> Result<Value, Trouble> {
    match target {
        Target::Server(server) => server.get(remote),
        Target::Store(store) => store.read(|backend| async move {
            let topics = view::topics(&*backend, topic.as_deref(), Clock::System.now()).await?;
            Ok(json!({ "items": topics }))
        }),
    }
}

fn list(cx: &Context, target: Target) -> Result<Verdict, Trouble> {
    let topics = of_store(target, None, "/admin/topics")?;
    if cx.out.json {
        cx.out.value(&topics)?;
        return Ok(Verdict::Fine);
    }
    let items = super::nodes::items(&topics);
    if items.is_empty() {
        cx.out.line("No topics.");
        return Ok(Verdict::Fine);
    }
    print(cx, items);
    cx.out.next("greenroom topics events TOPIC, or greenroom topics pause TOPIC GROUP");
    Ok(Verdict::Fine)
}

fn show(cx: &Context, target: Target, topic: &str) -> Result<Verdict, Trouble> {
    let found = of_store(target, Some(topic.to_owned()), &format!("/admin/topics/{}", encode(topic)))?;
    // A store answers with a list.
    let found = match found.get("items").and_then(Value::as_array) {
        Some(items) => items.first().cloned().ok_or_else(|| Trouble::new(format!("there is no topic {topic}")))?,
        None => found,
    };
    told(cx, &found)
}

/// A line for each group, and one for a topic that has none.
fn print(cx: &Context, topics: &[Value]) {
    let text = |item: &Value, name: &str| super::nodes::cell(item, name);
    let head = ["TOPIC", "EVENTS", "KEPT", "LAST", "GROUP", "STATUS", "LAG", "FOR", "WHY"].map(str::to_owned).to_vec();
    let mut rows = vec![head];
    for topic in topics {
        let last = topic.get("last_at").and_then(Value::as_i64).map_or_else(|| "-".to_owned(), moment);
        let of = vec![text(topic, "topic"), text(topic, "events"), text(topic, "kept"), last];
        let groups = topic.get("groups").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if groups.is_empty() {
            rows.push(of.clone());
        }
        for group in groups {
            let ms = group.get("lag_ms").and_then(Value::as_u64).unwrap_or(0);
            let for_long = if ms == 0 { "-".to_owned() } else { format!("{:.1}s", ms as f64 / 1000.0) };
            let why = group.get("why").and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
            let status = vec![text(group, "group"), text(group, "status"), text(group, "lag"), for_long, why];
            rows.push([of.clone(), status].concat());
        }
    }
    for (i, line) in table(&rows).iter().enumerate() {
        cx.out.line(if i == 0 { cx.out.tone(Tone::Dim, line) } else { line.clone() });
    }
}

fn events(cx: &Context, target: Target, topic: &str, after: Option<&str>, limit: u16) -> Result<Verdict, Trouble> {
    let page = match target {
        Target::Server(server) => {
            let after = after.map(|after| format!("&after={}", encode(after))).unwrap_or_default();
            server.get(&format!("/admin/topics/{}/events?limit={limit}{after}", encode(topic)))?
        }
        Target::Store(store) => {
            let cursor: read::Cursor = after.map(str::parse).transpose()?.unwrap_or_default();
            let found =
                store.read(|backend| async move { read::read(&*backend, topic, &cursor, usize::from(limit)).await })?;
            json!(found.ok_or_else(|| Trouble::new(format!("there is no topic {topic}")))?)
        }
    };
    let out = &cx.out;
    if out.json {
        out.value(&page)?;
        return Ok(Verdict::Fine);
    }
    let missed = page.get("missed").and_then(Value::as_u64).unwrap_or(0);
    if missed > 0 {
        out.line(out.tone(Tone::Warn, &format!("… {missed} before these are gone")));
    }
    for event in super::nodes::items(&page) {
        let at = event.get("at").and_then(Value::as_i64).map_or_else(|| "-".to_owned(), moment);
        let text = |name: &str| super::nodes::cell(event, name);
        let value = event.get("value").map(Value::to_string).unwrap_or_default();
        out.line(format!("{at}  {}-{}  {}  {value}", text("shard"), text("sequence"), text("key")));
    }
    if let Some(cursor) = page.get("cursor").and_then(Value::as_str) {
        out.line(format!("… go on with --after {cursor}"));
    }
    Ok(Verdict::Fine)
}
