//! `partitions`: who has each partition, and what is in it; and changing how many there are.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Context, Verdict,
    nodes::{cell, items},
    output::{Tone, table},
    resize,
    target::{Place, Target},
    trouble::Trouble,
};
use crate::runtime::overview::partitions;

/// List the partitions with their owners and what waits in them, or change how many there are
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  greenroom partitions
  greenroom partitions --busy                only those with something in flight
  greenroom partitions resize 64 --dry-run   what would move, if there were 64
  greenroom partitions --json | jq '.items[] | select(.node == null)'

The epoch counts a partition's owners: one that rises all the time means that owners lose it. A
partition without an owner is taken by the next beat of the node it belongs to. Without a server the
store itself is read: the owner is the last one."
)]
pub(super) struct Partitions {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Only partitions with messages that have not ended
    #[arg(long)]
    busy: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Subcommand, Debug)]
enum Verb {
    Resize(resize::Resize),
}

impl Partitions {
    pub(super) fn run(self, cx: &Context) -> Result<Verdict, Trouble> {
        if let Some(Verb::Resize(command)) = self.verb {
            return command.run(cx);
        }
        let mut found = match self.place.target(cx)? {
            Target::Server(server) => server.get("/admin/partitions")?,
            Target::Store(store) => {
                store.read(|backend| async move { Ok(json!({ "items": partitions(&*backend).await? })) })?
            }
        };
        if self.busy
            && let Some(items) = found.get_mut("items").and_then(Value::as_array_mut)
        {
            items.retain(|item| item.get("in_flight").and_then(Value::as_i64) != Some(0));
        }
        let out = &cx.out;
        if out.json {
            out.value(&found)?;
            return Ok(Verdict::Fine);
        }
        let items = items(&found);
        if items.is_empty() {
            out.line("Nothing is in flight.");
            return Ok(Verdict::Fine);
        }
        let head = ["PARTITION", "NODE", "EPOCH", "IN FLIGHT", "BYTES", "ACCEPTED", "DEAD"].map(str::to_owned).to_vec();
        let row = |item: &Value| {
            ["partition", "node", "epoch", "in_flight", "bytes", "accepted", "dead"]
                .map(|name| cell(item, name))
                .to_vec()
        };
        let rows: Vec<Vec<String>> = std::iter::once(head).chain(items.iter().map(row)).collect();
        for (i, line) in table(&rows).iter().enumerate() {
            out.line(if i == 0 { out.tone(Tone::Dim, line) } else { line.clone() });
        }
        out.next("greenroom nodes, for who they are");
        Ok(Verdict::Fine)
    }
}
