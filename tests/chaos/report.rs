//! What a run was, in numbers: for whoever ran it, and as `docs/RELIABILITY.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    LEASE,
    check::{Case, Evidence, Violation},
    command::{Command, What},
    history::Event,
    killer::Deeds,
    takeover::Takeover,
};

/// What was run.
pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) lasted: Duration,
    pub(crate) clients: u64,
    pub(crate) nodes: usize,
    pub(crate) false_starts: u32,
}

/// A table in markdown.
type Rows = Vec<(String, String)>;

/// Everything as markdown.
pub(crate) fn markdown(run: &Run, deeds: &Deeds, evidence: &Evidence, violations: &[Violation]) -> String {
    let seconds = run.lasted.as_secs();
    let sections = [
        ("What was done", done(run, deeds)),
        (
            "What went wrong on purpose",
            deeds.faults.iter().map(|(kind, n)| ((*kind).to_owned(), n.to_string())).collect(),
        ),
        ("What became of the promises", outcomes(evidence)),
        ("What became of the workflows", workflows(evidence)),
        ("What clients saw", seen(evidence, &deeds.takeovers)),
        ("What the checker found", vec![("violations".to_owned(), violations.len().to_string())]),
    ];
    let mut text = format!(
        "# Reliability\n\n\
         Written by `make chaos` (`CHAOS_SECONDS={seconds} CHAOS_SEED={seed}`): {nodes} nodes on a Redis that answers\n\
         after its fsync and a MongoDB replica set, each behind a proxy, on one machine with {cores} cores, unoptimised\n\
         build. Clients write, processes are killed and networks broken, and afterwards a checker that knows nothing of\n\
         the runtime holds the clients' own history against every request, every actor's state and the ledger\n\
         (`tests/chaos`).\n",
        seed = run.seed,
        nodes = run.nodes,
        cores = std::thread::available_parallelism().map_or(0, usize::from),
    );
    for (title, rows) in sections {
        text += &format!("\n## {title}\n\n| | |\n|---|---:|\n");
        rows.into_iter().for_each(|(name, value)| text += &format!("| {name} | {value} |\n"));
    }
    text
}

fn row(name: impl Into<String>, value: impl ToString) -> (String, String) {
    (name.into(), value.to_string())
}

fn done(run: &Run, deeds: &Deeds) -> Rows {
    vec![
        row("under load", format!("{} s", run.lasted.as_secs())),
        row("clients", run.clients),
        row("lease", format!("{} s", LEASE.as_secs())),
        row("rounds of faults", deeds.rounds),
        row("faults", deeds.faults.values().sum::<u32>()),
        row("starts of a node that failed, a server being away", run.false_starts),
    ]
}

fn outcomes(evidence: &Evidence) -> Rows {
    let case = Case::of(evidence);
    let promised = || case.told.values().filter(|told| told.request.is_some());
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    promised().for_each(|told| *ends.entry(told.status()).or_default() += 1);
    let of = |is: fn(&Command) -> bool| promised().filter(|told| told.completed() && is(told.command)).count();
    let mut rows = vec![row("promises (202)", promised().count())];
    rows.extend(ends.into_iter().map(|(end, count)| row(end, count)));
    rows.push(row("transfers between actors", of(|command| matches!(command, Command::Send { .. }))));
    rows.push(row("timers", of(|command| matches!(command, Command::Later { .. } | Command::Ring { .. }))));
    rows.push(row("retried after an error", of(|command| matches!(command, Command::Flaky { .. }))));
    rows.push(row("actors", evidence.accounts.len()));
    rows.push(row("messages in the ledger", &evidence.ledger["accepted"]));
    rows
}

/// Payments, and what they did.
fn workflows(evidence: &Evidence) -> Rows {
    let case = Case::of(evidence);
    let payments =
        || case.told.values().filter(|told| told.request.is_some() && matches!(told.command, Command::Pay(_)));
    let ended = |status: &str| payments().filter(|told| told.status() == status).count();
    let calls = &evidence.calls;
    let mut keys: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for called in calls {
        let (times, lost) = keys.entry(&called.call.key).or_default();
        (*times, *lost) = (*times + 1, *lost + usize::from(called.lost));
    }
    let refunds: BTreeSet<&str> =
        calls.iter().filter(|called| called.call.what == "refund").map(|called| &*called.call.key).collect();
    let asked = |kinds: &[What]| {
        let tapes = evidence.accounts.values().flat_map(|held| &held.tape);
        let of_payments = tapes.filter(|entry| kinds.contains(&entry.what)).filter_map(|entry| {
            let told = case.told.get(entry.mark.as_str())?;
            matches!(told.command, Command::Pay(pay) if entry.what != What::Paid || pay.apart).then_some(())
        });
        of_payments.count()
    };
    let signals = |taken: fn(u16) -> bool| {
        let events = evidence.history.iter();
        events.filter(|event| matches!(event, Event::Signalled { status, .. } if taken(*status))).count()
    };
    vec![
        row("workflows (payments)", payments().count()),
        row("completed", ended("completed")),
        row("failed in the end, and undone", ended("failed")),
        row("cancelled, and undone as far as they had come", ended("cancelled")),
        row("steps at a vendor (idempotency keys)", keys.len()),
        row("calls of the vendor", calls.len()),
        row("calls that the vendor did not answer on purpose", calls.iter().filter(|called| called.lost).count()),
        row("steps called again because of a fault", keys.values().filter(|(times, lost)| *times > 1 + lost).count()),
        row("most calls of one step beyond answers lost", keys.values().map(|(n, lost)| n - lost).max().unwrap_or(0)),
        row("effects of a step beyond one", case.evidence.effects_beyond_one()),
        row("questions to actors", asked(&[What::Received, What::Returned, What::Paid])),
        row("signals taken", signals(|status| status < 300)),
        row("signals for what had ended", signals(|status| status >= 300)),
        row("compensations at the vendor", refunds.len()),
        row("compensations at actors", asked(&[What::Returned])),
    ]
}

fn seen(evidence: &Evidence, takeovers: &[Takeover]) -> Rows {
    let case = Case::of(evidence);
    let mut waits: Vec<Duration> = Vec::new();
    let mut moments: Vec<i64> = Vec::new();
    let mut repeated = 0;
    for told in case.told.values() {
        let promise = told.events.iter().find_map(|event| match event {
            Event::Promised { tries, at, .. } => Some((*tries, *at)),
            _ => None,
        });
        let Some((tries, at)) = promise else { continue };
        waits.push(Duration::from_millis((at - told.sent).max(0) as u64));
        moments.push(at);
        repeated += u32::from(tries > 1);
    }
    moments.sort_unstable();
    let gap = moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
    let taken: Vec<Duration> = takeovers.iter().map(|takeover| takeover.took).collect();
    vec![
        row("promises that took more than one try", repeated),
        row("until promised, tries included: median / p99 / longest", distribution(waits)),
        row("longest time in which no client was promised anything", format!("{:.2} s", gap as f64 / 1000.0)),
        row("partitions taken over from a killed node (no server away)", taken.len()),
        row("from the kill to the first completed request: median / p99 / longest", distribution(taken)),
    ]
}

/// Median, 99th percentile and maximum.
pub(crate) fn distribution(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
    match (at(50), at(99), times.last()) {
        (Some(median), Some(p99), Some(most)) => {
            format!("{:.3} / {:.3} / {:.3} s", median.as_secs_f64(), p99.as_secs_f64(), most.as_secs_f64())
        }
        _ => "–".to_owned(),
    }
}
