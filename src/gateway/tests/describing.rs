//! What the gateway says of itself: pages of problems, and its document.

use super::*;

#[actix_web::test]
async fn every_problem_type_has_a_page() {
    let app = app(|_| {}).await;
    for class in super::super::problems::ALL {
        let (status, _, body) = call(&app, TestRequest::get().uri(&format!("/problems/{}", class.name))).await;
        assert_eq!(status, 200);
        assert!(String::from_utf8(body).unwrap().contains(class.help));
    }
    assert_eq!(problem(&app, TestRequest::get().uri("/problems/none")).await.0, 404);
}

#[actix_web::test]
async fn the_docs_load_nothing_from_elsewhere() {
    let app = app(|_| {}).await;
    assert_eq!(call(&app, TestRequest::get().uri("/docs")).await.1.get(header::LOCATION).unwrap(), "/docs/");
    let (status, _, body) = call(&app, TestRequest::get().uri("/docs/")).await;
    let page = String::from_utf8(body).unwrap();
    assert!(status == 200 && page.contains("swagger-ui") && !page.contains("https://"), "{page}");
    let (status, _, body) = call(&app, TestRequest::get().uri("/docs/swagger-initializer.js")).await;
    assert!(status == 200 && String::from_utf8(body).unwrap().contains("/openapi.json"));
    assert_eq!(problem(&app, TestRequest::get().uri("/docs/none")).await.0, 404);
}

#[actix_web::test]
async fn the_document_describes_every_answer() {
    let app = app(|_| {}).await;
    let (_, _, body) = call(&app, TestRequest::get().uri("/openapi.json")).await;
    let document: Value = serde_json::from_slice(&body).unwrap();
    let mut ids = std::collections::HashSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(
                ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
                "{method} {path} has no id of its own"
            );
            for (status, response) in operation["responses"].as_object().unwrap() {
                let problem = response["content"].get("application/problem+json").is_some();
                assert_eq!(problem, status.starts_with(['4', '5']), "{method} {path} {status}");
            }
            for parameter in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
                let documented =
                    operation["parameters"].as_array().is_some_and(|all| all.iter().any(|p| p["name"] == parameter));
                assert!(
                    documented || path.starts_with("/counters") || path.starts_with("/broken"),
                    "{method} {path} {parameter}"
                );
            }
        }
    }
    let add = &document["paths"]["/counters/{key}"]["post"];
    for status in ["200", "202", "400", "408", "409", "412", "413", "415", "422", "429", "500", "503"] {
        assert!(add["responses"].get(status).is_some(), "{status}");
    }
    let names: Vec<&str> = add["parameters"].as_array().unwrap().iter().filter_map(|p| p["name"].as_str()).collect();
    assert!(["Idempotency-Key", "Prefer", "Fencing-Token"].iter().all(|name| names.contains(name)));
    // Every reference leads somewhere.
    let text = String::from_utf8(body).unwrap();
    for reference in text.split(r##""$ref":"#"##).skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
}
