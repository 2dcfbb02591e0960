//! The OpenAPI document: what the routes say of themselves, and what is said once for all of them.
//!
//! Each operation says in `x-permission` which permission it takes and in `x-scope` what on. The matrix in
//! the tests asks every operation as every role and holds the answers against these two.

use undoo_api::{
    migrations::UPLOAD_TYPE,
    problem::{self, ProblemDetails},
    schema::without_null,
};
use utoipa::openapi::{
    Components, Content, ContentBuilder, Info, License, OpenApi, OpenApiBuilder, Ref, RefOr, Required,
    Response, ResponseBuilder, Schema, Tag,
    header::HeaderBuilder,
    path::{Operation, Parameter, PathItem},
    request_body::RequestBody,
    schema::{ObjectBuilder, Type},
    security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};
use utoipa::{PartialSchema, ToSchema};

use crate::request::caller::COOKIE;

/// `x-permission` of an operation that everybody may use.
pub const PUBLIC: &str = "public";
/// `x-permission` of an operation that takes nothing but being signed in.
pub const SIGNED_IN: &str = "signed_in";

/// Sections of the reference, in its order.
const TAGS: [(&str, &str); 12] = [
    ("auth", "Signing in and out, and who one is."),
    ("tokens", "Bearer tokens for programs."),
    ("organizations", "Organisations, their projects, and the people in them."),
    (
        "environments",
        "Odoo with its database and files: adopted by its container, or deployed for a restore.",
    ),
    ("migrations", "Backups from elsewhere, and the environments that wait for them."),
    ("servers", "Machines with a Docker Engine."),
    ("storages", "Where backups go."),
    ("backups", "Making, listing, downloading and deleting backups."),
    ("restores", "Restoring, following, cancelling and undoing."),
    ("recovery", "Bringing environments back after servers were lost."),
    ("tasks", "The work in the queue, and the audit log."),
    ("events", "What happens, as it happens."),
];

/// What is there before the routes add what they are.
pub fn opening() -> OpenApi {
    let mut info = Info::new("Undoo", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "Restores Odoo from backups: any environment, to any backup, with proof that the result is whole \
         and a way back.\n\nFailures are `application/problem+json`. Lists take `page` and `page_size` and \
         answer arrays, with `X-Total-Count` and `Link`. Times are RFC 3339 in UTC, ids are UUIDs. No text holds \
         a NUL character. A request \
         with an `Idempotency-Key` that is sent twice within 24 hours is carried out once. Somebody else's \
         object is answered like one that is not there."
            .to_owned(),
    );
    let mut license = License::new("Apache-2.0");
    license.identifier = Some("Apache-2.0".to_owned());
    info.license = Some(license);
    let mut components = Components::new();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
    let bearer = bearer.description(Some("A token of `POST /api/v1/tokens`.")).build();
    components.add_security_scheme("token", SecurityScheme::Http(bearer));
    let cookie = ApiKeyValue::with_description(
        COOKIE,
        "The session of `POST /api/v1/auth/login`. What changes something carries `X-Requested-With` or our `Origin`.",
    );
    components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    components.schemas.insert(ProblemDetails::name().into_owned(), ProblemDetails::schema());
    let mut others = Vec::new();
    ProblemDetails::schemas(&mut others);
    components.schemas.extend(others);
    let tags = TAGS.map(|(name, text)| {
        let mut tag = Tag::new(name);
        tag.description = Some(text.to_owned());
        tag
    });
    OpenApiBuilder::new().info(info).components(Some(components)).tags(Some(tags)).build()
}

/// Adds to each operation what is the same for all that are like it.
pub fn complete(document: &mut OpenApi) {
    let schemas = document.components.as_ref().map(|components| &components.schemas);
    let optional = |name: &str| {
        matches!(
            schemas.and_then(|schemas| schemas.get(name)),
            Some(RefOr::T(Schema::Object(body))) if body.required.is_empty()
        )
    };
    for item in document.paths.paths.values_mut() {
        let PathItem { get, put, post, delete, patch, .. } = item;
        let changing = [put, post, delete, patch].into_iter().flatten().map(|operation| (operation, true));
        for (operation, changes) in get.iter_mut().map(|operation| (operation, false)).chain(changing) {
            complete_one(operation, changes);
            operation.parameters.iter_mut().flatten().for_each(never_null);
            operation.request_body.iter_mut().for_each(|body| or_nothing(body, optional));
        }
    }
}

/// A parameter that may be left out is left out; `null` would be four letters.
fn never_null(parameter: &mut RefOr<Parameter>) {
    if let RefOr::T(Parameter { schema, .. }) = parameter {
        *schema = schema.take().map(without_null);
    }
}

/// No body is an empty object, where that says enough.
fn or_nothing(body: &mut RefOr<RequestBody>, optional: impl Fn(&str) -> bool) {
    let RefOr::T(body) = body else { return };
    let may_be_left_out = body.content.values().all(|content| match content {
        RefOr::T(Content { schema: Some(RefOr::Ref(schema)), .. }) => {
            schema.ref_location.rsplit('/').next().is_some_and(&optional)
        }
        _ => false,
    });
    if may_be_left_out {
        body.required = Some(Required::False);
    }
}

fn complete_one(operation: &mut Operation, changes: bool) {
    let permission = operation.extensions.as_ref().and_then(|all| all.get("x-permission")?.as_str());
    let permission = permission.unwrap_or_default().to_owned();
    let is_upload = match &operation.request_body {
        Some(RefOr::T(body)) => body.content.contains_key(UPLOAD_TYPE),
        _ => false,
    };
    let mut failures =
        vec![("400", "The request is not understood, or not possible as things stand.".to_owned())];
    if permission != PUBLIC {
        operation.security =
            Some(["token", "session"].map(|scheme| SecurityRequirement::new(scheme, [""; 0])).into());
        failures.push(("401", "Nobody is signed in.".to_owned()));
        failures.push((
            "403",
            match permission.as_str() {
                SIGNED_IN => "The request came by cookie and not from a page of this server.".to_owned(),
                permission => format!("The permission `{permission}` is missing."),
            },
        ));
    } else {
        failures.push((
            "403",
            "The password, link or token is wrong or holds no longer, or a form of another site sent it."
                .to_owned(),
        ));
    }
    if operation.parameters.is_some() || operation.request_body.is_some() {
        failures.push(("404", "There is no such thing, or it is somebody else's.".to_owned()));
        failures.push((
            "422",
            "A field is not what it should be, or a finding stands that was not accepted.".to_owned(),
        ));
    }
    if changes {
        failures.push(("409", "Something else is at work there, or stands in the way.".to_owned()));
    }
    if is_upload {
        failures.push(("415", "The bytes are not sent as those of an upload.".to_owned()));
    }
    if operation.request_body.is_some() {
        failures.push(("413", "The body is larger than any request needs.".to_owned()));
    }
    failures.push(("500", "A defect of the server; its log says more under `request_id`.".to_owned()));
    failures.push(("503", "A database, storage or server did not answer. Trying again may help.".to_owned()));
    for (status, description) in failures {
        let there = &mut operation.responses.responses;
        there.entry(status.to_owned()).or_insert_with(|| failure(&description).into());
    }
    for answer in operation.responses.responses.values_mut() {
        if let RefOr::T(answer) = answer {
            let text = ObjectBuilder::new().schema_type(Type::String).build();
            let header = HeaderBuilder::new().schema(Some(text)).description(Some("The id of the request."));
            answer.headers.entry("X-Request-Id".to_owned()).or_insert_with(|| header.build().into());
        }
    }
}

/// A failure that is nothing special.
fn failure(description: &str) -> Response {
    let details = Ref::from_schema_name(ProblemDetails::name());
    let content = ContentBuilder::new().schema(Some(details)).build();
    ResponseBuilder::new().description(description).content(problem::CONTENT_TYPE, content).build()
}
