//! How many states are loaded at once: as many as are a few megabytes, by what those before them weighed.
//!
//! Invariant: what is loaded at once exceeds the budget only where states become larger than those before, and
//! then once: a page is at most twice as long as the last one, and is of the largest that were seen lately.

use std::cell::Cell;

use crate::backend::Loaded;

/// Bytes loaded at once, about.
const BYTES: usize = 4 << 20;
/// Most actors in a page, and those in the first.
const MOST: usize = 256;
const FIRST: usize = 32;

/// The length of the next page.
pub(crate) struct Pages(Cell<usize>);

impl Default for Pages {
    fn default() -> Self {
        Self(Cell::new(FIRST))
    }
}

impl Pages {
    /// How many actors to load next.
    pub(crate) fn next(&self) -> usize {
        self.0.get()
    }

    /// What was loaded.
    pub(crate) fn saw(&self, loaded: &[Loaded]) {
        let bytes: usize = loaded.iter().map(|one| one.doc.len()).sum();
        let each = (bytes / loaded.len().max(1)).max(1);
        let most = (self.0.get() * 2).min(MOST);
        self.0.set((BYTES / each).clamp(1, most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(bytes: usize, count: usize) -> Vec<Loaded> {
        vec![Loaded { doc: vec![0; bytes], ..Loaded::default() }; count]
    }

    #[test]
    fn pages_of_small_states_are_long_and_of_large_ones_short() {
        let pages = Pages::default();
        let mut lengths = Vec::new();
        for bytes in [300, 300, 0, 300, 300, 300, 1 << 20, 1 << 20, 16 << 20, 300] {
            lengths.push(pages.next());
            pages.saw(&loaded(bytes, 1));
        }
        assert_eq!(lengths, [32, 64, 128, 256, 256, 256, 256, 4, 4, 1]);
    }
}
