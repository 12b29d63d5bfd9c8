//! `nodes`: the processes that share a store, and who has what.

use clap::Args;
use serde_json::{Value, json};

use super::{
    Context, Verdict,
    output::{Tone, moment, table},
    target::{Place, Target},
    trouble::Trouble,
};

/// List the nodes that share the store
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  greenroom nodes
  greenroom nodes --server http://10.0.0.7:8080
  greenroom nodes --json | jq '.items[].listen'

The star marks the node that answers. A node that is gone disappears once the others have given it
up; its partitions are theirs by then. A store in one directory has one node.")]
pub(super) struct Nodes {
    #[command(flatten)]
    place: Place,
}

impl Nodes {
    pub(super) fn run(self, cx: &Context) -> Result<Verdict, Trouble> {
        let nodes = match self.place.target(cx)? {
            Target::Server(server) => server.get("/admin/nodes")?,
            // Nobody runs anything: that is the answer.
            Target::Store(store) => store.read(|_| async { Ok(json!({ "items": [] })) })?,
        };
        let out = &cx.out;
        if out.json {
            out.value(&nodes)?;
            return Ok(Verdict::Fine);
        }
        let items = items(&nodes);
        if items.is_empty() {
            out.line("No node runs.");
            out.next("greenroom serve");
            return Ok(Verdict::Fine);
        }
        let head = ["", "NODE", "GATEWAY", "PID", "VERSION", "SINCE", "PARTITIONS"].map(str::to_owned).to_vec();
        let rows: Vec<Vec<String>> = std::iter::once(head).chain(items.iter().map(row)).collect();
        for (i, line) in table(&rows).iter().enumerate() {
            out.line(if i == 0 { out.tone(Tone::Dim, line) } else { line.clone() });
        }
        out.next("greenroom partitions, for who has which");
        Ok(Verdict::Fine)
    }
}

/// The list in an answer.
pub(super) fn items(answer: &Value) -> &[Value] {
    answer.get("items").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A member as text; a dash when there is none.
pub(super) fn cell(item: &Value, name: &str) -> String {
    match item.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn row(node: &Value) -> Vec<String> {
    let me = node.get("me") == Some(&Value::Bool(true));
    let since = node.get("since").and_then(Value::as_i64).map_or_else(|| "-".to_owned(), moment);
    let partitions = node.get("partitions").and_then(Value::as_array).map_or(0, Vec::len);
    vec![
        if me { "*" } else { "" }.to_owned(),
        cell(node, "id"),
        cell(node, "listen"),
        cell(node, "pid"),
        cell(node, "version"),
        since,
        partitions.to_string(),
    ]
}
