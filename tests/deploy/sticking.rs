//! A client comes back to its node, and goes elsewhere when that is gone.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use crate::{
    balancer::Kind,
    browser::Browser,
    nodes::{NAMES, Nodes},
    support::eventually,
};

/// A browser that counts as fast as it can, until it is told to stop.
struct Running {
    home: String,
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    failed: Arc<Mutex<Option<String>>>,
    thread: JoinHandle<(Browser, BTreeSet<String>)>,
}

impl Running {
    fn start(mut browser: Browser, home: String) -> Self {
        let (done, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let failed = Arc::<Mutex<Option<String>>>::default();
        let (counted, stopped, told) = (done.clone(), stop.clone(), failed.clone());
        let thread = thread::spawn(move || {
            let mut nodes = BTreeSet::new();
            while !stopped.load(Ordering::SeqCst) {
                match browser.send("POST", "/count") {
                    Ok(answer) if answer.status == 200 => {
                        nodes.insert(answer.json()["node"].as_str().expect("a name").to_owned());
                        counted.fetch_add(1, Ordering::SeqCst);
                    }
                    other => {
                        *told.lock().unwrap() = Some(format!("after {counted:?} at {nodes:?}: {other:?}"));
                        break;
                    }
                }
            }
            (browser, nodes)
        });
        Self { home, done, stop, failed, thread }
    }
}

/// Waits until every browser has counted on.
fn all_go_on(running: &[Running]) {
    let before: Vec<u64> = running.iter().map(|one| one.done.load(Ordering::SeqCst)).collect();
    eventually("every browser to go on", || {
        for one in running {
            assert_eq!(*one.failed.lock().unwrap(), None, "a client of {}", one.home);
        }
        let more = running.iter().zip(&before).all(|(one, before)| one.done.load(Ordering::SeqCst) >= before + 10);
        more.then_some(())
    });
}

/// A new client whose node is this one, logged in by its name.
fn at_home(url: &str, node: &str, what: &str) -> Browser {
    eventually(what, || {
        let mut browser = Browser::new(url);
        (browser.node() == node).then(|| browser.log_in(node)).map(|()| browser)
    })
}

fn sticks_and_moves(kind: Kind) {
    let mut nodes = Nodes::start(&kind.notice());
    let balancer = kind.start(nodes.addresses());
    let url = balancer.url();
    let mut browsers: Vec<(Browser, &str)> = Vec::new();
    for node in NAMES.into_iter().cycle().take(6) {
        browsers.push((at_home(&url, node, "a client at every node"), node));
    }
    for (browser, home) in &mut browsers {
        let seen: BTreeSet<String> = (0..10).map(|_| browser.node()).collect();
        assert_eq!(seen, BTreeSet::from([(*home).to_owned()]), "it comes back");
    }

    let running: Vec<Running> =
        browsers.into_iter().map(|(browser, home)| Running::start(browser, home.to_owned())).collect();
    all_go_on(&running);
    nodes.drain(1);
    all_go_on(&running);
    nodes.restart(1);
    let mut back = at_home(&url, NAMES[1], "the node that came back to be used");
    assert!((0..10).all(|_| back.node() == NAMES[1]), "its clients stay");
    all_go_on(&running);
    // What was on its way by then has been answered.
    running.iter().for_each(|one| one.stop.store(true, Ordering::SeqCst));
    for one in running {
        let (mut browser, seen) = one.thread.join().expect("it ends");
        assert_eq!(*one.failed.lock().unwrap(), None, "a client of {}", one.home);
        let moved = one.home == NAMES[1];
        assert_eq!(seen.contains(&one.home) && seen.len() == 1, !moved, "{}: {seen:?}", one.home);
        let who = browser.who();
        assert_eq!(who["user"], one.home.as_str(), "logged in all the time");
        assert_eq!(who["n"], one.done.load(Ordering::SeqCst), "every request counted, once");
        assert!(!moved || who["node"] != NAMES[1], "it stays where it went");
    }

    // Without a warning, too: whoever only reads goes elsewhere at once.
    let mut bob = at_home(&url, NAMES[2], "a client at the last node");
    nodes.kill(2);
    assert_ne!(bob.node(), NAMES[2]);
    assert_eq!(bob.who()["user"], NAMES[2]);
}

#[test]
fn behind_haproxy_a_client_keeps_its_node_until_that_drains() {
    sticks_and_moves(Kind::Haproxy);
}

#[test]
fn behind_nginx_a_client_keeps_its_node_until_that_drains() {
    sticks_and_moves(Kind::Nginx);
}
