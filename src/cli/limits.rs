//! `limits`: what is limited, and who is at its end.

use clap::Args;
use serde_json::{Value, json};

use super::{
    Context, Verdict,
    nodes::{cell, items},
    output::{Tone, moment, table},
    target::{Place, Target},
    trouble::Trouble,
};

/// List the limits of a node, and who is at the end of one
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  greenroom limits
  greenroom limits --server http://10.0.0.7:8080
  greenroom limits --json | jq '.items[] | select(.refused > 0) | .low[0]'

Limits hold over all nodes; the counts are those of the node that answers, since its start. Who is low
was refused, or had less than a fifth left when last seen.")]
pub(super) struct Limits {
    #[command(flatten)]
    place: Place,
}

impl Limits {
    pub(super) fn run(self, cx: &Context) -> Result<Verdict, Trouble> {
        let found = match self.place.target(cx)? {
            Target::Server(server) => server.get("/admin/limits")?,
            // Nobody counts anything: that is the answer.
            Target::Store(store) => store.read(|_| async { Ok(json!({ "items": [] })) })?,
        };
        let out = &cx.out;
        if out.json {
            out.value(&found)?;
            return Ok(Verdict::Fine);
        }
        let items = items(&found);
        if items.is_empty() {
            out.line("Nothing is limited, or no node runs.");
            out.next("greenroom config defaults, for how to limit something");
            return Ok(Verdict::Fine);
        }
        let names = ["name", "rate", "burst", "quota", "at_once", "allowed", "refused", "waited", "held", "waiting"];
        let head = names.map(|name| name.replace('_', " ").to_uppercase()).to_vec();
        let row = |item: &Value| names.map(|name| cell(item, name)).to_vec();
        print(cx, std::iter::once(head).chain(items.iter().map(row)).collect());
        let low: Vec<Vec<String>> = items.iter().flat_map(low).collect();
        if !low.is_empty() {
            out.line("");
            let head = ["LIMIT", "WHO", "REFUSED", "LEFT", "OF", "SEEN"].map(str::to_owned).to_vec();
            print(cx, std::iter::once(head).chain(low).collect());
        }
        if found.get("store_answers") == Some(&Value::Bool(false)) {
            out.line(out.tone(Tone::Bad, "The store of the limits does not answer."));
            return Ok(Verdict::Wrong);
        }
        Ok(Verdict::Fine)
    }
}

fn print(cx: &Context, rows: Vec<Vec<String>>) {
    for (i, line) in table(&rows).iter().enumerate() {
        cx.out.line(if i == 0 { cx.out.tone(Tone::Dim, line) } else { line.clone() });
    }
}

/// Who is at the end of a limit.
fn low(item: &Value) -> Vec<Vec<String>> {
    let low = item.get("low").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let row = |low: &Value| {
        let seen = low.get("seen").and_then(Value::as_i64).map_or_else(|| "-".to_owned(), moment);
        let who = Some(cell(low, "who")).filter(|who| !who.is_empty()).unwrap_or_else(|| "everybody".to_owned());
        vec![cell(item, "name"), who, cell(low, "refused"), cell(low, "remaining"), cell(low, "of"), seen]
    };
    low.iter().map(row).collect()
}
