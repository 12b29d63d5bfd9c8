//! One client: has some orders under way, tells any of them the next thing, and repeats it under
//! the same Idempotency-Key until it is promised, however often the connection breaks.

use std::sync::atomic::Ordering;

use super::{
    Plan,
    history::{Event, History},
    killer::Stage,
    script::{self, Step},
};
use crate::support::{Answer, Client, Random};

/// An order under way.
struct Order {
    number: u64,
    id: String,
    steps: Vec<Step>,
    next: usize,
}

/// Writes until the stage closes; leaves nothing half-told.
pub(super) fn run(plan: &Plan, number: u64, stage: &Stage, history: &History) {
    let mut random = Random::seeded(plan.seed.wrapping_add(number));
    let mut talk = Talk { stage, life: 0, client: None };
    let mut orders: Vec<Order> = Vec::new();
    let mut begun = 0;
    while !stage.closed.load(Ordering::SeqCst) {
        if orders.len() < plan.orders_at_once {
            let number = number + plan.clients * begun;
            begun += 1;
            orders.push(Order { number, id: String::new(), steps: script::steps(plan.seed, number), next: 0 });
        }
        let at = random.below(orders.len() as u64) as usize;
        tell(&mut orders[at], &mut talk, &mut random, history);
        if orders[at].next == orders[at].steps.len() {
            orders.swap_remove(at);
        }
    }
}

/// Tells an order its next thing, until it is promised.
fn tell(order: &mut Order, talk: &mut Talk<'_>, random: &mut Random, history: &History) {
    let step = &order.steps[order.next];
    let path = match step.path {
        "" => "/orders".to_owned(),
        below => format!("/orders/{}{below}", order.id),
    };
    let key = format!("order-{}-{}", order.number, order.next);
    let body = step.body.as_ref().map(ToString::to_string);
    history.write(&Event::Sent { order: order.number, step: order.next });
    let answer = talk.until_promised(&path, &key, body.as_deref());
    let promise = answer.json();
    let text = |field: &str| promise[field].as_str().unwrap_or_else(|| panic!("no {field} in {promise}")).to_owned();
    if step.path.is_empty() {
        order.id = text("order");
    }
    let request = text("request");
    history.write(&Event::Promised { order: order.number, step: order.next, request, id: order.id.clone() });
    if random.chance(5) {
        // Even when the first answer was heard, asking again must be the same request.
        let again = talk.until_promised(&path, &key, body.as_deref()).json();
        assert_eq!((&again["request"], &again["order"]), (&promise["request"], &promise["order"]));
    }
    order.next += 1;
}

/// The connection to whichever process lives now.
struct Talk<'a> {
    stage: &'a Stage,
    life: u64,
    client: Option<Client>,
}

impl Talk<'_> {
    fn until_promised(&mut self, path: &str, key: &str, body: Option<&str>) -> Answer {
        loop {
            if let Some(client) = &self.client {
                let headers = [("content-type", "application/json"), ("idempotency-key", key)];
                match client.send("POST", path, &headers, body.map(str::as_bytes)) {
                    Ok(answer) if answer.status == 202 => {
                        self.stage.promised();
                        return answer;
                    }
                    // Killed or not ready: told again to whoever lives next, or later.
                    Ok(answer) if matches!(answer.status, 429 | 503) => {}
                    Ok(answer) => panic!("POST {path}: {} {}", answer.status, answer.text),
                    Err(_) => self.client = None,
                }
            }
            if self.client.is_none() {
                let (life, base) = self.stage.after(self.life);
                (self.life, self.client) = (life, Some(Client::new(base)));
            }
        }
    }
}
