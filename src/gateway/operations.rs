//! The rest of `/admin`: the ledger, the audit, sending a command by hand.
//! Invariant: a command sent by hand is one its actor understands, or it is not accepted.

use std::time::Duration;

use actix_web::{HttpResponse, get, post};
use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::{
    json,
    value::{RawValue, Value},
};
use utoipa::ToSchema;

use super::{
    admin::Admin,
    extract::Valid,
    intake::Intake,
    problem::Problem,
    schemas::{AuditView, LedgerView},
};
use crate::{
    address::Address,
    backend::{Audit, Ledger},
    request::RequestId,
    runtime::node::Node,
};

/// The ledger as counted with every commit.
#[utoipa::path(tag = "admin", responses((status = 200, description = "The counts", body = LedgerView)))]
#[get("/admin/ledger")]
pub(crate) async fn ledger(_: Admin, node: Node) -> Result<HttpResponse, Problem> {
    let ledger = node.ledger().await?;
    let Ledger { accepted, completed, failed, dead, cancelled, lost, .. } = ledger;
    let in_flight = ledger.in_flight();
    Ok(HttpResponse::Ok().json(json!({
        "accepted": accepted, "completed": completed, "failed": failed,
        "dead": dead, "cancelled": cancelled, "lost": lost, "in_flight": in_flight,
    })))
}

/// Counts what is there and compares it with the ledger. Reads everything: takes a while.
#[utoipa::path(tag = "admin", responses((status = 200, description = "The comparison", body = AuditView)))]
#[post("/admin/audit")]
pub(crate) async fn audit(_: Admin, node: Node) -> Result<HttpResponse, Problem> {
    let Audit { accepted, completed, failed, dead, cancelled, lost, in_flight, balanced, mismatches } =
        node.audit().await?;
    let mismatches: Vec<Mismatch> = mismatches
        .into_iter()
        .map(|found| {
            let messages = found.messages.into_iter().map(|position| node.id(position)).collect();
            Mismatch { partition: found.partition, what: found.what, messages }
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({
        "accepted": accepted, "completed": completed, "failed": failed, "dead": dead, "cancelled": cancelled,
        "lost": lost, "in_flight": in_flight, "balanced": balanced, "mismatches": mismatches,
    })))
}

#[derive(Serialize)]
struct Mismatch {
    partition: u16,
    what: String,
    messages: Vec<RequestId>,
}

/// A command to send by hand.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sending {
    /// The receiving actor: `kind/key`.
    #[garde(length(min = 3, max = 600))]
    #[schema(min_length = 3, max_length = 600, example = "order/o-7")]
    to: String,
    /// The command, as its actor reads it.
    #[garde(skip)]
    #[schema(value_type = Value)]
    command: Box<RawValue>,
    /// Not before this long from now.
    #[garde(range(max = 315_360_000_000))]
    #[schema(minimum = 0, maximum = 315_360_000_000_u64)]
    after_ms: Option<u64>,
}

/// Sends a command to an actor.
#[utoipa::path(tag = "admin", request_body = Sending, responses((status = 202, description = "Accepted")))]
#[post("/admin/send")]
pub(crate) async fn send(_: Admin, intake: Intake, sending: Valid<Sending>) -> Result<HttpResponse, Problem> {
    let Sending { to, command, after_ms } = sending.0;
    let to: Address = to.parse().map_err(|error: crate::Error| Problem::invalid("/to", error.to_string()))?;
    let known = intake.node().kinds().contains(&to.kind());
    intake
        .node()
        .check(&to, command.get())
        .map_err(|error| Problem::invalid(if known { "/command" } else { "/to" }, error.to_string()))?;
    let acceptance = intake.deliver(to, command);
    match after_ms {
        Some(wait) => acceptance.after(Duration::from_millis(wait)).answer(Value::Null).await,
        None => acceptance.answer(Value::Null).await,
    }
}
