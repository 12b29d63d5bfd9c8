//! A private MongoDB replica set of three members, whose primary can step down or die.

use mongodb::bson::{Document, doc};

use super::{super::eventually, mongo::Own};

const MEMBERS: usize = 3;
/// How soon members notice that there is no primary: five times as fast as by default.
const ELECTION: i32 = 2_000;

/// Running members; killed when dropped.
pub struct Members(Vec<Own>);

impl Members {
    /// Starts them and waits until there is a primary.
    pub fn start() -> Self {
        let members = Self((0..MEMBERS).map(|_| Own::launch(true)).collect());
        let config: Vec<Document> =
            (0..).zip(members.hosts()).map(|(id, host): (i32, _)| doc! { "_id": id, "host": host }).collect();
        let settings = doc! { "electionTimeoutMillis": ELECTION, "heartbeatIntervalMillis": ELECTION / 4 };
        let config = doc! { "_id": "rs0", "members": config, "settings": settings };
        let made = members.0[0].run(doc! { "replSetInitiate": config });
        made.unwrap_or_else(|error| panic!("no replica set: {error}\n{}", members.0[0].process.log()));
        members.primary();
        members
    }

    /// How clients reach all of them.
    pub fn url(&self) -> String {
        format!("mongodb://{}/?replicaSet=rs0", self.hosts().join(","))
    }

    fn hosts(&self) -> Vec<String> {
        self.0.iter().map(|member| format!("127.0.0.1:{}", member.port)).collect()
    }

    /// The index of the primary, waited for.
    pub fn primary(&self) -> usize {
        eventually("a primary", || {
            self.0.iter().position(|member| {
                let hello = member.process.runs().then(|| member.run(doc! { "hello": 1 }).ok()).flatten();
                hello.is_some_and(|hello| hello.get_bool("isWritablePrimary").unwrap_or(false))
            })
        })
    }

    /// The primary steps down, and another one is elected; waits until it is.
    pub fn step_down(&self) {
        let primary = self.primary();
        // It may close the connection instead of an answer.
        let _ = self.0[primary].run(doc! { "replSetStepDown": 10, "secondaryCatchUpPeriodSecs": 5 });
        self.primary();
    }

    /// Kills the primary with SIGKILL: what it had not replicated will be rolled back. Answers which one it was.
    pub fn kill_primary(&mut self) -> usize {
        let primary = self.primary();
        self.0[primary].process.kill();
        primary
    }

    /// Starts a member again and waits until it answers.
    pub fn restart(&mut self, member: usize) {
        let own = &mut self.0[member];
        own.process.kill();
        own.process.start_again();
        assert!(own.answers(), "{}", own.process.log());
    }

    /// Waits until there is a primary and the others follow it.
    pub fn wait_whole(&self) {
        eventually("the replica set to be whole", || {
            let status = self.0[self.primary()].run(doc! { "replSetGetStatus": 1 }).ok()?;
            let states = status
                .get_array("members")
                .ok()?
                .iter()
                .filter_map(|member| member.as_document()?.get_i32("state").ok());
            (states.filter(|state| [1, 2].contains(state)).count() == MEMBERS).then_some(())
        });
    }
}
