//! A program that runs in a directory of its own: killed, paused and started again by its id.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{super::eventually, parts};

/// A process, and the directory it keeps its things in. Both are gone when this is dropped.
pub struct Process {
    program: String,
    arguments: Vec<String>,
    dir: TempDir,
    child: Option<Child>,
}

impl Process {
    /// Starts a program of [`parts`] in `dir`, without waiting for anything.
    pub fn start(program: &str, dir: TempDir, arguments: Vec<String>) -> Self {
        let mut process = Self { program: program.to_owned(), arguments, dir, child: None };
        process.start_again();
        process
    }

    /// Starts it again as before, in the same directory, after it ended.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.program);
        let log = File::options().create(true).append(true).open(self.dir.path().join("log")).expect("a log");
        let child = Command::new(parts::program(&self.program))
            .args(&self.arguments)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap_or_else(|e| panic!("{} does not start: {e}", self.program)));
    }

    /// Whether it was started and not killed since.
    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.as_ref().unwrap_or_else(|| panic!("{} does not run", self.program)).id()
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// How it ended, if it did by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("it can be asked")
    }

    /// Whether it is ready, asked until it is; not when it ended before.
    pub fn becomes(&mut self, what: &str, mut ready: impl FnMut(&Self) -> bool) -> bool {
        let what = format!("{} to be {what}", self.program);
        eventually(&what, || match self.ended() {
            Some(_) => Some(false),
            None => ready(self).then_some(true),
        })
    }

    /// Kills it with SIGKILL, in the middle of whatever it does, if it runs.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            child.wait().expect("it ends");
        }
    }

    /// Waits until it ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.take().expect("it runs").wait().expect("it ends")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.id() as i32).expect("an id");
        kill_process(id, signal).unwrap_or_else(|e| panic!("{} cannot be signalled: {e}", self.program));
    }

    /// Stops all of it where it is, as a machine that hangs; its connections stay open.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        eventually("all its threads to stand still", || self.threads().all(|state| state == 'T').then_some(()));
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// What each of its threads does, as in proc(5).
    fn threads(&self) -> impl Iterator<Item = char> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id())).expect("it runs");
        // A thread may end while it is looked at.
        tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("stat")).ok()).map(|stat| {
            let after_name = stat.rsplit(") ").next().unwrap_or_default();
            after_name.chars().next().expect("a state")
        })
    }

    /// All it wrote.
    pub fn log(&self) -> String {
        let log = fs::read(self.dir.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- {} wrote last:\n{}", self.program, lines[lines.len().saturating_sub(20)..].join("\n"));
        }
    }
}
