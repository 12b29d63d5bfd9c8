//! The cookie that a load balancer sticks to.

use super::*;

#[actix_web::test]
async fn a_client_is_told_its_node_until_it_names_it() {
    let node = node(1 << 20).await;
    let shared =
        routes::share(node, &routes(), Settings { affinity: Some("node-a".into()), ..Settings::default() }).unwrap();
    let app = init_service(routes::app(&shared, &routes())).await;
    let told = async |pairs: &[(&str, &str)]| {
        let request = pairs.iter().fold(TestRequest::get().uri("/livez"), |r, pair| r.insert_header(*pair));
        let (_, headers, _) = call(&app, request).await;
        headers.get(header::SET_COOKIE).map(|set| set.to_str().unwrap().to_owned())
    };
    let set = "greenroom_node=node-a; Path=/; HttpOnly; SameSite=Lax";
    assert_eq!(told(&[]).await.as_deref(), Some(set));
    assert_eq!(told(&[("cookie", "greenroom_node=node-b")]).await.as_deref(), Some(set));
    assert_eq!(told(&[("cookie", "x=1; greenroom_node=node-a")]).await, None);
    let secure = told(&[("host", "shop.example"), ("x-forwarded-proto", "https")]).await.unwrap();
    assert!(secure.ends_with("; Secure"), "{secure}");
    shared.retire();
    assert_eq!(told(&[]).await, None, "nobody is to come back to a node that goes");
}
