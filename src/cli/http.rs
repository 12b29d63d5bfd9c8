//! Talking to a running server: JSON in, JSON out, problems turned into what to do about them.

use std::{
    io::{BufRead, BufReader},
    time::Duration,
};

use serde_json::Value;
use ureq::{Agent, Body, http::Response};

use super::trouble::Trouble;

/// A server.
pub(crate) struct Server {
    pub(crate) url: String,
    token: Option<String>,
    agent: Agent,
}

impl Server {
    pub(crate) fn new(url: &str, token: Option<String>) -> Self {
        let config = Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_recv_response(Some(Duration::from_secs(90)))
            .http_status_as_error(false)
            .user_agent(concat!("greenroom-cli/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { url: url.trim_end_matches('/').to_owned(), token, agent: config.into() }
    }

    /// Whether anything answers there.
    pub(crate) fn answers(&self) -> bool {
        self.agent.get(format!("{}/livez", self.url)).call().is_ok()
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value, Trouble> {
        self.read(self.request("GET", path, None)?)
    }

    /// Like [`Server::get`]; `None` when only operators may see it, and this is none.
    pub(crate) fn open(&self, path: &str) -> Result<Option<Value>, Trouble> {
        let response = self.request("GET", path, None)?;
        match response.status().as_u16() {
            401 | 403 => Ok(None),
            _ => self.read(response).map(Some),
        }
    }

    pub(crate) fn delete(&self, path: &str) -> Result<Value, Trouble> {
        self.read(self.request("DELETE", path, None)?)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, Trouble> {
        self.read(self.request("POST", path, Some(body))?)
    }

    /// Calls `each` with the data of every server-sent event until it says to stop or the
    /// stream ends, which may be only because this server is going away.
    pub(crate) fn events(&self, path: &str, mut each: impl FnMut(Value) -> bool) -> Result<(), Trouble> {
        let mut response = self.request("GET", path, None)?;
        if !response.status().is_success() {
            return self.read(response).map(|_| ());
        }
        let mut data = String::new();
        for line in BufReader::new(response.body_mut().as_reader()).lines() {
            // Broken off is ended: whoever reads on asks again.
            let Ok(line) = line else { return Ok(()) };
            if let Some(part) = line.strip_prefix("data:") {
                data.push_str(part);
            } else if line.is_empty() && !data.is_empty() {
                let event = serde_json::from_str(&std::mem::take(&mut data));
                if !each(event.unwrap_or(Value::Null)) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Response<Body>, Trouble> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            // One or the other: a request can be asked for in either form at the same path.
            .header("accept", if path.ends_with("/events") { "text/event-stream" } else { "application/json" });
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let sent = match body {
            Some(body) => request
                .header("content-type", "application/json")
                .body(body.to_string())
                .map(|request| self.agent.run(request)),
            None => request.body(()).map(|request| self.agent.run(request)),
        };
        sent.map_err(|e| Trouble::usage(format!("{}{path} is no URL that can be asked: {e}", self.url)))?.map_err(|e| {
            Trouble::new(format!("{} does not answer: {e}", self.url))
                .help("start it with `greenroom serve`, or name another with --server URL")
        })
    }

    fn read(&self, mut response: Response<Body>) -> Result<Value, Trouble> {
        let status = response.status();
        let text = response
            .body_mut()
            .read_to_string()
            .map_err(|e| Trouble::new(format!("the answer of {} broke off: {e}", self.url)))?;
        let json = serde_json::from_str::<Value>(&text).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(json);
        }
        Err(problem(status.as_u16(), &json))
    }
}

/// What an RFC 9457 problem means for whoever typed the command.
fn problem(status: u16, json: &Value) -> Trouble {
    let text = |name: &str| json.get(name).and_then(Value::as_str);
    // The detail is about this very case; the title only names its kind.
    let said = text("detail").or(text("title"));
    let mut what = said.map_or_else(|| format!("the server answered {status}"), str::to_owned);
    for error in json.get("errors").and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| error.get(name).and_then(Value::as_str);
        let place = ["pointer", "parameter", "header"].into_iter().find_map(text).filter(|place| !place.is_empty());
        let place = place.map(|place| format!("{place}: ")).unwrap_or_default();
        what += &format!("\n{place}{}", text("reason").unwrap_or_default());
    }
    let trouble = Trouble::new(what);
    match status {
        401 | 403 => trouble.help("set GREENROOM_ADMIN__TOKEN to the server's admin token"),
        410 => trouble.help("results are kept for runtime.retention"),
        404 => trouble.help("check the id, and that this is the server it came from"),
        429 | 503 => trouble.help("the server is busy or draining: try again in a moment"),
        _ => trouble,
    }
}

/// Makes text safe inside a query string.
pub(crate) fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_problem_says_what_and_what_to_do() {
        let trouble = problem(
            422,
            &json!({
                "title": "Not a command",
                "errors": [{"pointer": "/amount", "reason": "expected a number"}]
            }),
        );
        assert_eq!(trouble.what, "Not a command\n/amount: expected a number");
        assert!(problem(401, &Value::Null).help.unwrap().contains("GREENROOM_ADMIN__TOKEN"));
        assert_eq!(problem(500, &Value::Null).what, "the server answered 500");
    }

    #[test]
    fn keys_survive_a_query_string() {
        assert_eq!(encode("a b/ä&c"), "a%20b%2F%C3%A4%26c");
    }
}
