//! The test kit: a [`World`] in which time stands still, randomness is seeded, and the process can
//! die at any named boundary in the life of a message ([`Point`]) and start again.
//!
//! What cannot be done (a store that does not answer, a world that has not begun) fails the test: it panics and
//! says why.
//!
//! ```
//! use greenroom::{prelude::*, testing::{Point, World}};
//! # struct Counter;
//! # impl Actor for Counter {
//! #     const KIND: &'static str = "counter";
//! #     type State = u64;
//! #     type Command = u64;
//! #     type Reply = u64;
//! #     async fn handle(&self, total: &mut u64, add: u64, _: &Context<Self>) -> Result<u64> {
//! #         *total += add;
//! #         Ok(*total)
//! #     }
//! # }
//! World::new(|| vec![Feature::new(Counter)]).play(async |mut world| {
//!     world.crash_at(Point::Handled);
//!     world.tell(Counter::at("visits"), 1).await;
//!     world.settle().await; // dies before the commit, starts again, handles it anew
//!     assert_eq!(world.state::<Counter>("visits").await, Some(1));
//!     world.no_loss().await;
//!     world.no_duplicate();
//! });
//! ```

mod random;
pub(crate) mod recorder;
mod stores;
mod vendor;
mod waiting;
mod world;

pub use self::{random::Random, stores::Which, vendor::Vendor, world::World};
pub use crate::{
    clock::jump,
    runtime::faults::{Point, kill_at},
};
