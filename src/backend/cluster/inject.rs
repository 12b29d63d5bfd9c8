//! A hook under the clients of both stores at which a test decides the fate of a single call: lost on
//! its way there or back, late, sent twice, or cut off with its connection. Without one a call costs a
//! branch.

use std::{fmt::Debug, time::Duration};

/// Which store a call goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Store {
    /// Mailboxes.
    Redis,
    /// States.
    Mongo,
}

/// The fate of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It is made as if there were no injector.
    #[default]
    Pass,
    /// It is never sent; the caller cannot know that.
    LoseRequest,
    /// It is sent and carried out; its answer does not arrive.
    LoseAnswer,
    /// It is sent, and answered, this much later.
    Delay(Duration),
    /// It is sent twice, one after the other; the caller has the second answer.
    Repeat,
    /// It is sent, and its connection is cut before the answer arrives, with all else that is on its way in
    /// it. It may be carried out or not.
    Cut,
}

/// Decides the fate of calls; counting them is its own affair.
pub trait Injector: Debug + Send + Sync {
    /// The fate of a call that is about to be sent: the name of a function or command of the store.
    fn fate(&self, store: Store, call: &str) -> Fate;
}

/// One call as [`carry`] needs it.
pub(super) trait Call {
    type Answer;
    type Fault;

    /// Sends it, and waits for its answer.
    fn send(&self) -> impl Future<Output = Result<Self::Answer, Self::Fault>> + Send;

    /// Cuts the connection it goes over.
    fn cut(&self) -> impl Future<Output = ()> + Send;

    /// How it is reported that a call may have happened or not.
    fn lost(&self, why: &str) -> Self::Fault;
}

/// Makes a call, with the fate that the injector decides.
pub(super) async fn carry<C: Call>(
    injector: Option<&dyn Injector>,
    store: Store,
    name: &str,
    call: &C,
) -> Result<C::Answer, C::Fault> {
    let Some(injector) = injector else { return call.send().await };
    match injector.fate(store, name) {
        Fate::Pass => call.send().await,
        Fate::LoseRequest => Err(call.lost("a test lost its request")),
        Fate::LoseAnswer => {
            // Of no matter how it ended: the caller does not know.
            let _ = call.send().await;
            Err(call.lost("a test lost its answer"))
        }
        Fate::Delay(by) => {
            tokio::time::sleep(by).await;
            call.send().await
        }
        Fate::Repeat => {
            // The first answer is the one that is lost.
            let _ = call.send().await;
            call.send().await
        }
        Fate::Cut => {
            let (_, ()) = futures_util::future::join(call.send(), call.cut()).await;
            Err(call.lost("a test cut its connection"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// What was done, in order.
    #[derive(Default)]
    struct Told(Mutex<Vec<&'static str>>);

    impl Call for Told {
        type Answer = usize;
        type Fault = String;

        async fn send(&self) -> Result<usize, String> {
            let mut told = self.0.lock().unwrap();
            told.push("sent");
            Ok(told.len())
        }

        async fn cut(&self) {
            self.0.lock().unwrap().push("cut");
        }

        fn lost(&self, why: &str) -> String {
            why.to_owned()
        }
    }

    #[derive(Debug)]
    struct Always(Fate);

    impl Injector for Always {
        fn fate(&self, store: Store, call: &str) -> Fate {
            assert_eq!((store, call), (Store::Redis, "append"));
            self.0
        }
    }

    async fn with(fate: Option<Fate>) -> (Vec<&'static str>, Result<usize, String>) {
        let (told, injector) = (Told::default(), fate.map(Always));
        let injector = injector.as_ref().map(|always| always as &dyn Injector);
        let answer = carry(injector, Store::Redis, "append", &told).await;
        (told.0.into_inner().unwrap(), answer)
    }

    #[tokio::test]
    async fn each_fate_does_what_it_says() {
        assert_eq!(with(None).await, (vec!["sent"], Ok(1)));
        assert_eq!(with(Some(Fate::Pass)).await, (vec!["sent"], Ok(1)));
        assert_eq!(with(Some(Fate::LoseRequest)).await, (vec![], Err("a test lost its request".into())));
        assert_eq!(with(Some(Fate::LoseAnswer)).await, (vec!["sent"], Err("a test lost its answer".into())));
        assert_eq!(with(Some(Fate::Delay(Duration::from_millis(1)))).await, (vec!["sent"], Ok(1)));
        assert_eq!(with(Some(Fate::Repeat)).await, (vec!["sent", "sent"], Ok(2)));
        assert_eq!(with(Some(Fate::Cut)).await, (vec!["sent", "cut"], Err("a test cut its connection".into())));
    }
}
