//! Limits of HTTP requests: who is counted together, what is refused, and each header field.

use super::*;
use crate::{
    coordination::limit::Limit,
    gateway::limits::{Identify, Identity, Rule, Who},
};

const HOUR: Duration = Duration::from_secs(3600);

fn rule(name: &str, who: Who, limit: Limit) -> Rule {
    Rule { name: name.into(), who, paths: vec!["/counters".into()], methods: Vec::new(), limit }
}

fn get(user: &str) -> TestRequest {
    TestRequest::get().uri("/counters").insert_header(("x-key", user.to_owned()))
}

/// As a product knows its users.
fn by_key(settings: &mut Settings) {
    settings.limits.identify = Some(Identify::by(|req| {
        let user = req.headers().get("x-key")?.to_str().ok()?.to_owned();
        Some(Identity { tenant: user.split('@').nth(1).map(str::to_owned), user: Some(user) })
    }));
}

fn text(headers: &header::HeaderMap, name: &str) -> String {
    headers.get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap().to_owned()
}

#[actix_web::test]
async fn every_answer_says_what_is_left_and_the_last_one_when_to_come_again() {
    let app = app(|settings| {
        settings.limits.rules = vec![rule("api", Who::User, Limit::rate(3, HOUR))];
        by_key(settings);
    })
    .await;
    for (left, time) in [("2", "2400"), ("1", "1200"), ("0", "1200")] {
        let (status, headers, _) = call(&app, get("ann")).await;
        assert_eq!(status, 200);
        assert_eq!(text(&headers, "ratelimit-policy"), "\"api\";q=3;w=3600");
        assert_eq!(text(&headers, "ratelimit"), format!("\"api\";r={left};t={time}"));
        let old = ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"].map(|name| text(&headers, name));
        assert_eq!(old, ["3", left, time]);
        assert!(!headers.contains_key(header::RETRY_AFTER));
    }
    let (status, headers, body) = problem(&app, get("ann")).await;
    assert_eq!((status, text(&headers, "retry-after").as_str()), (429, "1200"));
    assert_eq!(text(&headers, "ratelimit"), "\"api\";r=0;t=1200");
    assert_eq!(text(&headers, "ratelimit-policy"), "\"api\";q=3;w=3600");
    assert_eq!(text(&headers, "ratelimit-remaining"), "0");
    assert_eq!(
        body,
        json!({
            "type": "/problems/quota-exceeded", "title": "A limit is reached", "status": 429,
            "detail": "Nothing is left of api for 1200 s.", "instance": "/counters",
            "violated-policies": ["api"],
        })
    );
    // Somebody else has a bucket of his own, and whoever is nobody that of the address.
    assert_eq!(text(&call(&app, get("bob")).await.1, "ratelimit-remaining"), "2");
    let stranger = TestRequest::get().uri("/counters");
    assert_eq!(text(&call(&app, stranger).await.1, "ratelimit-remaining"), "2");
}

#[actix_web::test]
async fn a_quota_is_not_used_up_by_what_the_rate_refuses() {
    let app = app(|settings| {
        let limit = Limit::rate(2, HOUR).and_quota(100, 24 * HOUR);
        settings.limits.rules = vec![rule("api", Who::Everybody, limit)];
    })
    .await;
    for _ in 0..2 {
        assert_eq!(call(&app, get("ann")).await.0, 200);
    }
    for _ in 0..5 {
        let (status, headers, body) = problem(&app, get("ann")).await;
        assert_eq!((status, &body["violated-policies"]), (429, &json!(["api"])));
        assert_eq!(text(&headers, "ratelimit-policy"), "\"api\";q=2;w=3600");
    }
    let quota = app.call(get("ann").to_request()).await;
    assert_eq!(quota.unwrap().status(), 429);
    let limits = on_limits(&app).await;
    assert_eq!((&limits["allowed"], &limits["refused"]), (&json!(2), &json!(6)));
}

#[actix_web::test]
async fn a_used_up_quota_refuses_until_its_window_ends() {
    let app = app(|settings| {
        settings.limits.rules = vec![rule("daily", Who::Everybody, Limit::quota(1, 24 * HOUR))];
    })
    .await;
    let (status, headers, _) = call(&app, get("ann")).await;
    assert_eq!((status, text(&headers, "ratelimit-policy").as_str()), (StatusCode::OK, "\"daily-quota\";q=1;w=86400"));
    let (status, headers, body) = problem(&app, get("ann")).await;
    assert_eq!((status, &body["violated-policies"]), (429, &json!(["daily-quota"])));
    let wait: u64 = text(&headers, "retry-after").parse().unwrap();
    let now = Clock::System.now() as u64 / 1000;
    assert!((86_400 - now % 86_400).abs_diff(wait) <= 2, "{wait}");
    assert_eq!(text(&headers, "ratelimit"), format!("\"daily-quota\";r=0;t={wait}"));
}

#[actix_web::test]
async fn all_rules_that_apply_must_allow_it_and_the_tightest_is_told_to_older_clients() {
    let app = app(|settings| {
        settings.limits.rules = vec![
            rule("user", Who::User, Limit::rate(10, HOUR)),
            rule("tenant", Who::Tenant, Limit::rate(3, HOUR)),
            Rule { methods: vec![Method::POST], ..rule("writes", Who::Everybody, Limit::rate(1, HOUR)) },
        ];
        by_key(settings);
    })
    .await;
    let (_, headers, _) = call(&app, get("ann@acme")).await;
    assert_eq!(text(&headers, "ratelimit-policy"), "\"user\";q=10;w=3600, \"tenant\";q=3;w=3600");
    assert_eq!(text(&headers, "ratelimit-limit"), "3");
    assert_eq!(call(&app, get("bob@acme")).await.0, 200);
    assert_eq!(call(&app, get("cid@acme")).await.0, 200);
    let (status, headers, body) = problem(&app, get("dan@acme")).await;
    assert_eq!((status, &body["violated-policies"]), (429, &json!(["tenant"])));
    assert_eq!(text(&headers, "ratelimit"), "\"user\";r=9;t=3240, \"tenant\";r=0;t=1200");
    assert_eq!(call(&app, get("eve@other")).await.0, 200);
}

#[actix_web::test]
async fn no_spelling_of_a_path_gets_around_a_rule_and_some_paths_are_free() {
    let app = app(|settings| {
        settings.limits.rules = vec![Rule { paths: Vec::new(), ..rule("all", Who::Everybody, Limit::rate(1, HOUR)) }];
    })
    .await;
    assert_eq!(call(&app, TestRequest::get().uri("/counters")).await.0, 200);
    for uri in ["/counters", "/%63ounters", "/counters?limit=2", "/nothing/here", "/"] {
        assert_eq!(call(&app, TestRequest::get().uri(uri)).await.0, 429, "{uri}");
    }
    assert_eq!(call(&app, TestRequest::default().method(Method::HEAD).uri("/counters")).await.0, 429);
    for uri in ["/livez", "/readyz", "/metrics", "/admin/ledger"] {
        let request = TestRequest::get().uri(uri).insert_header((header::HOST, "localhost"));
        assert_eq!(call(&app, request).await.0, 200, "{uri}");
    }
    let narrow = super::app(|settings| {
        settings.limits.rules = vec![rule("some", Who::Everybody, Limit::rate(1, HOUR))];
    })
    .await;
    assert_eq!(call(&narrow, TestRequest::get().uri("/counters")).await.0, 200);
    assert_eq!(call(&narrow, TestRequest::get().uri("/%63ounters")).await.0, 429);
    assert_eq!(call(&narrow, TestRequest::get().uri("/")).await.0, 200);
}

#[actix_web::test]
async fn a_page_of_another_origin_may_read_why_it_is_refused() {
    let app = app(|settings| {
        settings.cors_origins = vec!["https://shop.example".into()];
        settings.limits.rules = vec![rule("api", Who::Everybody, Limit::rate(1, HOUR))];
    })
    .await;
    let ask = || get("ann").insert_header((header::ORIGIN, "https://shop.example"));
    call(&app, ask()).await;
    let (status, headers, _) = call(&app, ask()).await;
    assert_eq!(
        (status.as_u16(), text(&headers, "access-control-allow-origin").as_str()),
        (429, "https://shop.example")
    );
    let exposed = text(&headers, "access-control-expose-headers");
    for name in ["ratelimit", "ratelimit-policy", "ratelimit-reset", "retry-after"] {
        assert!(exposed.split(',').any(|exposed| exposed.trim() == name), "{name} in {exposed}");
    }
    let preflight = TestRequest::default()
        .method(Method::OPTIONS)
        .uri("/counters")
        .insert_header((header::ORIGIN, "https://shop.example"))
        .insert_header((header::ACCESS_CONTROL_REQUEST_METHOD, "POST"));
    assert_eq!(call(&app, preflight).await.0, 200);
}

#[actix_web::test]
async fn without_rules_nothing_is_said() {
    let app = app(|_| {}).await;
    let (_, headers, _) = call(&app, get("ann")).await;
    assert!(headers.iter().all(|(name, _)| !name.as_str().starts_with("ratelimit")));
}

#[actix_web::test]
async fn what_cannot_be_a_rule_is_refused_by_name() {
    let node = node(1 << 20).await;
    let refused = |rules: Vec<Rule>| {
        let mut settings = Settings::default();
        settings.limits.rules = rules;
        routes::share(node.clone(), &routes(), settings).map(|_| ()).unwrap_err().to_string()
    };
    let api = || rule("api", Who::Ip, Limit::rate(1, HOUR));
    for (rules, says) in [
        (vec![Rule { name: "A b".into(), ..api() }], "expected a name"),
        (vec![api(), api()], "two of that name"),
        (vec![Rule { paths: vec!["orders".into()], ..api() }], "does not begin with /"),
        (vec![Rule { limit: Limit::concurrency(1), ..api() }], "at once cannot be limited here"),
        (vec![Rule { limit: Limit::rate(0, HOUR), ..api() }], "a rate of 0 tokens"),
    ] {
        let error = refused(rules);
        assert!(error.contains(says), "{error}");
    }
}

/// The first limit as operators see it.
async fn on_limits(
    app: &impl Service<actix_http::Request, Response = ServiceResponse<BoxBody>, Error = actix_web::Error>,
) -> Value {
    let request = TestRequest::get().uri("/admin/limits").insert_header((header::HOST, "localhost"));
    let (status, _, body) = call(app, request).await;
    assert_eq!(status, 200);
    value(&body)["items"][0].clone()
}

#[actix_web::test]
async fn an_operator_sees_who_is_at_the_end() {
    let app = app(|settings| {
        settings.limits.rules = vec![rule("api", Who::User, Limit::rate(2, HOUR))];
        by_key(settings);
    })
    .await;
    for _ in 0..5 {
        call(&app, get("ann")).await;
    }
    let limit = on_limits(&app).await;
    assert_eq!((&limit["name"], &limit["rate"], &limit["burst"]), (&json!("http:api"), &json!("2/1h"), &json!(2)));
    assert_eq!((&limit["allowed"], &limit["refused"], &limit["unavailable"]), (&json!(2), &json!(3), &json!("local")));
    assert_eq!((&limit["low"][0]["who"], &limit["low"][0]["refused"]), (&json!("user ann"), &json!(3)));
    assert_described::<crate::gateway::limits::admin::LimitView>(&limit);
    assert_described::<crate::gateway::limits::admin::LowView>(&limit["low"][0]);
}
