//! Leases and nodes, of the store or of the company that shares it.

use std::time::Duration;

use tokio::sync::mpsc;

use super::Recorder;
use crate::{
    backend::{Acquired, Fut, Lease, Leases, Member, Nodes, Owner},
    error::Result,
};

impl Leases for Recorder {
    fn acquire(&self, partition: u16) -> Fut<'_, Result<Acquired>> {
        let acquired = self.live(self.leases().acquire(partition));
        // A world's crash ends a process, though this one goes on.
        let anew = |acquired| match acquired {
            Acquired::Taken(lease) => Acquired::Taken(Lease { mine: false, ..lease }),
            held => held,
        };
        Box::pin(async move { acquired.await.map(anew) })
    }

    fn release(&self, lease: Lease) -> Fut<'_, Result<()>> {
        self.live(self.leases().release(lease))
    }

    fn owners(&self) -> Fut<'_, Result<Vec<Owner>>> {
        self.live(self.leases().owners())
    }
}

impl Nodes for Recorder {
    fn me(&self) -> u64 {
        self.nodes().me()
    }

    fn lease_time(&self) -> Option<Duration> {
        self.nodes().lease_time()
    }

    fn join(&self) -> Fut<'_, Result<()>> {
        self.live(self.nodes().join())
    }

    fn beat(&self) -> Fut<'_, Result<Vec<Member>>> {
        self.live(self.nodes().beat())
    }

    fn members(&self) -> Fut<'_, Result<Vec<Member>>> {
        self.live(self.nodes().members())
    }

    fn give_up(&self, member: Member) -> Fut<'_, Result<bool>> {
        self.live(self.nodes().give_up(member))
    }

    fn leave(&self) -> Fut<'_, Result<()>> {
        self.live(self.nodes().leave())
    }

    fn post(&self, node: u64, letter: Vec<u8>) -> Fut<'_, Result<bool>> {
        self.live(self.nodes().post(node, letter))
    }

    fn letters(&self) -> Option<mpsc::UnboundedReceiver<Vec<u8>>> {
        self.nodes().letters()
    }

    fn declares(&self, schedules: &str) {
        self.nodes().declares(schedules);
    }

    fn describes(&self, build: &str, declines: Vec<u16>) {
        self.nodes().describes(build, declines);
    }

    fn announce(&self, listen: &str) -> Fut<'_, Result<()>> {
        self.nodes().announce(listen)
    }
}
