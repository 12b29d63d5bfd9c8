//! What a client tells, and how each telling must end. Decided by the seed alone, before anything
//! is sent: the prediction owes nothing to what a server says.

use std::time::Duration;

use crate::{
    command::{Command, Pay},
    support::Random,
};

/// Accounts that are told things at the same time.
const ACCOUNTS: u64 = 300;
/// After so many tellings a client moves on to fresh accounts, so that tapes stay short.
const GENERATION: u64 = 600;

/// One telling.
pub(crate) struct Task {
    pub(crate) account: String,
    pub(crate) command: Command,
    /// A timer.
    pub(crate) after: Option<Duration>,
    /// Wait for the end, by `Prefer: wait`.
    pub(crate) wait: bool,
    /// Try to cancel it once it is promised.
    pub(crate) cancel: bool,
    /// For a payment: how long after the promise it gets its signal, and is cancelled if it is to be.
    pub(crate) later: (Duration, Duration),
    /// Ask again once it is promised: it must be the same promise.
    pub(crate) repeat: bool,
}

impl Task {
    /// A telling and nothing around it.
    pub(crate) fn of(account: &str, command: Command) -> Self {
        let account = account.to_owned();
        Self { account, command, after: None, wait: false, cancel: false, later: Default::default(), repeat: false }
    }
}

/// One client's tellings.
pub(crate) struct Script {
    random: Random,
    client: u64,
    next: u64,
    /// Nothing that is due at a time.
    timeless: bool,
}

impl Script {
    pub(crate) fn of(seed: u64, client: u64, timeless: bool) -> Self {
        Self { random: Random::seeded(seed ^ client.wrapping_mul(0x5851_f42d_4c95_7f2d)), client, next: 0, timeless }
    }

    /// Some accounts are told far more than others.
    fn account(&mut self) -> String {
        let generation = self.next / GENERATION;
        let busy = if self.random.chance(20) { 4 } else { ACCOUNTS };
        format!("g{generation}-{}", self.random.below(busy))
    }

    pub(crate) fn next(&mut self) -> Task {
        let mut account = self.account();
        let mark = format!("c{}-{}", self.client, self.next);
        let (mut after, mut cancel) = (None, false);
        let what = self.random.below(100);
        let command = match what {
            // Timers, retries after a while and what sleeps.
            20..45 | 48..59 if self.timeless => Command::Note { mark },
            0..20 => {
                let to = self.account();
                Command::Send { mark, to, amount: 1 + self.random.below(100) as i64 }
            }
            20..30 => {
                after = Some(Duration::from_millis(200 + self.random.below(3_000)));
                cancel = self.random.chance(30);
                Command::Ring { mark }
            }
            30..35 => Command::Later { mark, ms: 100 + self.random.below(2_000) },
            35..45 => Command::Flaky { mark, fails: 1 + self.random.below(2) as u32 },
            45..48 => Command::Refuse { mark },
            48 => Command::Doomed { mark },
            49..59 => {
                cancel = self.random.chance(25);
                let (to, amount) = (account.clone(), 1 + self.random.below(100) as i64);
                account = format!("p{}", &self.account()[1..]);
                let (ms, declined, apart) = (self.random.below(800), self.random.chance(25), self.random.chance(50));
                Command::Pay(Pay { mark, to, amount, ms, declined, apart })
            }
            _ => {
                cancel = self.random.chance(12);
                Command::Note { mark }
            }
        };
        self.next += 1;
        let wait = after.is_none() && self.random.chance(10);
        let later = (Duration::from_millis(self.random.below(2_000)), Duration::from_millis(self.random.below(2_500)));
        Task { account, command, after, wait, cancel, later, repeat: self.random.chance(5) }
    }
}

/// How a telling must end, if nobody cancelled it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Completed,
    /// With this code.
    Failed(&'static str),
    DeadLettered(&'static str),
}

/// How `command` must end.
pub(crate) fn end(command: &Command) -> End {
    match command {
        Command::Refuse { .. } => End::Failed("refused"),
        Command::Pay(Pay { declined: true, .. }) => End::Failed("declined"),
        Command::Doomed { .. } => End::DeadLettered("doomed"),
        _ => End::Completed,
    }
}
