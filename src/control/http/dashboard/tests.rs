use super::*;
use actix_web::http::StatusCode;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, web};
use std::collections::BTreeSet;
use std::path::Path as FilePath;

/// All files below the folder of the assets, but the page itself.
fn on_disk() -> BTreeSet<String> {
    let root = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("src/control/http/dashboard/assets");
    let names = |folder: &FilePath| -> Vec<_> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let mut found = BTreeSet::new();
    for path in names(&root).into_iter().chain(names(&root.join("pages"))) {
        if path.is_file() {
            found.insert(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
        }
    }
    found.remove("index.html");
    found
}

#[test]
fn every_file_of_the_folder_is_compiled_in() {
    let listed: BTreeSet<String> = FILES.iter().map(|file| file.path.to_owned()).collect();
    assert_eq!(listed, on_disk());
}

#[test]
fn modules_import_only_what_is_there() {
    for file in FILES.iter().filter(|file| file.path.ends_with(".js")) {
        for line in file.body.lines().filter(|line| line.starts_with("import ")) {
            let name = line.split('"').nth(1).expect("a module's name");
            let folder = FilePath::new(file.path).parent().unwrap();
            let path = match name.strip_prefix("../") {
                Some(above) => above.to_owned(),
                None => folder.join(name.trim_start_matches("./")).to_str().unwrap().to_owned(),
            };
            assert!(FILES.iter().any(|known| known.path == path), "{}: {name}", file.path);
        }
    }
}

#[test]
fn what_an_agent_wrote_can_never_become_markup() {
    for file in &FILES {
        for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "srcdoc"]
        {
            assert!(!file.body.contains(forbidden), "{} has {forbidden}", file.path);
        }
    }
}

#[test]
fn nothing_is_loaded_from_elsewhere_and_nothing_stands_inline() {
    for file in FILES.iter().chain([&File { path: "index.html", body: INDEX }]) {
        let names_of_kinds = file.body.replace("http://www.w3.org/", "");
        for forbidden in ["http://", "https://", "<style", "style=\"", "javascript:", "\"/v1", "\"/assets"] {
            assert!(!names_of_kinds.contains(forbidden), "{} has {forbidden}", file.path);
        }
    }
    for script in INDEX.split("<script").skip(1) {
        assert!(script.contains("src=\"assets/") && script.contains("></script>"), "{script}");
    }
}

#[actix_rt::test]
async fn the_pages_work_under_any_scope_with_and_without_a_slash_at_its_end() {
    let scope = || web::scope("").configure(mount);
    let top = init_service(App::new().service(scope())).await;
    let below = init_service(App::new().service(web::scope("/a/agents").service(scope()))).await;
    for path in ["/", "/assets/app.js", "/assets/pages/chat.js"] {
        let response = call_service(&top, TestRequest::get().uri(path).to_request()).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let response =
            call_service(&below, TestRequest::get().uri(&format!("/a/agents{path}")).to_request()).await;
        assert_eq!(response.status(), StatusCode::OK, "{path} below a scope");
    }
    let response = call_service(&below, TestRequest::get().uri("/a/agents").to_request()).await;
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(response.headers().get(LOCATION).unwrap(), "agents/");
    let response = call_service(&top, TestRequest::get().uri("/assets/../Cargo.toml").to_request()).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
}

#[actix_rt::test]
async fn a_browser_that_has_a_file_is_told_that_it_is_the_same() {
    let app = init_service(App::new().service(web::scope("").configure(mount))).await;
    let request = TestRequest::get().uri("/assets/style.css").to_request();
    let response = call_service(&app, request).await;
    assert_eq!(response.headers().get("content-type").unwrap(), "text/css; charset=utf-8");
    let tag = response.headers().get(ETAG).unwrap().clone();
    let again = TestRequest::get().uri("/assets/style.css").insert_header((IF_NONE_MATCH, tag)).to_request();
    let response = call_service(&app, again).await;
    assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
    assert!(read_body(response).await.is_empty());
    let other =
        TestRequest::get().uri("/assets/style.css").insert_header((IF_NONE_MATCH, "\"x\"")).to_request();
    assert_eq!(call_service(&app, other).await.status(), StatusCode::OK);
}
