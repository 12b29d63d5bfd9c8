//! Load on a server, by oha: in the background, until it is stopped or done.

use std::{collections::BTreeMap, fs, time::Duration};

use rustix::process::Signal;
use serde::Deserialize;
use tempfile::TempDir;

use super::servers::process::Process;

/// What is sent, and for how long.
#[derive(Clone)]
pub struct Load {
    arguments: Vec<String>,
    url: String,
}

impl Load {
    /// `GET url`, with 10 connections.
    pub fn get(url: impl Into<String>) -> Self {
        // A request without an answer is an error, not a test that hangs.
        let arguments = ["--no-tui", "--output-format", "json", "-c", "10", "-t", "60s"];
        Self { arguments: arguments.map(str::to_owned).to_vec(), url: url.into() }
    }

    /// `POST url` with a JSON body.
    pub fn post(url: impl Into<String>, body: &serde_json::Value) -> Self {
        Self::get(url).with("-m", "POST").with("-T", "application/json").with("-d", &body.to_string())
    }

    /// With another header.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.with("-H", &format!("{name}: {value}"))
    }

    /// With so many connections at once.
    pub fn connections(mut self, connections: usize) -> Self {
        let at = self.arguments.iter().position(|argument| argument == "-c").expect("it has some");
        self.arguments[at + 1] = connections.to_string();
        self
    }

    /// So many requests a second at most.
    pub fn rate(self, per_second: u32) -> Self {
        self.with("-q", &per_second.to_string())
    }

    /// The URL is a regular expression, and each request goes to another one that matches it.
    pub fn random_url(mut self) -> Self {
        self.arguments.push("--rand-regex-url".into());
        self
    }

    /// A connection for each request.
    pub fn without_keep_alive(mut self) -> Self {
        self.arguments.push("--disable-keepalive".into());
        self
    }

    /// Any other option of oha.
    pub fn with(mut self, option: &str, value: &str) -> Self {
        self.arguments.extend([option.to_owned(), value.to_owned()]);
        self
    }

    /// Sends so many requests and waits for the answers.
    pub fn requests(self, requests: u64) -> Outcome {
        self.start_requests(requests).outcome()
    }

    /// Sends for so long and waits for the answers to all of it.
    pub fn lasting(self, duration: Duration) -> Outcome {
        self.start_lasting(duration).outcome()
    }

    /// Begins to send so many requests.
    pub fn start_requests(self, requests: u64) -> Running {
        self.with("-n", &requests.to_string()).start()
    }

    /// Begins to send for so long, and then waits for the answers that are missing.
    pub fn start_lasting(mut self, duration: Duration) -> Running {
        self.arguments.push("-w".into());
        self.with("-z", &format!("{}ms", duration.as_millis())).start()
    }

    fn start(mut self) -> Running {
        let dir = TempDir::new().expect("a directory");
        self.arguments.extend(["-o".into(), dir.path().join("outcome").display().to_string(), self.url]);
        Running { process: Process::start("oha", dir, self.arguments) }
    }
}

/// Load that goes on; killed when dropped.
pub struct Running {
    process: Process,
}

impl Running {
    /// Waits until it is done.
    pub fn outcome(mut self) -> Outcome {
        let status = self.process.wait();
        let text = fs::read_to_string(self.process.dir().join("outcome")).unwrap_or_default();
        let json: Json = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("oha ({status}): {error}: {text}\n{}", self.process.log()));
        Outcome {
            statuses: json.statuses,
            errors: json.errors,
            per_second: json.summary.per_second,
            fastest: seconds(json.summary.fastest),
            slowest: seconds(json.summary.slowest),
            median: seconds(json.percentiles.p50),
            p99: seconds(json.percentiles.p99),
        }
    }

    /// Ends it now. Requests that have no answer yet are abandoned and not counted.
    pub fn stop(self) -> Outcome {
        self.process.signal(Signal::INT);
        self.outcome()
    }
}

/// What became of all requests.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How many answers had each status.
    pub statuses: BTreeMap<u16, u64>,
    /// How many requests got no answer, and why.
    pub errors: BTreeMap<String, u64>,
    /// Requests a second.
    pub per_second: f64,
    /// The shortest time to an answer.
    pub fastest: Option<Duration>,
    /// The longest.
    pub slowest: Option<Duration>,
    /// The time half of the answers took at most.
    pub median: Option<Duration>,
    /// The time 99 of 100 took at most.
    pub p99: Option<Duration>,
}

impl Outcome {
    /// How many requests were answered or failed.
    pub fn total(&self) -> u64 {
        self.statuses.values().sum::<u64>() + self.failed()
    }

    /// How many answers had this status.
    pub fn status(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or(0)
    }

    /// How many requests got no answer.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Fails unless every request was answered with `status`, and there was at least one.
    #[track_caller]
    pub fn expect_all(&self, status: u16) {
        assert!(self.total() > 0 && self.status(status) == self.total(), "not all are {status}: {self:?}");
    }
}

fn seconds(seconds: Option<f64>) -> Option<Duration> {
    seconds.map(Duration::from_secs_f64)
}

/// The part of oha's output that is read.
#[derive(Deserialize)]
struct Json {
    summary: Summary,
    #[serde(rename = "statusCodeDistribution")]
    statuses: BTreeMap<u16, u64>,
    #[serde(rename = "errorDistribution")]
    errors: BTreeMap<String, u64>,
    #[serde(rename = "latencyPercentiles")]
    percentiles: Percentiles,
}

#[derive(Deserialize)]
struct Summary {
    #[serde(rename = "requestsPerSec")]
    per_second: f64,
    fastest: Option<f64>,
    slowest: Option<f64>,
}

#[derive(Deserialize)]
struct Percentiles {
    p50: Option<f64>,
    p99: Option<f64>,
}
