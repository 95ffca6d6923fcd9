//! The checked-in OpenAPI document is the one that the code makes, and every reference in it leads somewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use serde_json::Value;
use std::path::Path;

#[test]
fn the_document_that_is_checked_in_is_not_stale() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    if std::env::var_os("VONK_BLESS").is_some() {
        let text = serde_json::to_string_pretty(&protocol::openapi::document()).unwrap() + "\n";
        std::fs::write(&path, text).unwrap();
    }
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap_or_default()).unwrap_or_default();
    assert!(
        kept == protocol::openapi::document(),
        "stale: write it again with VONK_BLESS=1, or `vonk openapi > docs/openapi.json`"
    );
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk(value: &Value, doc: &Value, seen: &mut usize) {
        match value {
            Value::Object(map) => {
                if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                    let found = doc.pointer(reference.trim_start_matches('#'));
                    assert!(found.is_some_and(|f| !f.is_null()), "{reference}");
                    *seen += 1;
                }
                map.values().for_each(|v| walk(v, doc, seen));
            }
            Value::Array(list) => list.iter().for_each(|v| walk(v, doc, seen)),
            _ => {}
        }
    }
    let (doc, mut seen) = (protocol::openapi::document(), 0);
    walk(&doc, &doc, &mut seen);
    assert!(seen > 40, "{seen}");
    let ids: Vec<&Value> = doc["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|p| p.as_object().unwrap().values())
        .map(|o| &o["operationId"])
        .collect();
    let mut unique = ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), ids.len(), "operation ids are unique");
}
