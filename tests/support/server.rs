//! A real `greenroom serve` process: started, found by what it logs, killed by its id.

use std::{
    collections::VecDeque,
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{Client, PATIENCE, build};

/// How a server is started.
#[derive(Clone)]
pub struct Setup {
    program: Option<PathBuf>,
    data: PathBuf,
    log: Option<PathBuf>,
    config: Option<PathBuf>,
    variables: Vec<(String, String)>,
    listen: String,
    embedded: bool,
}

impl Setup {
    /// On this data directory.
    pub fn on(data: &Path) -> Self {
        Self {
            program: None,
            data: data.to_owned(),
            log: None,
            config: None,
            variables: Vec::new(),
            listen: "127.0.0.1:0".into(),
            embedded: false,
        }
    }

    /// Another program than `greenroom`, with the same command line.
    pub fn program(mut self, program: &Path) -> Self {
        self.program = Some(program.to_owned());
        self
    }

    /// Everything it writes is appended to this file as well.
    pub fn log(mut self, file: &Path) -> Self {
        self.log = Some(file.to_owned());
        self
    }

    /// With one key of the configuration, such as `set("orders", "ship_after", "1s")`.
    pub fn set(mut self, section: &str, key: &str, value: &str) -> Self {
        let variable = format!("GREENROOM_{}__{}", section.to_uppercase(), key.to_uppercase());
        self.variables.push((variable, value.to_owned()));
        self
    }

    /// On a file of its own, whatever store the tests are on: for what is about the file.
    pub fn embedded(mut self) -> Self {
        self.embedded = true;
        self
    }

    /// Listening there.
    pub fn listen(mut self, address: &str) -> Self {
        self.listen = address.to_owned();
        self
    }

    fn store(&self) -> Vec<(String, String)> {
        if self.embedded { Vec::new() } else { store(&self.data) }
    }

    /// Starts the process, without waiting for anything.
    pub fn spawn(&self) -> Server {
        let mut command = self.command();
        command.arg("serve").arg("--data").arg(&self.data).arg("--listen").arg(&self.listen);
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        command.env("GREENROOM_LOG__FORMAT", "json");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("greenroom starts");
        let (found, address) = mpsc::channel();
        let (began, first_line) = mpsc::channel();
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let file = || self.log.as_ref().map(|log| File::options().create(true).append(true).open(log).expect("a log"));
        follow(child.stdout.take().expect("piped"), began.clone(), found.clone(), log.clone(), file());
        follow(child.stderr.take().expect("piped"), began, found, log.clone(), file());
        Server { child, first_line, address, log, base: None, data: self.data.clone() }
    }

    /// The program, configured like the server and no otherwise.
    fn command(&self) -> Command {
        let mut command = Command::new(self.program.as_deref().unwrap_or_else(|| build::greenroom()));
        clean(&mut command);
        command.envs(self.store()).envs(self.variables.iter().cloned());
        command
    }

    /// Runs the program with these arguments to its end, however it comes.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().expect("it runs")
    }

    /// `audit --json` of the store: the exit code and what it says.
    pub fn audit(&self) -> (Option<i32>, serde_json::Value) {
        let mut command = self.command();
        command.arg("audit").arg("--data").arg(&self.data).arg("--json");
        report(&command.output().expect("it runs"))
    }

    /// With one more environment variable.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs another of its commands on the same store, to its end.
    pub fn cli(&self, args: &[&str]) -> Output {
        let mut command = self.command();
        command.args(args).arg("--data").arg(&self.data).output().expect("it runs")
    }

    /// Starts the process and waits until it listens.
    pub fn start(&self) -> Server {
        let mut server = self.spawn();
        server.wait_listening();
        server
    }
}

/// Reads a stream of the process to its end: finds the address it listens on, keeps the last lines.
fn follow(
    stream: impl Read + Send + 'static,
    began: mpsc::Sender<()>,
    found: mpsc::Sender<String>,
    log: Arc<Mutex<VecDeque<String>>>,
    mut file: Option<File>,
) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // Mostly nobody waits for the first line, nor for the address of a process that is to
            // die before it listens.
            let _ = began.send(());
            if let Some(address) = listening(&line) {
                let _ = found.send(address);
            }
            if let Some(file) = &mut file {
                // One write a line: the other stream writes there too.
                file.write_all(format!("{line}\n").as_bytes()).expect("written");
            }
            let mut log = log.lock().unwrap();
            if log.len() == 500 {
                log.pop_front();
            }
            log.push_back(line);
        }
    });
}

/// The address in the log line that says it serves: the gateway's URL.
fn listening(line: &str) -> Option<String> {
    let log: serde_json::Value = serde_json::from_str(line).ok()?;
    // Fields may lie flat or below `fields`, depending on the format of the log.
    let fields = log.get("fields").unwrap_or(&log);
    (fields["message"] == "serving").then(|| fields["listen"].as_str().map(str::to_owned))?
}

/// What makes a process use the store that `GREENROOM_TEST_STORE` names: the servers that tests share,
/// under names that go with the data directory, so that whoever starts on it again finds its own.
fn store(data: &Path) -> Vec<(String, String)> {
    let which = greenroom::testing::Which::from_env().expect("GREENROOM_TEST_STORE");
    if which == greenroom::testing::Which::Embedded || data.join("greenroom.db").exists() {
        return Vec::new();
    }
    let options = which.cluster(&Default::default()).expect("servers");
    let name: String = data.display().to_string().chars().filter(char::is_ascii_alphanumeric).collect();
    let set = |key: &str, value: &str| (format!("GREENROOM_STORE__{key}"), value.to_owned());
    vec![
        set("KIND", "cluster"),
        set("REDIS", &options.redis),
        set("MONGO", &options.mongo),
        set("PREFIX", &name),
        set("DATABASE", &name),
        // Somebody has just killed the last owner and waits.
        set("LEASE", "500ms"),
    ]
}

/// A running `greenroom serve`; killed when dropped.
pub struct Server {
    child: Child,
    first_line: mpsc::Receiver<()>,
    address: mpsc::Receiver<String>,
    log: Arc<Mutex<VecDeque<String>>>,
    base: Option<String>,
    data: PathBuf,
}

impl Server {
    /// On this data directory, with the defaults.
    pub fn start(data: &Path) -> Self {
        Setup::on(data).start()
    }

    /// Waits until it says that it listens.
    pub fn wait_listening(&mut self) {
        match self.address.recv_timeout(PATIENCE) {
            Ok(base) => self.base = Some(base),
            Err(_) => panic!("greenroom does not listen ({:?}):\n{}", self.child.try_wait(), self.log()),
        }
    }

    /// Waits until it listens; `false` when it ended instead.
    pub fn listens(&mut self) -> bool {
        match self.address.recv_timeout(PATIENCE) {
            Ok(base) => self.base = Some(base),
            Err(mpsc::RecvTimeoutError::Disconnected) => return false,
            Err(_) => panic!("greenroom does not listen after {PATIENCE:?}:\n{}", self.log()),
        }
        true
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it can be asked")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.id() as i32).expect("an id");
        kill_process(id, signal).expect("it can be signalled");
    }

    /// Waits until it says anything at all.
    pub fn wait_first_line(&self) {
        self.first_line.recv_timeout(PATIENCE).expect("it says something");
    }

    /// Where it is, such as `http://127.0.0.1:4711`.
    pub fn base(&self) -> &str {
        self.base.as_deref().expect("it listens")
    }

    /// A client of its own connections.
    pub fn client(&self) -> Client {
        Client::new(self.base())
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The last lines it wrote.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().iter().fold(String::new(), |all, line| all + line + "\n")
    }

    /// Kills it with SIGKILL, in the middle of whatever it does.
    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Asks it to end with SIGTERM, and waits until it did.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.child.wait().expect("it ends")
    }

    /// Waits until it ended by itself.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().expect("it ends");
        // Its output is read to the end by other threads: one line may still be on its way.
        let text = super::eventually("its last words", || Some(self.log()).filter(|log| !log.is_empty()));
        (status, text)
    }

    /// Memory it occupies now, in bytes.
    pub fn memory(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).expect("Linux");
        statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("resident pages") * 4096
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- greenroom wrote:\n{}", self.log());
        }
    }
}

/// Without what this process is configured by.
fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GREENROOM_")) {
        command.env_remove(name);
    }
}

/// Runs `greenroom` with these arguments to its end.
pub fn greenroom(arguments: &[&str]) -> Output {
    let mut command = Command::new(build::greenroom());
    clean(&mut command);
    command.args(arguments).output().expect("greenroom runs")
}

/// `greenroom audit --data DIR --json`: the exit code and what it says.
pub fn audit(data: &Path) -> (Option<i32>, serde_json::Value) {
    let mut command = Command::new(build::greenroom());
    clean(&mut command);
    report(&command.envs(store(data)).args(["audit", "--data"]).arg(data).arg("--json").output().expect("it runs"))
}

fn report(output: &Output) -> (Option<i32>, serde_json::Value) {
    let text = String::from_utf8_lossy(&output.stdout);
    let json = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("audit: {e}: {text} {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), json)
}
