//! Which images a backup's environment is made of, read off what the backup says of where it came from.

use serde_json::Value;

/// Odoo's image where nothing says which: the source document's.
const ODOO: &str = "odoo:17.0";
/// PostgreSQL's image where nothing says which, with its major version in the place of `{major}`: the source
/// document's.
pub const POSTGRES: &str = "postgres:{major}-alpine";
/// PostgreSQL's major version where nothing says which: the source document's.
const POSTGRES_MAJOR: &str = "15";

/// Odoo's image: in either place that the source document names, else that of its version, else `odoo:17.0`.
/// The default in the first place counts as not said.
pub fn odoo_image(snapshot: Option<&Value>) -> String {
    let said =
        |value: &Value| value["odoo_image"].as_str().filter(|image| !image.is_empty()).map(str::to_owned);
    let Some(snapshot) = snapshot else { return ODOO.to_owned() };
    let outer = said(snapshot);
    outer
        .clone()
        .filter(|image| image != ODOO)
        .or_else(|| said(&snapshot["environment"]))
        .or(outer)
        .or_else(|| odoo_version(Some(snapshot)).map(|version| format!("odoo:{version}")))
        .unwrap_or_else(|| ODOO.to_owned())
}

/// The series of Odoo, such as `17.0`.
pub fn odoo_version(snapshot: Option<&Value>) -> Option<String> {
    let snapshot = snapshot?;
    let said = |value: &Value| value["odoo_version"].as_str().map(str::to_owned);
    let version = said(snapshot).or_else(|| said(&snapshot["environment"]))?;
    let mut parts = version.split('.');
    let (major, minor) = (parts.next()?, parts.next().unwrap_or("0"));
    // Odoo Enterprise says `18.0+e`.
    let minor = minor.split('+').next()?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(major) && is_number(minor)).then(|| format!("{major}.{minor}"))
}

/// PostgreSQL's image: the one that the environment had, else `template` with the major version of its server in
/// the place of `{major}`.
pub fn postgres_image(template: &str, snapshot: Option<&Value>) -> String {
    let snapshot = snapshot.unwrap_or(&Value::Null);
    if let Some(image) = snapshot["postgres_image"].as_str().filter(|image| !image.is_empty()) {
        return image.to_owned();
    }
    let major = snapshot["postgres_version"].as_str().and_then(|version| version.split('.').next());
    let major = major.filter(|major| !major.is_empty() && major.bytes().all(|byte| byte.is_ascii_digit()));
    template.replace("{major}", major.unwrap_or(POSTGRES_MAJOR))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn odoo_is_the_one_of_the_backup_in_either_place_or_the_default() {
        let of = |snapshot: Value| odoo_image(Some(&snapshot));
        assert_eq!(of(json!({ "odoo_image": "acme/odoo:18.0" })), "acme/odoo:18.0");
        assert_eq!(of(json!({ "environment": { "odoo_image": "acme/odoo:16.0" } })), "acme/odoo:16.0");
        let both = json!({ "odoo_image": "odoo:17.0", "environment": { "odoo_image": "acme/odoo:16.0" } });
        assert_eq!(of(both), "acme/odoo:16.0");
        assert_eq!(of(json!({ "odoo_image": "odoo:17.0" })), "odoo:17.0");
        assert_eq!(of(json!({ "odoo_version": "19.0-20260101" })), "odoo:17.0", "that is no series");
        assert_eq!(of(json!({ "odoo_version": "19.0" })), "odoo:19.0");
        assert_eq!(of(json!({ "odoo_version": "saas~18.2" })), "odoo:17.0");
        assert_eq!(odoo_image(None), "odoo:17.0");
    }

    #[test]
    fn postgresql_is_the_one_of_the_backup_or_of_its_major_version() {
        let of = |snapshot: Value| postgres_image("postgres:{major}-alpine", Some(&snapshot));
        assert_eq!(of(json!({ "postgres_image": "pgvector:16", "postgres_version": "16.3" })), "pgvector:16");
        assert_eq!(of(json!({ "postgres_version": "16.3" })), "postgres:16-alpine");
        assert_eq!(of(json!({ "postgres_version": "strange" })), "postgres:15-alpine");
        assert_eq!(postgres_image("postgres:{major}", None), "postgres:15");
    }
}
