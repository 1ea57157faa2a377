//! The description of the API, made from its handlers.

use super::problem::ProblemBody;
use super::routes;
use actix_web::App;
use utoipa::openapi::content::Content;
use utoipa::openapi::path::PathItem;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::Ref;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Components, OpenApi as Document, SecurityRequirement};
use utoipa::{Modify, OpenApi, PartialSchema, ToSchema};
use utoipa_actix_web::AppExt;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "nanorelay",
        description = "The control plane of a nanorelay host. Errors are `application/problem+json`; `GET /problems` lists \
                       their types.",
        license(name = "MIT OR Apache-2.0")
    ),
    modifiers(&Security)
)]
struct About;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut Document) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = document.components.get_or_insert_with(Components::new);
        components.add_security_scheme("token", scheme);
        document.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>("token", [])]);
    }
}

/// The OpenAPI document of the API, as `GET /openapi.json` serves it.
pub fn document() -> Document {
    let app = App::new().into_utoipa_app().openapi(About::openapi());
    let (_, mut document) = app
        .configure(routes::public)
        .service(utoipa_actix_web::scope("/v1").configure(routes::api))
        .split_for_parts();
    add_problems(&mut document);
    // The version of the program that was built, not of this crate's macro.
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    document
}

/// Whatever else an operation answers is a problem.
fn add_problems(document: &mut Document) {
    let (mut schemas, name) = (Vec::new(), ProblemBody::name().into_owned());
    ProblemBody::schemas(&mut schemas);
    schemas.push((name.clone(), ProblemBody::schema()));
    document.components.get_or_insert_with(Components::new).schemas.extend(schemas);
    let problem = ResponseBuilder::new()
        .description("A problem; `GET /problems` lists their types.")
        .content("application/problem+json", Content::new(Some(Ref::from_schema_name(name))))
        .build();
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            operation.responses.responses.insert("default".to_owned(), problem.clone().into());
        }
    }
}

/// The document, ready to be served, and which methods each path has.
pub(super) struct Description {
    /// As JSON.
    pub json: String,
    paths: Vec<(String, Vec<&'static str>)>,
}

impl Description {
    pub fn new() -> Self {
        let document = document();
        let paths = document.paths.paths.iter().map(|(path, item)| (path.clone(), methods(item))).collect();
        // Documents hold nothing that cannot be written as JSON.
        Self { json: document.to_pretty_json().unwrap_or_default(), paths }
    }

    /// The methods that a path has; none when there is no such path.
    pub fn methods_of(&self, path: &str) -> Vec<&'static str> {
        let fits = |template: &str| {
            let (mut wanted, mut found) = (template.split('/'), path.split('/'));
            loop {
                match (wanted.next(), found.next()) {
                    (None, None) => return true,
                    (Some(wanted), Some(found)) if wanted == found => {}
                    (Some(wanted), Some(found)) if wanted.starts_with('{') && !found.is_empty() => {}
                    _ => return false,
                }
            }
        };
        self.paths
            .iter()
            .filter(|(template, _)| fits(template))
            .flat_map(|(_, methods)| methods.clone())
            .collect()
    }
}

fn methods(item: &PathItem) -> Vec<&'static str> {
    let all = [
        ("GET", item.get.is_some()),
        ("POST", item.post.is_some()),
        ("PUT", item.put.is_some()),
        ("PATCH", item.patch.is_some()),
        ("DELETE", item.delete.is_some()),
    ];
    all.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kept_document_is_the_one_that_is_served() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
        let made = Description::new().json + "\n";
        if std::env::var_os("NANORELAY_REWRITE_DOCS").is_some() {
            std::fs::write(&path, &made).expect("the document can be written");
            return;
        }
        let kept = std::fs::read_to_string(&path).expect("docs/openapi.json");
        let different = made.lines().zip(kept.lines()).find(|(made, kept)| made != kept);
        let hint =
            "docs/openapi.json is old: run this test with NANORELAY_REWRITE_DOCS=1 and look at the change";
        assert!(made == kept, "{hint}\nfirst: {different:?}");
    }

    #[test]
    fn every_operation_below_v1_but_the_login_needs_a_caller_and_says_what_it_is() {
        let document = serde_json::to_value(document()).unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let is_open = operation["security"] == serde_json::json!([{}]);
                let may_be_open = !path.starts_with("/v1/") || path == "/v1/login";
                assert!(!is_open || may_be_open, "{method} {path} needs no caller");
                assert!(operation["summary"].is_string(), "{method} {path} says nothing of itself");
                assert!(operation["responses"]["default"].is_object(), "{method} {path}");
            }
        }
    }

    #[test]
    fn a_path_has_the_methods_of_its_template() {
        let description = Description::new();
        assert_eq!(description.methods_of("/v1/pauses"), ["GET", "POST"]);
        assert_eq!(description.methods_of("/v1/pauses/resume"), ["POST"]);
        for path in ["/v1/pauses/", "/v1", "", "/v1/nothing"] {
            assert!(description.methods_of(path).is_empty(), "{path}");
        }
    }
}
