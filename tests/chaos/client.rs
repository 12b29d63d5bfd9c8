//! One client: tells accounts what its script says, repeats each telling under the same
//! `Idempotency-Key` on another node until it is promised, and writes down what it heard.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    PACE,
    command::{Command, GO, Receipt, Telling},
    history::{Event, History, now},
    later::{Later, What},
    scenario::Scenario,
    script::{Script, Task},
    stage::{Curtain, Stage},
    support::{Answer, Client, Random},
};

/// The longest a client waits for one answer, beyond what it asked to wait.
const ANSWER: Duration = Duration::from_secs(5);
/// The longest a client tries to be promised one thing.
const PROMISE: Duration = Duration::from_secs(120);
/// What `Prefer: wait` asks for, in seconds.
const WAIT: u64 = 2;

/// Tells its script at its pace until the stage closes; leaves nothing half-told.
pub(crate) fn run(seed: u64, number: u64, scenario: &Scenario, stage: &Stage, history: &History) {
    let _curtain = Curtain(stage);
    let forgets = scenario.kinds.iter().any(|kind| kind.loses()) && scenario.accept == "memory";
    let mut script = Script::of(seed, number, scenario.clocks);
    let mut talk = Talk::new(stage, history, seed ^ number);
    let mut due = Instant::now();
    let (mut later, mut payments) = (Later::default(), Vec::new());
    while !stage.closed() {
        let task = script.next();
        if let Some((request, _)) = talk.tell(&task)
            && task.is_payment()
        {
            payments.push((task.command.mark().to_owned(), request.clone()));
            later.add(&task, request);
        }
        while let Some((what, mark, request)) = later.due() {
            talk.follow(what, &mark, &request);
        }
        // Whoever was held up does not catch up: it would be a herd.
        due = (due + PACE).max(Instant::now());
        stage.rest(due);
    }
    for (what, mark, request) in later.rest() {
        talk.follow(what, &mark, &request);
    }
    // A signal may be among what Redis forgot: its payment still waits, and says so.
    for (mark, request) in payments.into_iter().filter(|_| forgets) {
        if talk.waits(&request) {
            talk.signal(&mark, &request);
        }
    }
}

/// Connections to all nodes, and the promises heard over them.
pub(crate) struct Talk<'a> {
    stage: &'a Stage,
    history: &'a History,
    random: Random,
    clients: HashMap<String, Client>,
}

impl<'a> Talk<'a> {
    pub(crate) fn new(stage: &'a Stage, history: &'a History, seed: u64) -> Self {
        Self { stage, history, random: Random::seeded(seed), clients: HashMap::new() }
    }

    /// Tells one thing, until it is promised; answers the id and how it ended, if that was said.
    pub(crate) fn tell(&mut self, task: &Task) -> Option<(String, Option<String>)> {
        let after_ms = task.after.map(|after| after.as_millis() as u64);
        let telling = Telling { command: task.command.clone(), after_ms };
        let body = serde_json::to_string(&telling).expect("a telling is JSON");
        let (account, command) = (task.account.clone(), task.command.clone());
        self.history.write(&Event::Sent { account, command, after_ms, at: now() });
        let promise = self.promise(task, &body)?;
        if task.cancel && !task.is_payment() {
            self.cancel(task.command.mark(), &promise.0);
        }
        if task.repeat {
            // Even when the first answer was heard, asking again must be the same promise; but where Redis forgot that
            // one, it is a new one, and that is what goes on.
            return self.promise(task, &body).or(Some(promise));
        }
        Some(promise)
    }

    fn promise(&mut self, task: &Task, body: &str) -> Option<(String, Option<String>)> {
        let kind = if task.is_payment() { "payments" } else { "accounts" };
        let path = format!("/{kind}/{}/commands", task.account);
        let mark = task.command.mark().to_owned();
        let wait = format!("wait={WAIT}");
        let mut headers = vec![("content-type", "application/json"), ("idempotency-key", mark.as_str())];
        if task.wait {
            headers.push(("prefer", &wait));
        }
        let (began, mut tries) = (Instant::now(), 0);
        while !self.stage.abandoned() {
            tries += 1;
            match self.send("POST", &path, &headers, Some(body)) {
                Some(answer) => match promised(&answer) {
                    Some((request, ended, of)) => {
                        self.stage.promised();
                        let heard = (request.clone(), ended.clone());
                        self.history.write(&Event::Promised { mark, request, tries, ended, of, at: now() });
                        return Some(heard);
                    }
                    None => {
                        let Answer { status, text, .. } = answer;
                        self.history.write(&Event::Refused { mark, status, text, at: now() });
                        return None;
                    }
                },
                None if began.elapsed() > PROMISE => {
                    self.history.write(&Event::GivenUp { mark, tries, at: now() });
                    return None;
                }
                // Told again, to any node. Not at once: it is down or overloaded.
                None => std::thread::park_timeout(Duration::from_millis(1 << tries.min(6))),
            }
        }
        None
    }

    /// Tries to cancel a request, until it is known how it stands.
    fn cancel(&mut self, mark: &str, request: &str) {
        let (began, path) = (Instant::now(), format!("/requests/{request}"));
        let mut tries = 0;
        self.history.write(&Event::Cancelling { mark: mark.to_owned(), request: request.to_owned(), at: now() });
        while began.elapsed() < PROMISE && !self.stage.abandoned() {
            tries += 1;
            if let Some(answer) = self.send("DELETE", &path, &[], None) {
                // It has begun, and is asked to end: how it will is not known.
                let json = match answer.status {
                    202 => json!({ "state": "processing" }),
                    410 => json!({ "state": "lost" }),
                    _ => answer.json(),
                };
                // In a problem `status` is the number, and how it stands is called `state`.
                let state = json["state"].as_str().or(json["status"].as_str()).unwrap_or("unknown").to_owned();
                let (mark, done) = (mark.to_owned(), answer.status == 200);
                self.history.write(&Event::Cancelled { mark, done, state, tries, at: now() });
                return;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Does what was left for later: a payment's signal, or cancelling it.
    fn follow(&mut self, what: What, mark: &str, request: &str) {
        match what {
            What::Cancel => self.cancel(mark, request),
            What::Signal => self.signal(mark, request),
        }
    }

    /// Posts a payment's signal, until it is known that it was taken or that the payment has ended.
    fn signal(&mut self, mark: &str, request: &str) {
        let (began, path, body) =
            (Instant::now(), format!("/payments/signals/{request}.{GO}"), json!(mark).to_string());
        self.history.write(&Event::Signalling { mark: mark.to_owned(), request: request.to_owned(), at: now() });
        let (mut tries, mut status) = (0, 0);
        while status == 0 && began.elapsed() < PROMISE && !self.stage.abandoned() {
            tries += 1;
            match self.send("POST", &path, &[("content-type", "application/json")], Some(&body)) {
                Some(answer) => status = answer.status,
                None => std::thread::park_timeout(Duration::from_millis(20)),
            }
        }
        self.history.write(&Event::Signalled { mark: mark.to_owned(), status, tries, at: now() });
    }

    /// Whether a request has not ended.
    fn waits(&mut self, request: &str) -> bool {
        let began = Instant::now();
        while began.elapsed() < PROMISE && !self.stage.abandoned() {
            if let Some(answer) = self.send("GET", &format!("/requests/{request}"), &[], None) {
                return answer.status == 200
                    && ["accepted", "processing"].map(Some).contains(&answer.json()["status"].as_str());
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        false
    }

    /// Asks any node; `None` when there is no answer, or one that says to try again.
    fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Option<Answer> {
        let nodes = self.stage.nodes();
        let base = nodes.get(self.random.below(nodes.len() as u64) as usize)?;
        let patience = ANSWER + Duration::from_secs(WAIT);
        let client = self.clients.entry(base.clone()).or_insert_with(|| Client::patient(base, patience));
        let answer = client.send(method, path, headers, body.map(str::as_bytes)).ok()?;
        (answer.status != 429 && answer.status < 500).then_some(answer)
    }
}

impl Task {
    /// Whether it is for a payer.
    fn is_payment(&self) -> bool {
        matches!(self.command, Command::Pay(_))
    }
}

/// The id, the end and the command whose result it is in an answer that means "accepted".
fn promised(answer: &Answer) -> Option<(String, Option<String>, Option<String>)> {
    let json: serde_json::Value = serde_json::from_str(&answer.text).ok()?;
    let request = json["request"].as_str()?.to_owned();
    let state = json["state"].as_str().or(json["status"].as_str())?;
    let ended = (!matches!(state, "accepted" | "processing")).then(|| state.to_owned());
    let result: Option<Receipt> = serde_json::from_value(json["result"].clone()).ok();
    Some((request, ended, result.map(|receipt| receipt.mark)))
}
