//! How long the keys of a killed node are without an owner (G9): one probe a partition, asked from
//! the moment of the kill until it completes on another node.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use greenroom::Address;

use crate::{
    client::Talk,
    command::Command,
    history::History,
    nodes::Nodes,
    script::Task,
    stage::Stage,
    support::{Client, PATIENCE},
};

/// As in `config.toml`.
pub(crate) const PARTITIONS: u16 = 16;

/// One partition of a killed node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Takeover {
    pub(crate) partition: u16,
    /// From the kill to the first completed request.
    pub(crate) took: Duration,
}

/// Asks, under names of its own.
pub(crate) struct Prober<'a> {
    stage: &'a Stage,
    history: &'a History,
    /// An account in each partition.
    accounts: HashMap<u16, String>,
    asked: AtomicU64,
}

impl<'a> Prober<'a> {
    pub(crate) fn new(stage: &'a Stage, history: &'a History) -> Self {
        let mut accounts = HashMap::new();
        for number in 0.. {
            let account = format!("probe-{number}");
            let address = Address::new("account", &account).expect("an address");
            accounts.entry(address.partition(PARTITIONS)).or_insert(account);
            if accounts.len() == usize::from(PARTITIONS) {
                break;
            }
        }
        Self { stage, history, accounts, asked: AtomicU64::new(0) }
    }

    /// An account of the partition.
    pub(crate) fn account(&self, partition: u16) -> &str {
        &self.accounts[&partition]
    }

    /// A number that no earlier mark has.
    pub(crate) fn another(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Kills the node in `slot` and measures, for each of its partitions; an error for each that is not served.
    pub(crate) fn measure(&self, slot: usize, nodes: &mut Nodes<'_>) -> Vec<Result<Takeover, String>> {
        let partitions = nodes.partitions(slot);
        nodes.kill(slot);
        let killed = Instant::now();
        let (this, number) = (self, self.another());
        thread::scope(|scope| {
            let probes: Vec<_> = partitions
                .into_iter()
                .map(|partition| {
                    scope.spawn(move || {
                        this.probe(partition, number)?;
                        Ok(Takeover { partition, took: killed.elapsed() })
                    })
                })
                .collect();
            probes.into_iter().map(|probe| probe.join().expect("it is asked for")).collect()
        })
    }

    /// Tells an account of the partition something and waits until it is done.
    fn probe(&self, partition: u16, number: u64) -> Result<(), String> {
        let mark = format!("p{partition}-{number}");
        let task = Task::of(self.account(partition), Command::Note { mark });
        let mut talk = Talk::new(self.stage, self.history, u64::from(partition) ^ number);
        let promise = talk.tell(&task);
        let (request, _) = promise.ok_or_else(|| format!("the probe of partition {partition} was not promised"))?;
        let nodes = self.stage.nodes();
        let clients: Vec<Client> = nodes.iter().map(|node| Client::patient(node, Duration::from_secs(5))).collect();
        let path = format!("/requests/{request}");
        let mut turn = clients.iter().cycle();
        let deadline = Instant::now() + PATIENCE;
        // Asked again and again: whether a client that waits is told in time is another question.
        while Instant::now() < deadline {
            let answer = turn.next().and_then(|client| client.send("GET", &path, &[], None).ok());
            if answer.is_some_and(|answer| answer.status == 200 && answer.json()["status"] == "completed") {
                return Ok(());
            }
            thread::park_timeout(Duration::from_millis(5));
        }
        Err(format!("partition {partition} is not served {PATIENCE:?} after a kill: {request} has not completed"))
    }
}
