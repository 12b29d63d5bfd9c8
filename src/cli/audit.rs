//! `audit`: proves that nothing was lost, by counting what is there against the ledger (G11).
//! Reads only, so it works beside a running server.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{
    Context, Verdict,
    output::{Tone, table},
    target::wait,
    trouble::Trouble,
};
use crate::{app::inspect, backend, request::RequestId};

/// Prove that nothing was lost: count what is there against the ledger
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  greenroom audit
  greenroom audit --data /var/lib/shop --json | jq .balanced

accepted = completed + failed + dead + cancelled + lost + in flight, always. Works while the server
runs and when it is stopped; changes nothing. Exits 1 on a mismatch and names the messages.")]
pub(super) struct Audit {
    /// Data directory [default: data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Audit {
    pub(super) fn run(self, cx: &Context) -> Result<Verdict, Trouble> {
        let flag = self.data.map(|data| ("--data", "store", "data", data.display().to_string()));
        let (config, _) = cx.load(flag.into_iter().collect())?;
        let store = inspect(&config).map_err(|e| {
            Trouble::from(e).help("name the data directory with --data DIR; `greenroom serve` makes one")
        })?;
        let audit = wait(store.audit())?;
        print(cx, &audit, &store.secret(), &config.store.place())?;
        Ok(if audit.balanced { Verdict::Fine } else { Verdict::Wrong })
    }
}

/// The audit as JSON: an interface with scripts. Messages are named by their request ids.
#[derive(Serialize)]
struct Report<'a> {
    accepted: u64,
    completed: u64,
    failed: u64,
    dead: u64,
    cancelled: u64,
    lost: u64,
    in_flight: u64,
    balanced: bool,
    mismatches: Vec<Mismatch<'a>>,
}

#[derive(Serialize)]
struct Mismatch<'a> {
    partition: u16,
    what: &'a str,
    messages: Vec<RequestId>,
}

fn print(cx: &Context, audit: &backend::Audit, secret: &[u8; 32], data: &str) -> Result<(), Trouble> {
    let out = &cx.out;
    let names = |mismatch: &backend::Mismatch| -> Vec<RequestId> {
        mismatch.messages.iter().map(|position| RequestId::seal(*position, secret)).collect()
    };
    if out.json {
        let mismatches =
            audit.mismatches.iter().map(|m| Mismatch { partition: m.partition, what: &m.what, messages: names(m) });
        return out.value(&Report {
            accepted: audit.accepted,
            completed: audit.completed,
            failed: audit.failed,
            dead: audit.dead,
            cancelled: audit.cancelled,
            lost: audit.lost,
            in_flight: audit.in_flight,
            balanced: audit.balanced,
            mismatches: mismatches.collect(),
        });
    }
    let row = |name: &str, count: u64| vec![format!("  {name}"), format!("{count:>12}")];
    out.line(out.tone(Tone::Bold, &format!("The ledger of {data}")));
    let rows = [
        row("accepted", audit.accepted),
        row("completed", audit.completed),
        row("failed", audit.failed),
        row("dead letters", audit.dead),
        row("cancelled", audit.cancelled),
        row("in flight", audit.in_flight),
    ];
    // Only servers lose anything, and only those that do not sync before they answer.
    let lost = (audit.lost > 0).then(|| row("lost", audit.lost));
    let rows: Vec<_> = rows.into_iter().chain(lost).collect();
    table(&rows).iter().for_each(|line| out.line(line));
    if audit.balanced {
        out.line(format!("\n{} Every accepted message is accounted for.", out.tone(Tone::Good, "Balanced.")));
        if audit.dead > 0 {
            out.next("greenroom dead");
        }
        return Ok(());
    }
    out.line(format!("\n{} {} mismatches:", out.tone(Tone::Bad, "Not balanced."), audit.mismatches.len()));
    for mismatch in &audit.mismatches {
        out.line(format!("  partition {}: {}", mismatch.partition, mismatch.what));
        for request in names(mismatch) {
            out.line(format!("    {request}"));
        }
    }
    out.next("keep a copy of the data directory and report this with the lines above: it must not happen");
    Ok(())
}
