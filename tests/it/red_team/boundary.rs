//! Who may open anything in a session folder: the store, and nobody else.

use std::fs;
use std::path::{Path, PathBuf};

/// What opens, lists, changes or names files. Attachments arrive in a channel as open files.
const WAYS_AROUND: [&str; 8] = [
    "std::fs::",
    "use std::fs;",
    "File::open",
    "File::options",
    "OpenOptions",
    "rustix::fs",
    "/proc/self",
    "Connection::open",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_engine_reaches_files_through_the_store_only() {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("actors/src");
    let mut files = Vec::new();
    sources(&engine, &mut files);
    assert!(files.len() > 50, "the sources are where they are looked for");
    let is_free = |path: &Path| {
        let inside = path.strip_prefix(&engine).expect("below the engine");
        // A keeper is a process of its own, and opens what is in the host's folder for its session, and /proc.
        let is_keeper = inside.starts_with("runtime/keeper") || inside == Path::new("runtime/keeper.rs");
        inside.starts_with("store")
            || inside.starts_with("testing")
            || inside.ends_with("tests.rs")
            || is_keeper
    };
    let mut complaints = Vec::new();
    for path in files.iter().filter(|path| !is_free(path)) {
        let text = fs::read_to_string(path).expect("a source");
        // Unit tests at the end of a file are free to make what they need.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            // An adapter holds files that the store has opened.
            let is_a_type = line.trim() == "use std::fs::File;" || line.contains("-> Result<(PathComponent,");
            if !is_a_type && WAYS_AROUND.iter().any(|way| line.contains(way)) {
                complaints.push(format!("{}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}
