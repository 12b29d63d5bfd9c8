//! A client that keeps its cookies, as browsers do.

use serde_json::Value;

use crate::support::{Answer, Client};

/// A browser with one tab.
pub(crate) struct Browser {
    client: Client,
    cookies: Vec<(String, String)>,
}

impl Browser {
    pub(crate) fn new(url: &str) -> Self {
        Self { client: Client::new(url), cookies: Vec::new() }
    }

    pub(crate) fn log_in(&mut self, user: &str) {
        self.send("POST", &format!("/login/{user}")).expect("an answer").expect(204);
    }

    /// One request, or why there is no answer.
    pub(crate) fn send(&mut self, method: &str, path: &str) -> Result<Answer, String> {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies = cookies.join("; ");
        let mut headers = vec![("sec-fetch-site", "same-origin")];
        if !cookies.is_empty() {
            headers.push(("cookie", cookies.as_str()));
        }
        let body = (method == "POST").then_some(b"".as_slice());
        let answer = self.client.send(method, path, &headers, body).map_err(|error| error.to_string())?;
        for (_, set) in answer.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let (name, value) = set.split(';').next().and_then(|pair| pair.split_once('=')).expect("a cookie");
            self.cookies.retain(|(kept, _)| kept != name);
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
        Ok(answer)
    }

    /// Who it is, as the node that answers sees it.
    pub(crate) fn who(&mut self) -> Value {
        self.send("GET", "/who").expect("an answer").expect(200).json()
    }

    /// The node that answers.
    pub(crate) fn node(&mut self) -> String {
        self.who()["node"].as_str().expect("a name").to_owned()
    }
}
