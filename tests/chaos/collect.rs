//! When all is over: waits until nothing is in flight, and reads everything the checker needs, over
//! HTTP and by the command line.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    check::Evidence,
    command::{Account, Command, drop_of},
    history::Event,
    servers::Servers,
    support::{Answer, Client, PATIENCE, server::Setup},
};

/// Threads that read.
const READERS: usize = 6;
/// The longest until everything that was promised has ended, when nothing goes wrong any more.
const SETTLE: Duration = Duration::from_secs(120);

/// Reads it all from these nodes.
pub(crate) fn evidence(history: Vec<Event>, nodes: &[String], setup: &Setup, servers: &Servers) -> Evidence {
    let ledger = settled(&nodes[0], servers);
    let mut requests = BTreeSet::new();
    let mut accounts = BTreeSet::from(["/accounts/leak".to_owned()]);
    for event in &history {
        match event {
            Event::Promised { request, .. } => _ = requests.insert(request.clone()),
            Event::Sent { account, command, .. } => {
                let (kind, to) = match command {
                    Command::Pay(pay) => ("payments", Some(&pay.to)),
                    Command::Send { to, .. } => ("accounts", Some(to)),
                    _ => ("accounts", None),
                };
                if let Command::Scatter { over, .. } = command {
                    accounts.extend((0..*over).map(|index| format!("/accounts/{}", drop_of(index, *over))));
                }
                accounts.insert(format!("/{kind}/{account}"));
                accounts.extend(to.map(|to| format!("/accounts/{to}")));
            }
            _ => {}
        }
    }
    let requests = read(nodes, requests, |client, request| {
        let answer = get(client, &format!("/requests/{request}"));
        match answer.status {
            200 => answer.json(),
            status => json!({ "http": status, "answer": answer.text }),
        }
    });
    let accounts = read(nodes, accounts, |client, account| -> Account {
        let answer = get(client, account).expect(200);
        serde_json::from_str(&answer.text).expect("an account")
    });
    let (code, audit) = setup.audit();
    println!("audit (exit code {code:?}): {audit}");
    Evidence {
        history,
        requests: requests.into_iter().collect(),
        accounts: accounts
            .into_iter()
            .filter_map(|(path, held)| Some((path.rsplit_once('/')?.1.to_owned(), held)))
            .collect(),
        ledger,
        audit,
        ..Evidence::default()
    }
}

/// The ledger, once nothing is in flight; as it is when that never comes.
fn settled(node: &str, servers: &Servers) -> Value {
    let client = Client::new(node);
    let began = Instant::now();
    loop {
        let ledger = get(&client, "/admin/ledger").expect(200).json();
        if ledger["in_flight"] == 0 {
            println!("nothing is in flight {:.1} s after the last command", began.elapsed().as_secs_f64());
            return ledger;
        }
        if began.elapsed() > SETTLE {
            println!("something is in flight {SETTLE:?} after the last command: {ledger}\n{}", servers.waiting());
            return ledger;
        }
        thread::park_timeout(Duration::from_millis(50));
    }
}

/// Asks until there is an answer that is not "later".
fn get(client: &Client, path: &str) -> Answer {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let why = match client.send("GET", path, &[], None) {
            Ok(answer) if answer.status < 500 && answer.status != 429 => return answer,
            Ok(answer) => answer.text,
            Err(error) => error.to_string(),
        };
        assert!(Instant::now() < deadline, "GET {path}: {why}");
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// Reads something of each name, spread over all nodes.
fn read<T: Send>(
    nodes: &[String],
    names: BTreeSet<String>,
    one: impl Fn(&Client, &str) -> T + Sync,
) -> Vec<(String, T)> {
    let names: Vec<String> = names.into_iter().collect();
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(names.len())));
    thread::scope(|scope| {
        for reader in 0..READERS {
            let client = Client::new(&nodes[reader % nodes.len()]);
            let (names, next, found, one) = (&names, &next, &found, &one);
            scope.spawn(move || {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let value = one(&client, name);
                    found.lock().unwrap().push((name.clone(), value));
                }
            });
        }
    });
    found.into_inner().unwrap()
}
