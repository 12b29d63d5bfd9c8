//! The cluster store's own data in Redis, for tests that damage it or call a function as a late packet does.

use std::collections::HashMap;

use fred::{
    interfaces::{ClientLike, FunctionInterface, HashesInterface},
    prelude::{Builder, Client, Config, Error, Value},
};

/// Fields of a partition's book, by their place in it: see `functions/base.lua`.
pub(super) const LAST: usize = 0;
pub(super) const LIMIT: usize = 9;
pub(super) const OWNER: usize = 12;
pub(super) const SERIAL: usize = 14;
/// Where the name of the process begins that confirmed the partition.
const RUN: usize = 15 * 8;

/// A partition as Redis has it.
pub(super) struct Raw {
    pub(super) client: Client,
    key: String,
}

impl Raw {
    pub(super) async fn of(options: &greenroom::backend::cluster::Options, partition: u16) -> Self {
        let url = options.redis.replacen(',', "?node=", 1).replace(',', "&node=");
        let client = Builder::from_config(Config::from_url(&url).unwrap()).build().unwrap();
        client.init().await.unwrap();
        Self { client, key: format!("{}:{{{partition:04}}}", options.prefix) }
    }

    pub(super) fn key(&self, what: &str) -> String {
        format!("{}:{what}", self.key)
    }

    async fn book(&self) -> Vec<u8> {
        self.client.hget(self.key("head"), "book").await.unwrap()
    }

    pub(super) async fn number(&self, place: usize) -> u64 {
        let bytes = self.book().await[place * 8..place * 8 + 8].try_into().unwrap();
        f64::from_le_bytes(bytes) as u64
    }

    pub(super) async fn set(&self, place: usize, number: u64) {
        let mut book = self.book().await;
        book[place * 8..place * 8 + 8].copy_from_slice(&(number as f64).to_le_bytes());
        let _: Value = self.client.hset(self.key("head"), ("book", book.as_slice())).await.unwrap();
    }

    /// As if another process had confirmed the partition.
    pub(super) async fn confirm_elsewhere(&self) {
        let mut book = self.book().await;
        book[RUN..].fill(b'x');
        let _: Value = self.client.hset(self.key("head"), ("book", book.as_slice())).await.unwrap();
    }

    /// Calls a function of this build.
    pub(super) async fn call(&self, function: &str, args: Vec<String>) -> Result<Value, Error> {
        // Those of other builds may be there too.
        const OURS: &str = include_str!("../../src/backend/cluster/functions/accept.lua");
        let listed: Vec<HashMap<String, Value>> = self.client.function_list(Some("greenroom_*"), true).await?;
        let is_ours = |library: &&HashMap<String, Value>| {
            library["library_code"].as_str().is_some_and(|code| code.contains(OURS))
        };
        let library =
            listed.iter().rfind(is_ours).expect("this build's functions")["library_name"].as_string().unwrap();
        let keys = vec![self.key.clone(), self.key("head")];
        self.client.fcall(format!("{library}_{function}"), keys, args).await
    }
}
