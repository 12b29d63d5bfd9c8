//! The answer to something accepted: `202` with where to look, or how it ended if that was waited
//! for. Invariant: a repeat gets the same body as the first, to the byte, unless it waited.

use std::borrow::Cow;

use actix_web::{
    HttpResponse, HttpResponseBuilder,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value};

use super::{
    problem::Problem,
    problems::{CANCELLED, FAILED, INTERNAL},
};
use crate::{
    request::RequestId,
    runtime::view::{State, View},
};

/// What the gateway itself says; a feature's answer may not say it too.
const OURS: [&str; 9] =
    ["request", "status", "attempts", "result", "error", "accepted_at", "next_attempt_at", "ended_at", "links"];

/// What a feature adds to the answer. Stored with an idempotency key, so its names never change.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Answer {
    #[serde(rename = "answer")]
    fields: Map<String, Value>,
    links: Vec<(Cow<'static, str>, String)>,
}

impl Answer {
    /// From an object, or nothing (`null`).
    pub(crate) fn new(fields: Value, links: Vec<(Cow<'static, str>, String)>) -> Result<Self, Problem> {
        let fields = match fields {
            Value::Object(fields) => fields,
            Value::Null => Map::new(),
            other => return Err(Problem::internal("answering", &format!("{other} is no object"))),
        };
        match fields.keys().find(|name| OURS.contains(&name.as_str())) {
            Some(name) => Err(Problem::internal("answering", &format!("the name {name:?} belongs to the gateway"))),
            None => Ok(Self { fields, links }),
        }
    }

    /// To be stored with the key.
    pub(crate) fn store(&self) -> String {
        // Maps with text keys always encode.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// As it was stored.
    pub(crate) fn restore(text: &str) -> Result<Self, Problem> {
        serde_json::from_str(text).map_err(|error| Problem::internal("reading a stored answer", &error))
    }

    /// `202`: it will be done.
    pub(crate) fn promise(&self, request: RequestId) -> HttpResponseBuilder {
        let mut response = HttpResponse::build(StatusCode::ACCEPTED);
        response.insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
        if let Some(location) = location(request) {
            response.insert_header((header::LOCATION, location));
        }
        response
    }

    /// The body of the promise.
    pub(crate) fn promised(&self, request: RequestId) -> impl Serialize + '_ {
        Promised { request, fields: &self.fields, status: State::Accepted, links: Links { request, more: &self.links } }
    }

    /// How it ended: `200` when completed, a problem with the members of the request when failed
    /// (422) or cancelled (409). Dead letters can be redriven, so the promise stands: `202`.
    pub(crate) fn settled(&self, view: &View) -> Result<(HttpResponseBuilder, impl Serialize + '_), Problem> {
        let class = match view.status {
            State::Failed => &FAILED,
            State::Cancelled => &CANCELLED,
            _ => {
                let mut response = self.promise(view.request);
                if view.status == State::Completed {
                    response.status(StatusCode::OK);
                }
                let links = Links { request: view.request, more: &self.links };
                return Ok((response, Settled { view: view.clone(), fields: &self.fields, links }));
            }
        };
        let links = Links { request: view.request, more: &self.links };
        let mut problem = Problem::of(class).with_all(members(view)).with_all(self.fields.clone()).with("links", links);
        if let Some(failure) = &view.error {
            problem = problem.detail(failure.message.clone());
        }
        match location(view.request) {
            Some(location) => Err(problem.header(header::LOCATION, location)),
            None => Err(Problem::of(&INTERNAL)),
        }
    }
}

/// The members of a request, for a problem. A problem's `status` is a number, so how the request
/// stands is called `state` there.
pub(crate) fn members(view: &View) -> Map<String, Value> {
    let Ok(Value::Object(mut members)) = serde_json::to_value(view) else { return Map::new() };
    if let Some(status) = members.remove("status") {
        members.insert("state".to_owned(), status);
    }
    members
}

fn location(request: RequestId) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("/requests/{request}")).ok()
}

#[derive(Serialize)]
struct Promised<'a> {
    request: RequestId,
    #[serde(flatten)]
    fields: &'a Map<String, Value>,
    status: State,
    links: Links<'a>,
}

#[derive(Serialize)]
struct Settled<'a> {
    #[serde(flatten)]
    view: View,
    #[serde(flatten)]
    fields: &'a Map<String, Value>,
    links: Links<'a>,
}

/// Where to look, and whatever the feature adds.
struct Links<'a> {
    request: RequestId,
    more: &'a [(Cow<'static, str>, String)],
}

impl Serialize for Links<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2 + self.more.len()))?;
        map.serialize_entry("self", &format_args!("/requests/{}", self.request))?;
        map.serialize_entry("events", &format_args!("/requests/{}/events", self.request))?;
        for (name, href) in self.more {
            map.serialize_entry(name, href)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ID: &str = "00000000-0001-8000-8000-000000000000";

    fn view(status: State) -> View {
        View {
            request: ID.parse().unwrap(),
            status,
            attempts: 1,
            result: (status == State::Completed).then(|| serde_json::value::to_raw_value(&json!({"a": [1]})).unwrap()),
            error: None,
            accepted_at: None,
            next_attempt_at: None,
            ended_at: Some(5),
        }
    }

    fn answer() -> Answer {
        Answer::new(json!({"order": "o"}), vec![("order".into(), "/orders/o".into())]).unwrap()
    }

    #[test]
    fn the_promise_says_where_to_look() {
        let id: RequestId = ID.parse().unwrap();
        let text = serde_json::to_string(&answer().promised(id)).unwrap();
        assert_eq!(
            text,
            format!(
                r#"{{"request":"{ID}","order":"o","status":"accepted","links":{{"self":"/requests/{ID}","events":"/requests/{ID}/events","order":"/orders/o"}}}}"#
            )
        );
        let again = Answer::restore(&answer().store()).unwrap();
        assert_eq!(serde_json::to_string(&again.promised(id)).unwrap(), text);
    }

    #[test]
    fn the_end_decides_the_status() {
        let answer = answer();
        let (mut response, body) = answer.settled(&view(State::Completed)).ok().unwrap();
        assert_eq!(response.finish().status(), 200);
        let body = serde_json::to_value(&body).unwrap();
        assert_eq!((&body["result"], &body["order"]), (&json!({"a": [1]}), &json!("o")));
        let (mut response, _) = answer.settled(&view(State::DeadLettered)).ok().unwrap();
        assert_eq!(response.finish().status(), 202);
        let failed = answer.settled(&view(State::Failed)).err().unwrap();
        assert!(failed.status() == 422 && failed.to_string().contains(r#""state":"failed""#), "{failed}");
        assert_eq!(answer.settled(&view(State::Cancelled)).err().unwrap().status(), 409);
    }

    #[test]
    fn an_answer_cannot_speak_for_the_gateway() {
        assert_eq!(Answer::new(json!({"status": "paid"}), Vec::new()).unwrap_err().status(), 500);
        assert_eq!(Answer::new(json!([1]), Vec::new()).unwrap_err().status(), 500);
        assert!(Answer::new(Value::Null, Vec::new()).is_ok());
    }
}
