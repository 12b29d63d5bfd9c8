//! What a started product says: to a person where it is and what to try next, to a machine one
//! log line with the same facts.

use std::{
    io::{IsTerminal, Write},
    time::Instant,
};

use crate::{config::Config, runtime::node::Node};

pub(super) fn show(config: &Config, node: &Node, url: &str, first: Option<&str>, began: Instant) {
    let store = config.store.place();
    let took = began.elapsed().as_millis() as u64;
    tracing::info!(listen = url, store, actors = node.kinds().join(","), took_ms = took, "serving");
    let mut out = std::io::stderr();
    if out.is_terminal() {
        let first = first.unwrap_or("curl -i {url}/readyz").replace("{url}", url);
        // A terminal that went away is no reason to stop serving.
        let _ = out.write_all(text(url, &store, &node.kinds().join(", "), &first).as_bytes());
    }
}

fn text(url: &str, store: &str, actors: &str, first: &str) -> String {
    let actors = if actors.is_empty() { String::new() } else { format!("  actors    {actors}\n") };
    format!(
        "\n  gateway   {url}   API: {url}/docs\n  store     {store}\n{actors}\n  Try:  {}\n  Stop: Ctrl-C (work in \
         progress finishes first)\n\n",
        first.trim().replace('\n', "\n        ")
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_says_where_and_what_to_try() {
        let text = super::text("http://127.0.0.1:8080", "/srv/data", "order", "curl http://127.0.0.1:8080/orders");
        assert_eq!(
            text,
            "\n  gateway   http://127.0.0.1:8080   API: http://127.0.0.1:8080/docs\n  store     /srv/data\n  actors    \
             order\n\n  Try:  curl http://127.0.0.1:8080/orders\n  Stop: Ctrl-C (work in progress finishes first)\n\n"
        );
    }
}
