//! `partitions resize`: changes how many partitions a store has, while no node serves it. Whatever is
//! shown before anything is asked is what would happen, and interrupting it is safe.

use std::{
    io::{IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
};

use clap::Args;

use super::{
    Context, Verdict,
    output::{Tone, table},
    sure::sure,
    trouble::Trouble,
};
use crate::{
    backend::cluster::{Cluster, Doing, Moves, Progress, Resize as Order, Resized},
    config::Kind,
    feature::Feature,
};

/// Change how many partitions a cluster store has; offline, every message moves
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  greenroom partitions resize 64 --dry-run   what would move, and where to; changes nothing
  greenroom partitions resize 64             asks, then does it
  greenroom partitions resize 64 --yes       does it, or goes on where it was interrupted

Stop every node first, and set store.partitions of all of them before they start again. Request ids,
idempotency keys and the order of each key's messages stay as they are. Killed half way it has lost
nothing: no node starts until the same command has finished.")]
pub(super) struct Resize {
    /// How many there are to be
    #[arg(value_parser = clap::value_parser!(u16).range(1..=i64::from(crate::request::MAX_PARTITIONS)))]
    partitions: u16,
    /// Show what would move, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

impl Resize {
    pub(super) fn run(self, cx: &Context) -> Result<Verdict, Trouble> {
        let (config, features) = cx.load(Vec::new())?;
        if config.store.kind == Kind::Embedded {
            return Err(Trouble::new("the embedded store cannot be resized yet: its partitions are fixed").help(
                "let the server finish what waits (`greenroom partitions --busy` shows it) and stop it, then start \
                 it with a new data directory and the new store.partitions; results and states stay in the old one",
            ));
        }
        let plan = Cluster::plan_resize(config.store.cluster(), self.partitions)?;
        if self.dry_run {
            return show(cx, &plan, true);
        }
        if !self.yes {
            let what = format!("resizing from {} to {} moves {} messages", plan.from, plan.to, sum(&plan, moving));
            let warning = format!("{what}, and no node may run meanwhile");
            sure(&warning, &format!("{warning}. Go on?"))?;
        }
        let mut order = Order::new(self.partitions, kinds(&features));
        if std::io::stderr().is_terminal() && !cx.out.json {
            order.step = told();
        }
        let resized = Cluster::resize(config.store.cluster(), order).map_err(|error| {
            let again = !error.has_code("not_resized");
            let trouble = Trouble::from(error);
            match again {
                true => trouble.help("the same command goes on where it stopped; until then no node starts"),
                false => trouble,
            }
        })?;
        show(cx, &resized, false)
    }
}

fn kinds(features: &[Feature]) -> Vec<(String, bool)> {
    let kinds = features.iter().flat_map(|feature| &feature.kinds);
    kinds.map(|kind| (kind.name().to_owned(), kind.stateful())).collect()
}

/// Says on standard error what is being done, each thing once.
fn told() -> Arc<dyn Fn(Progress) -> crate::Result<()> + Send + Sync> {
    let last = Mutex::new(None);
    Arc::new(move |progress| {
        let now = (words(progress.doing), progress.partition);
        if last.lock().unwrap_or_else(PoisonError::into_inner).replace(now) != Some(now) {
            // Whoever closed standard error does not want to know.
            let _ = writeln!(std::io::stderr(), "{} (partition {})", now.0, now.1);
        }
        Ok(())
    })
}

fn words(doing: Doing) -> &'static str {
    match doing {
        Doing::Joining | Doing::Marking => "looking for nodes",
        Doing::Fencing => "taking partitions",
        Doing::Delivering => "delivering what is on its way",
        Doing::Finishing => "finishing commits",
        Doing::Departing | Doing::Copying | Doing::Removing | Doing::Keys | Doing::Fences => "moving messages",
        Doing::Settling | Doing::Counting => "letting partitions go",
    }
}

fn sum(plan: &Resized, of: impl Fn(&Moves) -> u64) -> u64 {
    plan.partitions.iter().map(of).sum()
}

fn moving(moves: &Moves) -> u64 {
    moves.to.values().sum()
}

fn show(cx: &Context, plan: &Resized, dry: bool) -> Result<Verdict, Trouble> {
    let out = &cx.out;
    if out.json {
        out.value(plan)?;
        return Ok(Verdict::Fine);
    }
    let busy: Vec<&Moves> =
        plan.partitions.iter().filter(|moves| moving(moves) + moves.stay + moves.keys > 0).collect();
    if !busy.is_empty() {
        let head = ["PARTITION", "MAILBOX", "DEFERRED", "DEAD", "KEYS", "STAY", "TO"].map(str::to_owned).to_vec();
        let rows: Vec<Vec<String>> = std::iter::once(head).chain(busy.into_iter().map(row)).collect();
        for (i, line) in table(&rows).iter().enumerate() {
            out.line(if i == 0 { out.tone(Tone::Dim, line) } else { line.clone() });
        }
        out.line("");
    }
    let (from, to, count) = (plan.from, plan.to, sum(plan, moving));
    if !dry {
        let again = if plan.continued { " since it was interrupted" } else { "" };
        out.line(format!("{} {from} → {to} partitions, {count} messages moved{again}.", out.tone(Tone::Good, "Done.")));
        out.next(format!("set store.partitions = {to} everywhere, then greenroom serve"));
        return Ok(Verdict::Fine);
    }
    let again = if plan.continued { "An interrupted resize would be finished" } else { "Nothing was changed" };
    out.line(format!("{from} → {to} partitions would move {count} messages. {again}."));
    for member in &plan.members {
        let at = member.info.listen.as_deref().unwrap_or("without a gateway");
        out.line(format!("  stop node {} first: {at}, process {}", member.id, member.info.pid));
    }
    out.next(format!("greenroom partitions resize {to}, when no node runs"));
    Ok(Verdict::Fine)
}

fn row(moves: &Moves) -> Vec<String> {
    const MOST: usize = 8;
    let mut to: Vec<String> = moves.to.iter().take(MOST).map(|(to, count)| format!("{to}: {count}")).collect();
    if moves.to.len() > MOST {
        to.push(format!("{} more", moves.to.len() - MOST));
    }
    let counts = [moves.mailbox, moves.deferred, moves.dead, moves.keys, moves.stay];
    let mut row = vec![moves.partition.to_string()];
    row.extend(counts.iter().map(u64::to_string));
    row.push(to.join(", "));
    row
}
