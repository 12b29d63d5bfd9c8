//! The session of one request, as its handler holds it: looked at, changed, and written when the answer
//! is made.
//!
//! Invariant: a request whose session another one has just given up (a login, a logout) neither writes
//! nor says anything of the cookie, or it would undo what that one did.

use std::{cell::RefCell, rc::Rc};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    data::{Change, Changes, Data},
    id::Id,
    sessions::Sessions,
};
use crate::{
    backend::sessions::{SessionName, SessionRecord},
    error::{Error, Result},
    gateway::{Problem, problems},
};

/// The session of whoever sent a request; anonymous before a login, and not even stored before something
/// is [set](Session::set). What is changed is written before the answer is sent.
///
/// ```
/// use actix_web::{HttpResponse, get, post};
/// use greenroom::{coordination::session::{LoggedIn, Session}, gateway::Problem};
///
/// #[post("/login")]
/// async fn login(session: Session) -> Result<HttpResponse, Problem> {
///     // … after the password was checked
///     session.login("ann").await?;
///     Ok(HttpResponse::NoContent().finish())
/// }
///
/// #[post("/cart/tea")]
/// async fn tea(session: Session) -> Result<HttpResponse, Problem> {
///     session.update("tea", |cups: Option<u32>| cups.unwrap_or(0) + 1)?;
///     Ok(HttpResponse::NoContent().finish())
/// }
///
/// #[get("/me")]
/// async fn me(session: LoggedIn) -> Result<HttpResponse, Problem> {
///     let cups = session.get::<u32>("tea")?;
///     Ok(HttpResponse::Ok().json((session.user(), cups)))
/// }
/// ```
#[derive(Clone)]
pub struct Session(Rc<Slot>);

struct Slot {
    sessions: Sessions,
    secure: bool,
    agent: String,
    state: RefCell<State>,
}

struct State {
    held: Held,
    changes: Changes,
    cookie: Option<Cookie>,
    answered: bool,
}

/// What the request's cookie stands for.
#[derive(Clone)]
pub(super) enum Held {
    /// Nothing that is stored.
    Nothing,
    /// What was given up a moment ago.
    Replaced,
    /// A session.
    Live(Rc<Live>),
}

/// A session as it was read.
pub(super) struct Live {
    pub(super) id: Id,
    pub(super) record: SessionRecord,
    pub(super) data: Data,
}

/// What the answer says of the cookie.
#[derive(Clone, Copy)]
pub(super) enum Cookie {
    Set(Id),
    Clear,
}

impl Live {
    pub(super) fn new(id: Id, mut record: SessionRecord) -> Result<Rc<Self>, Problem> {
        let data = serde_json::from_slice(&std::mem::take(&mut record.data));
        let data = data.map_err(|error| Problem::internal("reading a session", &error))?;
        Ok(Rc::new(Self { id, record, data }))
    }
}

impl Session {
    pub(super) fn new(sessions: Sessions, secure: bool, agent: String, held: Held, cookie: Option<Cookie>) -> Self {
        let state = RefCell::new(State { held, changes: Changes::default(), cookie, answered: false });
        Self(Rc::new(Slot { sessions, secure, agent, state }))
    }

    /// Whose it is; `None` before a login.
    pub fn user(&self) -> Option<String> {
        self.live().and_then(|live| live.record.user.clone())
    }

    /// What it is called, from its login to its end; `None` when nothing is stored.
    /// [`Sessions::is_live`] asks after it.
    pub fn id(&self) -> Option<SessionName> {
        self.live().map(|live| live.id.key.name)
    }

    /// A value of its data.
    ///
    /// # Errors
    /// When it is there and no `T`.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Problem> {
        self.0.state.borrow_mut().changes.reads(key);
        let data = self.data()?;
        let value = data.get(key).map(T::deserialize).transpose();
        value.map_err(|error| Problem::internal(&format!("reading {key:?} of a session"), &error))
    }

    /// Sets a value of its data. If this request has [read](Session::get) it, and another one changes it
    /// before this one is answered, this one is answered with `409` instead and changes nothing: use
    /// [`Session::update`] where that may be.
    ///
    /// # Errors
    /// When it is too large with all that is there, or the answer was made already.
    pub fn set(&self, key: &str, value: impl Serialize) -> Result<(), Problem> {
        let value = serde_json::to_value(value);
        self.change(key, Change::Set(value.map_err(|error| Problem::internal("encoding a session's value", &error))?))
    }

    /// Removes a value of its data.
    ///
    /// # Errors
    /// When the answer was made already.
    pub fn remove(&self, key: &str) -> Result<(), Problem> {
        self.change(key, Change::Remove)
    }

    /// Makes a value of the one that is there; made again on what another request has put there meanwhile.
    ///
    /// # Errors
    /// When what is there is no `T`, or the new value is too large, or the answer was made already.
    pub fn update<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        update: impl Fn(Option<T>) -> T + 'static,
    ) -> Result<(), Problem> {
        let update = move |old: Option<&Value>| {
            let old = old.map(T::deserialize).transpose()?;
            Ok(serde_json::to_value(update(old))?)
        };
        self.change(key, Change::Update(Rc::new(update)))
    }

    fn change(&self, key: &str, change: Change) -> Result<(), Problem> {
        self.unanswered()?;
        let mut changes = self.0.state.borrow().changes.clone();
        changes.make(key, change);
        let data = changes.on(self.live().as_ref().map_or(&Data::new(), |live| &live.data));
        let data = data.map_err(|error| Problem::internal(&format!("changing {key:?} of a session"), &error))?;
        self.encode(&data)?;
        self.0.state.borrow_mut().changes = changes;
        Ok(())
    }

    /// Its data with what this request has changed.
    pub(super) fn data(&self) -> Result<Data, Problem> {
        let state = self.0.state.borrow();
        let data = match &state.held {
            Held::Live(live) => state.changes.on(&live.data),
            _ => state.changes.on(&Data::new()),
        };
        Ok(data?)
    }

    /// Data as it is stored.
    pub(super) fn encode(&self, data: &Data) -> Result<Vec<u8>, Problem> {
        let most = self.0.sessions.settings().bytes;
        let bytes = serde_json::to_vec(data).map_err(|error| Problem::internal("encoding a session", &error))?;
        if bytes.len() > most {
            let error = format!("a session's data would have {} bytes: at most {most}", bytes.len());
            return Err(Error::terminal(error).code("session_too_large").into());
        }
        Ok(bytes)
    }

    /// A problem when nothing can be changed any more: an answer that is being streamed is made.
    pub(super) fn unanswered(&self) -> Result<(), Problem> {
        match self.0.state.borrow().answered {
            true => Err(Problem::internal("changing a session", &"its answer was made already")),
            false => Ok(()),
        }
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    pub(super) fn secure(&self) -> bool {
        self.0.secure
    }

    pub(super) fn agent(&self) -> &str {
        &self.0.agent
    }

    pub(super) fn held(&self) -> Held {
        self.0.state.borrow().held.clone()
    }

    pub(super) fn live(&self) -> Option<Rc<Live>> {
        match &self.0.state.borrow().held {
            Held::Live(live) => Some(live.clone()),
            _ => None,
        }
    }

    /// Holds something else from now on.
    pub(super) fn hold(&self, held: Held) {
        self.0.state.borrow_mut().held = held;
    }

    pub(super) fn say(&self, cookie: Cookie) {
        self.0.state.borrow_mut().cookie = Some(cookie);
    }

    pub(super) fn cookie(&self) -> Option<Cookie> {
        self.0.state.borrow().cookie
    }

    pub(super) fn changes(&self) -> Changes {
        self.0.state.borrow().changes.clone()
    }

    /// The changes are made, or given up.
    pub(super) fn forget_changes(&self) {
        self.0.state.borrow_mut().changes = Changes::default();
    }

    pub(super) fn answer(&self) {
        self.0.state.borrow_mut().answered = true;
    }
}

/// Another request has given the session up meanwhile.
pub(super) fn replaced() -> Problem {
    Problem::of(&problems::SESSION_REPLACED)
}
