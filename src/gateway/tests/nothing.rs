//! A store that holds nothing and takes nothing, and a node on it.

use std::sync::Arc;

use crate::{
    address::Address,
    backend::{
        Append, Appended, Audit, Books, Commit, Commits, Dead, DeadFilter, DeadLetters, Fut, Home, Lease, Leases,
        Ledger, Loaded, Lookup, Mailbox, NotAppended, Refused, Requests, States, Stored,
    },
    clock::Clock,
    envelope::Position,
    error::Result,
    query::{Index, Query},
    runtime::{
        node::{Node, Start},
        settings::Settings,
    },
};

pub(super) async fn node() -> Node {
    let settings = Settings { arbiters: 0, ..Settings::default() };
    let start = Start { backend: Arc::new(Nothing), features: Vec::new(), settings, clock: Clock::System };
    Node::start(start).await.unwrap()
}

struct Nothing;

fn now<T: Send + 'static>(value: T) -> Fut<'static, T> {
    Box::pin(std::future::ready(value))
}

impl Mailbox for Nothing {
    fn partitions(&self) -> u16 {
        1
    }

    fn append(&self, batch: Vec<Append>) -> Fut<'_, Vec<Result<Appended, NotAppended>>> {
        now(batch.into_iter().map(|_| Err(NotAppended::Unavailable("it takes nothing".into()))).collect())
    }

    fn read(&self, _: u16, _: Position, _: usize) -> Fut<'_, Result<Vec<Stored>>> {
        now(Ok(Vec::new()))
    }

    fn arrivals(&self, _: u16) -> Arc<tokio::sync::Notify> {
        Arc::default()
    }

    fn due(&self, _: u16, _: (i64, Position), _: i64, _: usize) -> Fut<'_, Result<Vec<Stored>>> {
        now(Ok(Vec::new()))
    }

    fn next_due(&self, _: u16, _: (i64, Position)) -> Fut<'_, Result<Option<i64>>> {
        now(Ok(None))
    }

    fn parked(&self, _: &Address, _: Position, _: usize) -> Fut<'_, Result<Vec<Stored>>> {
        now(Ok(Vec::new()))
    }
}

impl Commits for Nothing {
    fn begin(&self, _: Lease, messages: Vec<(Position, Home)>) -> Fut<'_, Result<Vec<u32>>> {
        now(Ok(vec![0; messages.len()]))
    }

    fn commit(&self, _: Lease, batch: Vec<Commit>) -> Fut<'_, Vec<Result<(), Refused>>> {
        now(batch.into_iter().map(|_| Err(Refused::Stale)).collect())
    }
}

impl States for Nothing {
    fn declare(&self, _: &str, _: &[Index]) -> Result<()> {
        Ok(())
    }

    fn load(&self, addresses: Vec<Address>) -> Fut<'_, Result<Vec<Loaded>>> {
        now(Ok(vec![Loaded::default(); addresses.len()]))
    }

    fn query(&self, _: &str, _: Query) -> Fut<'_, Result<(Vec<(String, Vec<u8>)>, Option<String>)>> {
        now(Ok((Vec::new(), None)))
    }
}

impl Requests for Nothing {
    fn lookup(&self, _: Position) -> Fut<'_, Result<Lookup>> {
        now(Ok(Lookup::Unknown))
    }

    fn cancel(&self, _: Position, _: i64) -> Fut<'_, Result<bool>> {
        now(Ok(false))
    }

    fn expire(&self, _: i64, _: i64) -> Fut<'_, Result<usize>> {
        now(Ok(0))
    }

    fn secret(&self) -> [u8; 32] {
        [7; 32]
    }
}

impl DeadLetters for Nothing {
    fn dead(&self, _: DeadFilter, _: Option<Position>, _: usize) -> Fut<'_, Result<Vec<Dead>>> {
        now(Ok(Vec::new()))
    }

    fn redrive(&self, _: Vec<Position>, _: i64) -> Fut<'_, Result<usize>> {
        now(Ok(0))
    }

    fn discard(&self, _: Vec<Position>, _: i64) -> Fut<'_, Result<usize>> {
        now(Ok(0))
    }
}

impl Leases for Nothing {
    fn acquire(&self, partition: u16) -> Fut<'_, Result<Lease>> {
        now(Ok(Lease { partition, epoch: 1, clean: true }))
    }

    fn release(&self, _: Lease) -> Fut<'_, Result<()>> {
        now(Ok(()))
    }
}

impl Books for Nothing {
    fn ledgers(&self) -> Fut<'_, Result<Vec<Ledger>>> {
        now(Ok(vec![Ledger::default()]))
    }

    fn audit(&self) -> Fut<'_, Result<Audit>> {
        now(Ok(Audit {
            accepted: 0,
            completed: 0,
            failed: 0,
            dead: 0,
            cancelled: 0,
            in_flight: 0,
            balanced: true,
            mismatches: Vec::new(),
        }))
    }

    fn ready(&self) -> Fut<'_, Result<()>> {
        now(Ok(()))
    }
}
