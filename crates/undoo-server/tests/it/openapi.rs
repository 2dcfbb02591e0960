//! The document that the routes make, and the page that shows it.

use std::{collections::BTreeSet, process::Command};

use axum::http::StatusCode;
use serde_json::Value;
use undoo_core::platform::Permission;

use crate::platform::Platform;

fn document() -> Value {
    serde_json::to_value(undoo_server::openapi()).unwrap()
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(to)) = fields.get("$ref") {
                found.insert(to.clone());
            }
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn whatever_the_document_refers_to_is_in_it() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.contains("#/components/schemas/ProblemDetails"), "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} is not there");
    }
}

#[test]
fn words_are_in_the_document_as_they_travel() {
    let words = &document()["components"]["schemas"]["BackupStatus"]["enum"];
    let known: Vec<&str> = undoo_core::platform::BackupStatus::ALL.iter().map(|one| one.as_str()).collect();
    assert_eq!(*words, serde_json::json!(known));
}

#[test]
fn every_operation_has_a_name_of_its_own_a_section_and_its_failures() {
    let document = document();
    let sections: BTreeSet<&str> =
        document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name.to_owned()), "{name} is there twice");
            assert!(sections.contains(operation["tags"][0].as_str().unwrap()), "{name}");
            assert!(!operation["summary"].as_str().unwrap().is_empty(), "{name}");
            let answers = operation["responses"].as_object().unwrap();
            let fails = &answers["500"]["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(fails, "#/components/schemas/ProblemDetails", "{path}");
            assert!(answers.keys().any(|status| status.starts_with('2')), "{name}");
        }
    }
}

#[test]
fn every_permission_of_a_project_is_taken_by_an_operation() {
    let document = document().to_string();
    // Servers are managed with the issue that adds them.
    for permission in Permission::ALL.iter().filter(|one| one.as_str() != "org.servers.manage") {
        let named = [format!("\"x-permission\":\"{permission}\""), format!("\"x-also\":[\"{permission}\"]")];
        let listed = *permission == Permission::OrgBackupsList;
        assert!(listed || named.iter().any(|name| document.contains(name)), "nothing takes {permission}");
    }
}

#[tokio::test]
async fn the_reference_is_served_whole_by_this_server_and_by_nobody_else() {
    let platform = Platform::on_sqlite().await;
    let served = platform.get("/api/v1/openapi.json", "").await;
    assert_eq!(served.json(), document());
    let page = platform.get("/api/docs", "").await;
    assert_eq!(page.status, StatusCode::OK);
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    let addresses = page.split(['"']).filter(|text| text.starts_with("/api/") || text.contains("://"));
    for address in addresses {
        let answered = platform.get(address, "").await;
        assert_eq!(answered.status, StatusCode::OK, "{address}");
        assert!(
            !String::from_utf8_lossy(&answered.body).contains("https://"),
            "{address} needs somebody else"
        );
    }
}

#[test]
fn the_scripts_of_the_pages_are_scripts() {
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    for script in ["reference/page.js", "welcome/page.js"].map(|name| format!("{sources}/{name}")) {
        if let Ok(output) = Command::new("node").args(["--check", &script]).output() {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
