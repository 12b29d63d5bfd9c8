//! The world outside of the shop: a bank, a fraud model, a mail service. They write every call into one
//! file, so they outlive the shop's process; and a key they know has no further effect, as with real ones.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use greenroom::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// All vendors. Clones are the same ones.
#[derive(Clone)]
pub(crate) struct Vendors {
    file: PathBuf,
    calls: Arc<watch::Sender<()>>,
}

/// One call: a line of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) what: String,
    /// The idempotency key: calls with the same one are one effect.
    pub(crate) key: String,
    pub(crate) about: String,
}

impl Vendors {
    pub(crate) fn on(file: &Path) -> Self {
        Self { file: file.to_owned(), calls: Arc::default() }
    }

    pub(crate) async fn charge(&self, key: Key, customer: &str, amount: u64) -> Result<String> {
        self.call("bank.charge", &key, &format!("{amount} of {customer}"))
    }

    pub(crate) async fn refund(&self, key: Key, charge: &str) -> Result<()> {
        self.call("bank.refund", &key, charge).map(drop)
    }

    pub(crate) async fn risk(&self, key: Key, customer: &str) -> Result<u64> {
        self.call("model.risk", &key, customer)?;
        Ok(if customer == "mallory" { 97 } else { 3 })
    }

    pub(crate) async fn ask_approval(&self, key: Key, order: &str, link: &str) -> Result<()> {
        self.call("mail.approval", &key, &format!("{order} {link}")).map(drop)
    }

    pub(crate) async fn pay_out(&self, key: Key, amount: u64) -> Result<String> {
        self.call("bank.pay_out", &key, &amount.to_string())
    }

    pub(crate) async fn mail(&self, key: Key, customer: &str, text: &str) -> Result<()> {
        self.call("mail.send", &key, &format!("{customer}: {text}")).map(drop)
    }

    /// Takes effect if the key is new; the receipt is the same in any case.
    fn call(&self, what: &str, key: &str, about: &str) -> Result<String> {
        let call = Call { what: what.to_owned(), key: key.to_owned(), about: about.to_owned() };
        let line = serde_json::to_string(&call)? + "\n";
        File::options().create(true).append(true).open(&self.file)?.write_all(line.as_bytes())?;
        self.calls.send_replace(());
        Ok(format!("{what}/{key}"))
    }

    /// Every call there was, in order.
    pub(crate) fn all(&self) -> Result<Vec<Call>> {
        let text = if self.file.exists() { fs::read_to_string(&self.file)? } else { String::new() };
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// Waits until an order asks for approval; the signal id in the mail.
    pub(crate) async fn approval(&self, order: &str) -> Result<String> {
        let mut calls = self.calls.subscribe();
        loop {
            let asked = self.all()?.into_iter().filter(|call| call.what == "mail.approval");
            for call in asked {
                if let Some((_, link)) = call.about.split_once(' ').filter(|(of, _)| *of == order) {
                    return Ok(link.to_owned());
                }
            }
            calls.changed().await?;
        }
    }
}
