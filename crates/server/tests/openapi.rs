//! The OpenAPI document that is served names every path of the server and no other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod shell;

use server::Config;
use shell::*;
use std::collections::BTreeSet;
use std::path::Path;

/// What stands behind `.route("` in the sources, in the words of OpenAPI.
fn routes() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "rs"));
    let texts = files.iter().map(|p| std::fs::read_to_string(p).unwrap());
    let found = texts.flat_map(|t| {
        let compact: String = t.split_whitespace().collect();
        let after = compact.split(".route(\"").skip(1).map(|r| r.split('"').next().unwrap().to_owned());
        after.collect::<Vec<_>>()
    });
    found.map(|path| path.replace("{*id}", "{id}")).collect()
}

#[test]
fn every_path_is_in_the_document_and_is_there() {
    let (running, _) = serve(Config::default());
    let addr = running.addr();
    let doc = get(addr, "/openapi.json").json();
    let paths = doc["paths"].as_object().unwrap();
    let described: BTreeSet<String> = paths.keys().cloned().collect();
    assert_eq!(described, routes());
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            let path = path.replace("{id}", "echo");
            let answer = match method.as_str() {
                "get" => get(addr, &path),
                "post" => post(addr, &path, "[]"),
                other => raw(addr, &request(&other.to_uppercase(), &path, "", b"")),
            };
            assert!(answer.status != 405 && answer.status < 500, "{method} {path}: {}", answer.status);
            assert!(!answer.text().contains("nothing at this path"), "{method} {path}");
        }
    }
}
