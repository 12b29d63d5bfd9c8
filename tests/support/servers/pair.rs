//! A private Redis with one replica, which can be promoted.

use super::{
    proxy::Proxy,
    redis::{Redis, RedisSetup},
};

/// A running master and its replica; killed when dropped.
pub struct Pair {
    /// Those that write are led here.
    pub master: Redis,
    replica: Redis,
    /// The way on which the replica follows.
    between: Proxy,
}

impl Pair {
    /// Starts both, and waits until the replica has what the master has.
    pub fn start(setup: &RedisSetup) -> Self {
        let (master, replica) = (Redis::start(setup.clone()), Redis::start(setup.clone()));
        let between = Proxy::start(&master.address());
        replica.follow(between.port());
        Self { master, replica, between }
    }

    /// From now on nothing that the master writes reaches the replica: the master cannot tell.
    pub fn part(&self) {
        self.between.stall();
    }

    /// The master dies, the replica is promoted with what it has, and writers are led there by `way`. What was
    /// the master starts again, empties itself and follows.
    pub fn promote(&mut self, way: &Proxy) {
        self.master.kill();
        self.between.cut();
        way.cut();
        self.replica.cli(&["replicaof", "no", "one"]);
        way.lead_to(&self.replica.address());
        self.between.lead_to(&self.replica.address());
        self.between.heal();
        way.heal();
        std::mem::swap(&mut self.master, &mut self.replica);
        self.replica.restart();
        self.replica.follow(self.between.port());
    }
}
