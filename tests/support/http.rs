//! A small blocking HTTP client: every answer, whatever its status, is an answer.

use std::time::{Duration, Instant};

use serde_json::Value;

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Name (lower case) and value of each header.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{} is no JSON ({e}): {}", self.status, self.text))
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Fails unless the status is `status`.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }
}

/// Talks to one server; keeps its connections.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    base: String,
}

impl Client {
    /// A client of the server at `base`, such as `http://127.0.0.1:8080`.
    pub fn new(base: impl Into<String>) -> Self {
        Self::patient(base, Duration::from_secs(90))
    }

    /// The same, waiting no longer than that for an answer.
    pub fn patient(base: impl Into<String>, patience: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(patience))
            .build();
        Self { agent: config.into(), base: base.into() }
    }

    /// Where it talks to.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// One request, or why there is no answer.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Answer, ureq::Error> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = match body {
            Some(body) => self.agent.run(request.body(body)?)?,
            None => self.agent.run(request.body(())?)?,
        };
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let text = response.body_mut().with_config().limit(64 << 20).lossy_utf8(true).read_to_string()?;
        Ok(Answer { status: response.status().as_u16(), headers, text })
    }

    /// `GET path`.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], None).unwrap_or_else(|e| panic!("GET {path}: {e}"))
    }

    /// `POST path` with a JSON body.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, body, &[])
    }

    /// `POST path` with a JSON body and more headers.
    #[track_caller]
    pub fn post_with(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
        let headers = [&[("content-type", "application/json")], headers].concat();
        self.send("POST", path, &headers, Some(body.to_string().as_bytes()))
            .unwrap_or_else(|e| panic!("POST {path}: {e}"))
    }

    /// Waits until the request of an accepted answer ended, and returns how it stands.
    #[track_caller]
    pub fn ended(&self, request: &str) -> Value {
        let deadline = Instant::now() + super::PATIENCE;
        loop {
            let path = format!("/requests/{request}");
            let answer = self.send("GET", &path, &[("prefer", "wait=30")], None).expect("an answer").expect(200);
            let view = answer.json();
            if !matches!(view["status"].as_str(), Some("accepted" | "processing")) {
                return view;
            }
            assert!(Instant::now() < deadline, "request {request} does not end: {view}");
        }
    }

    /// `POST path`, which must be accepted, and waits until it ended.
    #[track_caller]
    pub fn done(&self, path: &str, body: &Value) -> Value {
        let accepted = self.post(path, body).expect(202).json();
        self.ended(accepted["request"].as_str().expect("a request id"))
    }
}
