//! A vendor with a script: what it answers is written beforehand, and it remembers idempotency keys as
//! real ones do, so that a test can ask what really took effect.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::error::{Error, Result};

/// The vendor. Clones are the same vendor; it outlives the process that calls it.
///
/// ```
/// # futures_util::FutureExt::now_or_never(async {
/// let stripe = greenroom::testing::Vendor::default();
/// stripe.fail("charge", 1);
/// assert!(stripe.call("charge", "key-1").await.is_err());
/// let receipt = stripe.call("charge", "key-1").await.unwrap();
/// assert_eq!(stripe.call("charge", "key-1").await.unwrap(), receipt);
/// assert_eq!((stripe.effects("charge"), stripe.calls("charge")), (1, 3));
/// # });
/// ```
#[derive(Clone, Default)]
pub struct Vendor {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    script: BTreeMap<String, VecDeque<Error>>,
    /// What took effect: call and key, and its receipt.
    receipts: BTreeMap<(String, String), u64>,
    /// Every call in order: its name and key.
    calls: Vec<(String, String)>,
}

impl Vendor {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next `times` calls of this name fail, as if the network did.
    pub fn fail(&self, call: &str, times: u32) {
        for _ in 0..times {
            self.answer(call, Error::new(format!("{call}: connection reset")));
        }
    }

    /// The next call of this name, after those already scripted, answers this error.
    pub fn answer(&self, call: &str, error: Error) {
        self.lock().script.entry(call.to_owned()).or_default().push_back(error);
    }

    /// A call: the scripted error, else a receipt. A key that is known has no further effect and gets the
    /// receipt it got before.
    pub async fn call(&self, call: &str, key: &str) -> Result<u64> {
        let mut inner = self.lock();
        inner.calls.push((call.to_owned(), key.to_owned()));
        if let Some(error) = inner.script.get_mut(call).and_then(VecDeque::pop_front) {
            return Err(error);
        }
        let next = inner.receipts.len() as u64 + 1;
        Ok(*inner.receipts.entry((call.to_owned(), key.to_owned())).or_insert(next))
    }

    /// How often calls of this name took effect.
    pub fn effects(&self, call: &str) -> usize {
        self.lock().receipts.keys().filter(|(known, _)| known == call).count()
    }

    /// How often this was called, whatever came of it.
    pub fn calls(&self, call: &str) -> usize {
        self.lock().calls.iter().filter(|(known, _)| known == call).count()
    }

    /// All calls in order: name and idempotency key.
    pub fn log(&self) -> Vec<(String, String)> {
        self.lock().calls.clone()
    }
}
