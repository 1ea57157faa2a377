//! The pages of the dashboard: plain files that are compiled in, and know the API only. They may be seen by everybody;
//! what they show needs a login. All their addresses are relative, so that they work under any scope.

use actix_web::http::header::{CACHE_CONTROL, ETAG, EntityTag, IF_NONE_MATCH, IfNoneMatch, LOCATION};
use actix_web::http::header::{Header, HeaderValue};
use actix_web::web::{self, Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use sha2::{Digest, Sha256};

/// A file of the pages.
struct File {
    /// Its path below `assets/`.
    path: &'static str,
    body: &'static str,
}

/// Lists files by their paths below `dashboard/assets`.
macro_rules! files {
    ($($path:literal,)*) => {
        [$(File { path: $path, body: include_str!(concat!("dashboard/assets/", $path)) },)*]
    };
}

const INDEX: &str = include_str!("dashboard/assets/index.html");

const FILES: [File; 28] = files![
    "api.js",
    "app.js",
    "dialog.js",
    "dom.js",
    "events.js",
    "icon.svg",
    "pages.js",
    "pages/audit.js",
    "pages/channels.js",
    "pages/chat.js",
    "pages/chat_entries.js",
    "pages/deliveries.js",
    "pages/delivery.js",
    "pages/lanes.js",
    "pages/live.js",
    "pages/login.js",
    "pages/overview.js",
    "pages/pauses.js",
    "pages/questions.js",
    "pages/session.js",
    "pages/sessions.js",
    "pages/task.js",
    "pages/tasks.js",
    "pages/tenants.js",
    "plot.js",
    "style.css",
    "table.js",
    "theme.js",
];

/// The files with what browsers recognise them by.
struct Pages {
    index: EntityTag,
    files: Vec<EntityTag>,
}

impl Pages {
    fn new() -> Self {
        Self { index: tag(INDEX), files: FILES.iter().map(|file| tag(file.body)).collect() }
    }
}

fn tag(body: &str) -> EntityTag {
    let digest = Sha256::digest(body.as_bytes());
    EntityTag::new_strong(digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect())
}

/// Adds the pages to an application or a scope.
pub(super) fn mount(config: &mut ServiceConfig) {
    config
        .app_data(Data::new(Pages::new()))
        .route("", web::get().to(index))
        .route("/", web::get().to(index))
        .route("/assets/{path:.*}", web::get().to(asset));
}

/// The one page, into which scripts put all others.
async fn index(request: HttpRequest, pages: Data<Pages>) -> HttpResponse {
    // Without the slash at its end, relative addresses would lead out of the scope.
    if !request.path().ends_with('/') {
        let name = request.path().rsplit('/').next().unwrap_or_default();
        let place = HeaderValue::from_str(&format!("{name}/"));
        return place.map_or_else(
            |_| HttpResponse::NotFound().finish(),
            |place| HttpResponse::TemporaryRedirect().insert_header((LOCATION, place)).finish(),
        );
    }
    answer(&request, &pages.index, "text/html; charset=utf-8", INDEX)
}

async fn asset(request: HttpRequest, pages: Data<Pages>, path: Path<String>) -> HttpResponse {
    match FILES.iter().zip(&pages.files).find(|(file, _)| file.path == *path) {
        Some((file, tag)) => answer(&request, tag, content_type(file.path), file.body),
        None => HttpResponse::NotFound().finish(),
    }
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/javascript; charset=utf-8",
    }
}

/// Browsers keep the file, and ask each time whether it is still the same: a new version is never mixed with an old one.
fn answer(request: &HttpRequest, tag: &EntityTag, content_type: &str, body: &'static str) -> HttpResponse {
    let known = request.headers().contains_key(IF_NONE_MATCH)
        && match IfNoneMatch::parse(request) {
            Ok(IfNoneMatch::Any) => true,
            Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|given| given.weak_eq(tag)),
            Err(_) => false,
        };
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header((CACHE_CONTROL, "no-cache")).insert_header((ETAG, tag.to_string()));
    match known {
        true => response.finish(),
        false => response.content_type(content_type).body(body),
    }
}

#[cfg(test)]
mod tests;
