//! Durable execution: steps, calls, sleeps, signals and compensations, with a process that dies wherever
//! it can. Each file is one part of it; `GREENROOM_TEST_STORE` says on which store.

mod calls;
mod flow;
mod replay;
mod shared;
mod steps;
mod undoing;
mod waiting;
