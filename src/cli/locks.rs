//! `locks`: who has which, and taking one away.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Context, Verdict,
    http::encode,
    nodes::{cell, items},
    output::{Tone, moment, table},
    page::Page,
    target::{Place, Target},
    trouble::Trouble,
};
use crate::coordination::lock::list;

/// List the locks that somebody has, or take one away
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  greenroom locks
  greenroom locks break warehouse

A command has a lock until it ends: `greenroom request show` tells what it waits for, and
`greenroom request cancel` lets it undo what it did. Breaking its lock does not stop it.")]
pub(super) struct Locks {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    place: Place,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// List the locks that somebody has, by name
    List(Page),
    /// Take a lock away from whoever has it
    Break {
        /// The lock's name
        name: String,
    },
}

impl Locks {
    pub(super) fn run(self, cx: &Context) -> Result<Verdict, Trouble> {
        match self.verb.unwrap_or(Verb::List(Page::default())) {
            Verb::List(Page { limit, cursor }) => {
                let page = match self.place.target(cx)? {
                    Target::Server(server) => {
                        let cursor = cursor.map(|cursor| format!("&cursor={}", encode(&cursor))).unwrap_or_default();
                        server.get(&format!("/admin/locks?limit={limit}{cursor}"))?
                    }
                    Target::Store(store) => store.read(move |backend| async move {
                        let (items, cursor) = list::held(&*backend, limit.into(), cursor).await?;
                        Ok(json!({ "items": items, "cursor": cursor }))
                    })?,
                };
                show(cx, &page)
            }
            Verb::Break { name } => match self.place.target(cx)? {
                Target::Server(server) => {
                    server.delete(&format!("/admin/locks/{}?force=true", encode(&name)))?;
                    if cx.out.json {
                        cx.out.value(&json!({ "lock": name, "broken": true }))?;
                    } else {
                        cx.out.line(format!("{name}: whoever had it has it no more"));
                    }
                    Ok(Verdict::Fine)
                }
                Target::Store(_) => Err(Trouble::new("no server runs, so nobody can give the lock to the next one")
                    .help("start one: greenroom serve")),
            },
        }
    }
}

fn show(cx: &Context, page: &Value) -> Result<Verdict, Trouble> {
    let out = &cx.out;
    if out.json {
        out.value(page)?;
        return Ok(Verdict::Fine);
    }
    let items = items(page);
    if items.is_empty() {
        out.line("Nobody has a lock.");
        return Ok(Verdict::Fine);
    }
    let head = ["LOCK", "TOKEN", "HOLDER", "SINCE", "WAITING"].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(items.iter().map(row)).collect();
    for (i, line) in table(&rows).iter().enumerate() {
        out.line(if i == 0 { out.tone(Tone::Dim, line) } else { line.clone() });
    }
    if let Some(cursor) = page.get("cursor").and_then(Value::as_str) {
        out.next(format!("greenroom locks list --cursor {cursor}"));
    }
    Ok(Verdict::Fine)
}

fn row(lock: &Value) -> Vec<String> {
    let holder = match lock.get("request").and_then(Value::as_str) {
        Some(request) => format!("{} {request}", cell(lock, "actor")),
        None => format!("{} (node {})", cell(lock, "id"), cell(lock, "node")),
    };
    let since = lock.get("since").and_then(Value::as_i64).map_or_else(|| "-".to_owned(), moment);
    vec![cell(lock, "lock"), cell(lock, "token"), holder, since, cell(lock, "waiting")]
}
