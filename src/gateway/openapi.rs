//! The OpenAPI document, made of the very routes that are served, and completed here with what
//! every route has in common. Invariant: an answer the gateway can give is in the document.

use actix_web::{dev::ResourceDef, http::Method};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Content, InfoBuilder, LicenseBuilder, OpenApi, PathItem, Ref, RefOr, Required, Response, ResponseBuilder,
        SecurityRequirement,
        header::HeaderBuilder,
        path::{Operation, ParameterBuilder, ParameterIn},
        schema::{Components, ObjectBuilder, Schema, Type},
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

use super::{
    problem::MEDIA_TYPE,
    schemas::{FailureView, FaultView, ProblemView, PromiseView, RequestState, RequestView, StoryView},
};

/// Errors any operation may answer.
const ANY: [(&str, &str); 7] = [
    ("400", "The request cannot be read"),
    ("404", "There is no such thing"),
    ("422", "It is refused, for the reason in `detail`"),
    ("429", "A limit is reached; `Retry-After` says when to try again"),
    ("431", "The target and headers are too large"),
    ("500", "Something went wrong here"),
    ("503", "It cannot be done now; `Retry-After` says when to try again"),
];

/// Errors an operation that takes a body may answer.
const WITH_BODY: [(&str, &str); 4] = [
    ("408", "The body did not arrive in time"),
    ("413", "The body is too large"),
    ("415", "The body must be plain JSON"),
    ("422", "The body does not hold what it must; `errors` names each field"),
];

/// Errors an operation that accepts a command may answer.
const ACCEPTING: [(&str, &str); 4] = [
    ("409", "It was waited for, and cancelled"),
    (
        "422",
        "The body does not hold what it must, or the `Idempotency-Key` was used for something else, or it was waited for and failed",
    ),
    ("412", "A newer holder of the lock that `Fencing-Token` names has written here since"),
    ("429", "The mailbox is full, or a limit is reached; `Retry-After` says when to try again"),
];

/// Errors an operation behind the admin token may answer.
const ADMIN: [(&str, &str); 2] =
    [("401", "The admin token is missing or wrong"), ("403", "Administration is closed to this caller")];

/// Completes what the routes say of themselves.
pub(crate) fn complete(mut api: OpenApi) -> OpenApi {
    api.info = InfoBuilder::new()
        .title("Greenroom")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Commands are answered with `202` once they are durable; `GET /requests/{id}` tells how they end.",
        ))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    let components = api.components.get_or_insert_with(Components::new);
    let schemas = [
        schema::<ProblemView>(),
        schema::<FaultView>(),
        schema::<PromiseView>(),
        schema::<RequestView>(),
        schema::<RequestState>(),
        schema::<FailureView>(),
        schema::<StoryView>(),
    ];
    components.schemas.extend(schemas);
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.security_schemes.insert("admin".to_owned(), RefOr::T(bearer));
    let mut ids = std::collections::HashSet::new();
    for (path, item) in &mut api.paths.paths {
        for (method, operation) in operations(item) {
            // Handlers of different features may share a function name; ids may not.
            let id = operation.operation_id.take().unwrap_or_default();
            let id = if ids.contains(&id) || id.is_empty() { format!("{}_{}", lower(&method), slug(path)) } else { id };
            ids.insert(id.clone());
            operation.operation_id = Some(id);
            complete_operation(path, operation);
        }
    }
    api
}

fn complete_operation(path: &str, operation: &mut Operation) {
    if path.starts_with("/admin/") || path.ends_with("/{id}/journal") {
        add(operation, &ADMIN);
        let none: [&str; 0] = [];
        operation.security = Some(vec![SecurityRequirement::new("admin", none), SecurityRequirement::default()]);
    }
    // Signals and cancelling go to a request that is there already, and locks are no requests: they say for
    // themselves what they answer.
    let accepts = !["/signals/", "/requests/", "/admin/locks/"].iter().any(|other| path.starts_with(other));
    if accepts && operation.responses.responses.contains_key("202") {
        accepting(operation);
    }
    if operation.request_body.is_some() {
        add(operation, &WITH_BODY);
    }
    add(operation, &ANY);
    // A documented error without a body of its own is a problem, as every error is.
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && response.content.is_empty()
            && status.starts_with(['4', '5'])
        {
            response.content.insert(MEDIA_TYPE.to_owned(), content("ProblemView").into());
        }
    }
}

/// What is true of every operation that accepts a command.
fn accepting(operation: &mut Operation) {
    add(operation, &ACCEPTING);
    let parameters = operation.parameters.get_or_insert_default();
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let key = text().min_length(Some(1)).max_length(Some(255)).pattern(Some("^[!-~]+$"));
    let fence = text().pattern(Some(r#"^[0-9]{1,15};lock="[!#-\[\]-~]{1,64}"$"#));
    for (name, schema, description) in [
        ("Idempotency-Key", key, "A repeat with the same key happens once and gets the first answer"),
        ("Prefer", text(), "`wait=N`: waits up to N seconds for the end"),
        (
            "Fencing-Token",
            fence,
            "Which holder of a lock sends it: refused once a newer holder has written to the same mailbox",
        ),
    ] {
        let header = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(description))
            .schema(Some(Schema::Object(schema.build())));
        parameters.push(header.build().into());
    }
    let responses = &mut operation.responses.responses;
    let header = |description: &str| HeaderBuilder::new().schema(Some(text())).description(Some(description)).build();
    let promise = |description: &str, view: &str| {
        ResponseBuilder::new()
            .description(description)
            .content("application/json", content(view))
            .header("Location", header("Where to look: `/requests/{id}`"))
            .build()
    };
    if let Some(RefOr::T(accepted)) = responses.get_mut("202") {
        let ours = promise("Accepted: it will be done, and its `Location` tells how it ends", "PromiseView");
        accepted.headers.extend(ours.headers);
        if accepted.content.is_empty() {
            accepted.content = ours.content;
        }
    }
    responses
        .entry("200".to_owned())
        .or_insert_with(|| promise("It was waited for, and completed", "RequestView").into());
}

/// Adds error responses that are not documented already.
fn add(operation: &mut Operation, errors: &[(&str, &str)]) {
    for (status, description) in errors {
        let problem = || -> RefOr<Response> { ResponseBuilder::new().description(*description).build().into() };
        operation.responses.responses.entry((*status).to_owned()).or_insert_with(problem);
    }
}

fn content(view: &str) -> Content {
    Content::new(Some(Ref::from_schema_name(view)))
}

fn schema<T: ToSchema + PartialSchema>() -> (String, RefOr<Schema>) {
    (T::name().into_owned(), T::schema())
}

fn lower(method: &Method) -> String {
    method.as_str().to_ascii_lowercase()
}

fn slug(path: &str) -> String {
    let words: Vec<&str> = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    words.join("_")
}

/// The operations of a path.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let all = [
        (Method::GET, &mut item.get),
        (Method::PUT, &mut item.put),
        (Method::POST, &mut item.post),
        (Method::DELETE, &mut item.delete),
        (Method::PATCH, &mut item.patch),
        (Method::OPTIONS, &mut item.options),
        (Method::HEAD, &mut item.head),
        (Method::TRACE, &mut item.trace),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// Which methods each path takes, to answer 405 with `Allow` where the path is right.
pub(crate) struct Table(Vec<(ResourceDef, Vec<Method>)>);

impl Table {
    /// Of the document's paths and of `more` that are not in it, which take GET.
    pub(crate) fn of(api: &OpenApi, more: &[&str]) -> Self {
        let documented = api.paths.paths.iter().map(|(path, item)| {
            let methods = operations(&mut item.clone()).map(|(method, _)| method).collect();
            (ResourceDef::new(path.as_str()), methods)
        });
        let more = more.iter().map(|path| (ResourceDef::new(*path), vec![Method::GET]));
        Self(documented.chain(more).collect())
    }

    /// The value of `Allow` for a path; `None` when nothing is served there.
    pub(crate) fn allow(&self, path: &str) -> Option<String> {
        // A path that is written out means that one, whatever patterns match it too.
        let exact = self.0.iter().any(|(pattern, _)| pattern.pattern() == Some(path));
        let found = self.0.iter().filter(|(pattern, _)| match exact {
            true => pattern.pattern() == Some(path),
            false => pattern.is_match(path),
        });
        let mut names: Vec<&str> = found.flat_map(|(_, methods)| methods).map(Method::as_str).collect();
        if names.contains(&"GET") {
            names.push("HEAD");
        }
        names.sort_unstable();
        names.dedup();
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// The pattern a path belongs to, for its label.
    pub(crate) fn pattern(&self, path: &str) -> Option<&str> {
        self.0.iter().find(|(pattern, _)| pattern.is_match(path))?.0.pattern()
    }
}
