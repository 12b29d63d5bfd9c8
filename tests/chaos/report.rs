//! What a run was, in numbers: printed, and as a section of `docs/RELIABILITY.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use crate::{
    LEASE,
    check::{Case, Evidence, Violation},
    command::{Command, What},
    history::Event,
    killer::Deeds,
    scenario::Scenario,
};

/// What was run.
pub(crate) struct Run {
    pub(crate) scenario: Scenario,
    pub(crate) seed: u64,
    /// The time that all scenarios together have.
    pub(crate) all: Duration,
    pub(crate) lasted: Duration,
    pub(crate) clients: u64,
    pub(crate) nodes: usize,
    pub(crate) false_starts: u32,
}

/// A table in markdown.
type Rows = Vec<(String, String)>;

/// Writes a scenario's section into the report, among those that are there: each is run on its own.
pub(crate) fn write(path: &Path, run: &Run, section: Option<&str>) {
    let before = fs::read_to_string(path).unwrap_or_default();
    let heading = |scenario: &Scenario| format!("## {}\n", scenario.title);
    let mut text = format!(
        "# Reliability\n\n\
         Written by `make chaos` (`CHAOS_SECONDS={all} CHAOS_SEED={seed}`, of which each section below has its share):\n\
         {nodes} nodes on one machine with {cores} cores, unoptimised build. Clients write, processes are killed and\n\
         networks broken, and afterwards a checker that knows nothing of the runtime holds the clients' own history\n\
         against every request, every actor's state and the ledger (`tests/chaos`).\n",
        all = run.all.as_secs(),
        seed = run.seed,
        nodes = run.nodes,
        cores = std::thread::available_parallelism().map_or(0, usize::from),
    );
    for scenario in Scenario::ALL {
        let there = before.split_inclusive('\n').skip_while(|line| *line != heading(&scenario));
        let there = there.enumerate().take_while(|(at, line)| *at == 0 || !line.starts_with("## "));
        let old: String = there.map(|(_, line)| line).collect();
        let section = if scenario.title == run.scenario.title { section.unwrap_or_default() } else { old.trim_end() };
        if !section.is_empty() {
            text += &format!("\n{}\n", section.trim_end());
        }
    }
    fs::write(path, text).expect("written");
}

/// What a run was, as markdown.
pub(crate) fn section(run: &Run, deeds: &Deeds, evidence: &Evidence, violations: &[Violation]) -> String {
    let sections = [
        ("What was done", done(run, deeds)),
        ("What went wrong on purpose", deeds.faults.iter().map(|(kind, n)| (kind.clone(), n.to_string())).collect()),
        ("What became of the promises", outcomes(evidence)),
        ("What became of the workflows", workflows(evidence)),
        ("What clients saw", seen(evidence, deeds)),
        ("What the checker found", vec![row("violations", violations.len())]),
    ];
    let mut text = format!("## {}\n\nOn {}.\n", run.scenario.title, run.scenario.on);
    for (title, rows) in sections {
        text += &format!("\n### {title}\n\n| | |\n|---|---:|\n");
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
    let drops = evidence.accounts.values().flat_map(|held| held.drops.values()).map(|drops| drops.number);
    rows.push(row("messages from large outboxes", drops.sum::<u64>()));
    if !evidence.losses.is_empty() {
        let of_loss = case.told.values().filter(|told| case.exposed(told)).count();
        rows.push(row("times at which Redis forgot something", evidence.losses.len()));
        rows.push(row("promises that such a time may have touched", of_loss));
        rows.push(row("lost according to the ledger", &evidence.ledger["lost"]));
    }
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

fn seen(evidence: &Evidence, deeds: &Deeds) -> Rows {
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
    let taken: Vec<Duration> = deeds.takeovers.iter().map(|takeover| takeover.took).collect();
    let mut rows = vec![
        row("promises that took more than one try", repeated),
        row("until promised, tries included: median / p99 / longest", distribution(waits)),
        row("longest time in which no client was promised anything", format!("{:.2} s", gap as f64 / 1000.0)),
        row("partitions taken over from a killed node (no server away)", taken.len()),
        row("from the kill to the first completed request: median / p99 / longest", distribution(taken)),
    ];
    let kept = deeds
        .stalls
        .iter()
        .map(|rates| format!("{:.0} % ({})", rates.kept() * 100.0, rates.partitions))
        .collect::<Vec<_>>();
    if !kept.is_empty() {
        rows.push(row(
            "what other masters' partitions (so many) kept of their rate while one stood still",
            kept.join(", "),
        ));
    }
    rows
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
