//! What each tenant has in a partition's mailbox, and who has more than its share.
//!
//! Invariant: no more tenants are remembered than could matter: of one that is forgotten, little was there.

use std::collections::HashMap;

use crate::backend::{Over, Tenant};

/// Tenants remembered; beyond it those are forgotten that have less than this part of a share.
const MOST: usize = 4096;
const LITTLE: u64 = 1000;

/// What waits in the mailbox, by tenant: what was read there and has not left it.
#[derive(Default)]
pub(crate) struct Usage {
    bytes: HashMap<Tenant, u64>,
    over: HashMap<Tenant, u64>,
    /// What each may have; 0 where nobody is refused.
    pub(crate) share: u64,
    changed: bool,
}

impl Usage {
    /// A message was seen in the mailbox.
    pub(super) fn came(&mut self, tenant: Tenant, size: usize) {
        if self.share == 0 {
            return;
        }
        if self.bytes.len() >= MOST && !self.bytes.contains_key(&tenant) {
            let least = self.share / LITTLE;
            self.bytes.retain(|_, bytes| *bytes >= least);
        }
        let bytes = self.bytes.entry(tenant).or_default();
        *bytes += size as u64;
        if *bytes > self.share && !self.over.contains_key(&tenant) {
            self.over.insert(tenant, *bytes);
            self.changed = true;
        }
    }

    /// A message has left the mailbox.
    pub(super) fn gone(&mut self, tenant: Tenant, size: usize) {
        let Some(bytes) = self.bytes.get_mut(&tenant) else { return };
        *bytes = bytes.saturating_sub(size as u64);
        // Not at once again, or it would go back and forth.
        if *bytes <= self.share - self.share / 10 && self.over.remove(&tenant).is_some() {
            self.changed = true;
        }
        if *bytes == 0 {
            self.bytes.remove(&tenant);
        }
    }

    /// Nothing waits but this: what was cancelled without being read is not missed any longer.
    pub(super) fn recount(&mut self, held: impl Iterator<Item = (Tenant, usize)>) {
        if self.bytes.is_empty() {
            return;
        }
        self.bytes.clear();
        for (tenant, size) in held {
            *self.bytes.entry(tenant).or_default() += size as u64;
        }
        let (bytes, least) = (&self.bytes, self.share - self.share / 10);
        let before = self.over.len();
        self.over.retain(|tenant, _| bytes.get(tenant).is_some_and(|bytes| *bytes > least));
        self.changed |= self.over.len() != before;
    }

    /// Whether somebody came over its share, or is no longer, since this was last asked.
    pub(super) fn has_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Who has more than its share now.
    pub(crate) fn over(&self) -> Over {
        let has = |tenant: &Tenant| (*tenant, self.bytes.get(tenant).copied().unwrap_or(0));
        Over { share: self.share, tenants: self.over.keys().map(has).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_over_its_share_stays_so_until_a_tenth_of_it_is_free() {
        let (ann, bob) = (Tenant::of("ann"), Tenant::of("bob"));
        let mut usage = Usage { share: 100, ..Usage::default() };
        usage.came(ann, 100);
        assert!(!usage.has_changed());
        usage.came(ann, 1);
        usage.came(bob, 20);
        assert!(usage.has_changed() && !usage.has_changed());
        assert_eq!(usage.over(), Over { share: 100, tenants: HashMap::from([(ann, 101)]) });
        usage.gone(ann, 10);
        assert!(!usage.has_changed());
        usage.gone(ann, 1);
        assert!(usage.has_changed());
        assert!(usage.over().tenants.is_empty());
        usage.came(ann, 50);
        assert!(usage.has_changed());
        // What nobody saw leave is forgotten when nothing waits.
        usage.recount([(bob, 20)].into_iter());
        assert!(usage.has_changed() && usage.over().tenants.is_empty());
    }

    #[test]
    fn many_who_have_little_are_forgotten_for_one_who_has_much() {
        let mut usage = Usage { share: 1_000_000, ..Usage::default() };
        for n in 0..3 * MOST {
            usage.came(Tenant::of(&n.to_string()), 10);
        }
        assert!(usage.bytes.len() <= MOST);
        let flood = Tenant::of("flood");
        for _ in 0..11 {
            usage.came(flood, 100_000);
        }
        assert_eq!(usage.over().tenants.keys().collect::<Vec<_>>(), [&flood]);
    }
}
