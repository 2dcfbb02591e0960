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
fn what_is_left_out_of_a_request_is_left_out_and_not_null() {
    for (path, item) in document()["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let schema = parameter["schema"].to_string();
                assert!(!schema.contains("\"null\""), "{path}: {parameter}");
            }
        }
    }
}

#[test]
fn a_body_may_be_left_out_where_an_empty_object_says_enough() {
    let document = document();
    let body = |path: &str, method: &str| document["paths"][path][method]["requestBody"]["required"].clone();
    assert_eq!(body("/api/v1/environments/{environment_id}", "patch"), false);
    assert_eq!(body("/api/v1/environments/{environment_id}/backups", "post"), false);
    assert_eq!(body("/api/v1/backups/restore", "post"), true);
    assert_eq!(body("/api/v1/backups/storage/test", "post"), true);
}

#[test]
fn a_storage_is_one_of_as_many_as_there_are_providers() {
    let storage = &document()["components"]["schemas"]["StorageConfig"]["oneOf"];
    for one in storage.as_array().unwrap() {
        let needs: BTreeSet<&str> =
            one["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        let provider = one["title"].as_str().unwrap();
        assert_eq!(one["properties"]["provider"]["enum"], serde_json::json!([provider]));
        assert_eq!(one["additionalProperties"], false, "{provider}");
        assert_eq!(needs.contains("bucket"), one["properties"]["bucket"].is_object(), "{provider}");
        for name in needs {
            assert!(!one["properties"][name].to_string().contains("null"), "{provider}: {name}");
        }
    }
    assert_eq!(storage.as_array().unwrap().len(), undoo_api::storages::StorageProvider::ALL.len());
}

#[test]
fn every_permission_of_a_project_is_taken_by_an_operation() {
    let document = document().to_string();
    for permission in Permission::ALL {
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
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("://"), "{policy}");
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
    for script in ["reference", "welcome", "deploy_page"].map(|page| format!("{sources}/{page}/page.js")) {
        if let Ok(output) = Command::new("node").args(["--check", &script]).output() {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
