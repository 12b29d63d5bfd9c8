//! The cookie by which a load balancer brings a client back to the node that holds its connection:
//! `greenroom_node`, whose value is the node's name. `deploy/` has load balancers that read it.
//! Invariant: it is a hint and no more; a request is as well served by any other node.

use actix_web::http::header::{self, HeaderMap};

use super::{cookies, is_local_host};

/// What it is called: load balancers are configured by it.
pub(crate) const COOKIE: &str = "greenroom_node";

/// Names this node to a client that does not name it: it is new, or the node it was at is gone.
pub(crate) fn stick(node: &str, request: &HeaderMap, response: &mut HeaderMap) {
    if cookies::shown(request, COOKIE).any(|shown| shown == node) {
        return;
    }
    let host = request.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    // It is no secret; a browser that came by TLS keeps it for TLS all the same.
    let secure = !is_local_host(host) && request.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
    if let Some(cookie) = cookies::set(COOKIE, node, secure) {
        response.append(header::SET_COOKIE, cookie);
    }
}
