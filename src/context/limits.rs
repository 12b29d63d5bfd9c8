//! What a handler does about limits over all nodes.

use super::Context;
use crate::{
    actor::Actor,
    coordination::limit::{
        Tokens,
        wait::{TokenGate, WITHIN},
    },
};

impl<A: Actor> Context<A> {
    /// Takes so many tokens of a limit (`name`, or `name/who` where each has its own), and waits until they
    /// are there: in the order of asking, over all actors and nodes. A wait is durable: a command that waits
    /// long holds no memory, and goes on after a crash at the time it was told. Error when the limit is
    /// unknown or can never give so many, and when the command is cancelled meanwhile.
    ///
    /// For what a step calls, [`Run::limit`](crate::Run::limit) also counts the calls that are repeated.
    ///
    /// ```
    /// # use greenroom::prelude::*;
    /// # async fn ask(_: &str) -> Result<String> { Ok("yes".into()) }
    /// # async fn go<A: Actor>(cx: &Context<A>, tenant: &str) -> Result<()> {
    /// cx.limit(&format!("reports/{tenant}"), 1).await?;
    /// let answer = cx.run("openai.ask", |key| async move { ask(&key).await }).limit("openai", 1).permit("openai").await?;
    /// # drop(answer); Ok(()) }
    /// ```
    pub fn limit(&self, limit: &str, cost: u64) -> Tokens {
        Tokens { gate: TokenGate::new(self.journal(), limit, cost), within: WITHIN }
    }
}
