//! `connections`: who is connected live, and closing such connections.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Context, Verdict,
    http::encode,
    nodes::cell,
    output::{Tone, moment, table},
    target::{Place, Target},
    trouble::Trouble,
};

/// List live connections, or close them
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  greenroom connections
  greenroom connections --channel user-7
  greenroom connections close user-7
  greenroom connections close user-7 --id 7351902840
  greenroom connections --json | jq '.channels[0]'

A connection is a WebSocket or an event stream that follows a channel. Who is closed may come back:
close the door first.")]
pub(super) struct Connections {
    #[command(flatten)]
    place: Place,
    /// The connections of this channel
    #[arg(long, value_name = "CHANNEL")]
    channel: Option<String>,
    #[command(subcommand)]
    command: Option<Verb>,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Close the connections of a channel, or one of them
    Close {
        /// The channel
        channel: String,
        /// Only the connection with this id
        #[arg(long, value_name = "ID")]
        id: Option<String>,
    },
}

impl Connections {
    pub(super) fn run(self, cx: &Context) -> Result<Verdict, Trouble> {
        let target = self.place.target(cx)?;
        match self.command {
            Some(Verb::Close { channel, id }) => close(cx, target, &channel, id.as_deref()),
            None => list(cx, target, self.channel.as_deref()),
        }
    }
}

fn close(cx: &Context, target: Target, channel: &str, id: Option<&str>) -> Result<Verdict, Trouble> {
    let one = id.map(|id| format!("&connection={}", encode(id))).unwrap_or_default();
    let closed = match target {
        Target::Server(server) => server.delete(&format!("/admin/connections?channel={}{one}", encode(channel)))?,
        // Nobody is connected where nobody serves.
        Target::Store(_) => json!({ "closed": 0 }),
    };
    if cx.out.json {
        cx.out.value(&closed)?;
    } else {
        cx.out.line(format!("Closed {}.", cell(&closed, "closed")));
    }
    Ok(Verdict::Fine)
}

fn list(cx: &Context, target: Target, channel: Option<&str>) -> Result<Verdict, Trouble> {
    let path = match channel {
        Some(channel) => format!("/admin/connections?channel={}", encode(channel)),
        None => "/admin/connections".to_owned(),
    };
    let all = match target {
        Target::Server(server) => server.get(&path)?,
        Target::Store(_) => json!({ "nodes": [], "silent": [], "channels": [], "connections": [] }),
    };
    let out = &cx.out;
    if out.json {
        out.value(&all)?;
        return Ok(Verdict::Fine);
    }
    let items = |name: &str| all.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let show = |head: &[&str], names: &[&str], items: &[Value]| {
        let row = |item: &Value| names.iter().map(|name| shown(item, name)).collect();
        let head = head.iter().map(|name| (*name).to_owned()).collect();
        let rows: Vec<Vec<String>> = std::iter::once(head).chain(items.iter().map(row)).collect();
        for (i, line) in table(&rows).iter().enumerate() {
            out.line(if i == 0 { out.tone(Tone::Dim, line) } else { line.clone() });
        }
    };
    if items("nodes").is_empty() {
        out.line("No node runs.");
        out.next("greenroom serve");
        return Ok(Verdict::Fine);
    }
    if channel.is_some() {
        let names = ["id", "node", "transport", "since", "sent", "queued"];
        show(&["CONNECTION", "NODE", "TRANSPORT", "SINCE", "SENT", "QUEUED BYTES"], &names, &items("connections"));
    } else {
        show(
            &["NODE", "WEBSOCKETS", "EVENT STREAMS", "CHANNELS"],
            &["node", "websockets", "streams", "channels"],
            &items("nodes"),
        );
        if !items("channels").is_empty() {
            out.line("");
            show(&["CHANNEL", "CONNECTIONS"], &["channel", "connections"], &items("channels"));
            out.next("greenroom connections --channel CHANNEL, for the connections of one");
        }
    }
    for node in items("silent") {
        out.line(format!("Node {node} did not answer: what it has is missing here."));
    }
    Ok(Verdict::Fine)
}

fn shown(item: &Value, name: &str) -> String {
    match item.get(name).and_then(Value::as_i64) {
        Some(time) if name == "since" => moment(time),
        _ => cell(item, name),
    }
}
