//! `store`: the format of a store. `check` looks whether everything in it adds up, `upgrade` brings one that an
//! older build has left to this build's format.

use std::{
    io::{IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Context, Verdict,
    output::{Tone, table},
    sure::sure,
    target::wait,
    trouble::Trouble,
};
use crate::{
    app::inspect,
    backend::cluster::{Checked, Cluster, Found, Upgrade, Upgraded},
    config::{Config, Kind},
};

/// Check a store, or bring it to this build's format
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  greenroom store check                      does everything add up? changes nothing
  greenroom store check --json | jq .mismatches
  greenroom store upgrade --yes              brings a store of an older build to this format

Nodes of this build upgrade a cluster store by themselves when they start, while messages are accepted;
`upgrade` does it while none runs. Nodes of the older build must be stopped before either. Interrupted,
it has lost nothing: the same command, or a node, goes on where it stopped.")]
pub(super) struct StoreCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Hold counts, sequences and commits against each other; exits 1 when they do not add up
    Check,
    /// Bring a store to this build's format while no node serves it
    Upgrade {
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

impl StoreCommand {
    pub(super) fn run(self, cx: &Context) -> Result<Verdict, Trouble> {
        let (config, _) = cx.load(Vec::new())?;
        match (self.verb, config.store.kind) {
            (Verb::Check, Kind::Embedded) => check_embedded(cx, &config),
            (Verb::Check, Kind::Cluster) => checked(cx, &Cluster::check(config.store.cluster())?),
            (Verb::Upgrade { .. }, Kind::Embedded) => {
                if cx.out.json {
                    cx.out.value(&json!({ "partitions": [] }))?;
                } else {
                    cx.out.line("There is nothing to do: `greenroom serve` brings the file of an older build along.");
                }
                Ok(Verdict::Fine)
            }
            (Verb::Upgrade { yes }, Kind::Cluster) => {
                if !yes {
                    let warning = "no build of the older format can serve the store afterwards";
                    sure(warning, &format!("{warning}. Go on?"))?;
                }
                let mut upgrade = Upgrade::default();
                if std::io::stderr().is_terminal() && !cx.out.json {
                    upgrade.step = told();
                }
                upgraded(cx, &Cluster::upgrade(config.store.cluster(), upgrade)?)
            }
        }
    }
}

/// Says on standard error which partition is being carried, each once.
fn told() -> Arc<dyn Fn(u16) -> crate::Result<()> + Send + Sync> {
    let last = Mutex::new(None);
    Arc::new(move |partition| {
        if last.lock().unwrap_or_else(PoisonError::into_inner).replace(partition) != Some(partition) {
            // A closed standard error is no reason to stop.
            let _ = writeln!(std::io::stderr(), "partition {partition}");
        }
        Ok(())
    })
}

fn check_embedded(cx: &Context, config: &Config) -> Result<Verdict, Trouble> {
    let audit = wait(inspect(config)?.audit())?;
    if cx.out.json {
        cx.out.value(&json!({ "in_flight": audit.in_flight, "mismatches": audit.mismatches }))?;
    } else {
        mismatches(cx, &audit.mismatches);
    }
    Ok(if audit.balanced { Verdict::Fine } else { Verdict::Wrong })
}

fn checked(cx: &Context, checked: &Checked) -> Result<Verdict, Trouble> {
    let verdict = if checked.mismatches.is_empty() { Verdict::Fine } else { Verdict::Wrong };
    let out = &cx.out;
    if out.json {
        out.value(checked)?;
        return Ok(verdict);
    }
    let head = ["PARTITION", "FORMAT", "EPOCH", "IN FLIGHT", "DEAD", "OUTBOX", "HALF DONE"].map(str::to_owned);
    let rows: Vec<Vec<String>> = std::iter::once(head.to_vec()).chain(checked.partitions.iter().map(row)).collect();
    for (i, line) in table(&rows).iter().enumerate() {
        out.line(if i == 0 { out.tone(Tone::Dim, line) } else { line.clone() });
    }
    out.line("");
    if let Some(to) = checked.resizing {
        out.line(format!("The store is being resized to {to} partitions."));
    }
    if checked.half_done > 0 {
        out.line(format!("{} commits are half done: the next owner finishes them.", checked.half_done));
    }
    mismatches(cx, &checked.mismatches);
    if checked.partitions.iter().any(|found| found.format.starts_with('1')) {
        out.next("greenroom store upgrade, or start a node of this build");
    }
    Ok(verdict)
}

fn mismatches(cx: &Context, mismatches: &[crate::backend::Mismatch]) {
    let out = &cx.out;
    if mismatches.is_empty() {
        out.line(format!("{} Everything adds up.", out.tone(Tone::Good, "Fine.")));
        return;
    }
    out.line(format!("{} {} mismatches:", out.tone(Tone::Bad, "Wrong."), mismatches.len()));
    for mismatch in mismatches {
        out.line(format!("  partition {}: {}", mismatch.partition, mismatch.what));
    }
}

fn row(found: &Found) -> Vec<String> {
    let counts = [found.epoch, found.in_flight, found.dead, found.outbox, found.half_done];
    let mut row = vec![found.partition.to_string(), found.format.to_owned()];
    row.extend(counts.iter().map(u64::to_string));
    row
}

fn upgraded(cx: &Context, done: &Upgraded) -> Result<Verdict, Trouble> {
    let out = &cx.out;
    if out.json {
        out.value(done)?;
        return Ok(Verdict::Fine);
    }
    if done.partitions.is_empty() && done.from == done.to {
        out.line(format!("There is nothing to do: the store has format {}.", done.to));
        return Ok(Verdict::Fine);
    }
    for (partition, carried) in &done.partitions {
        out.line(format!("partition {partition}: {carried} entries carried"));
    }
    out.line(format!("{} The store has format {}.", out.tone(Tone::Good, "Done."), done.to));
    out.next("greenroom store check, then greenroom serve");
    Ok(Verdict::Fine)
}
