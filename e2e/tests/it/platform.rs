//! The platform on a real Odoo: adopted, backed up, damaged and restored through the API, undone, copied to
//! another environment; and what becomes of it when the platform is killed meanwhile.

use serde_json::json;

use crate::support::{
    Instance, Kind, Undoo, backup::base64, docker::docker, noise, platform::Platform, sha1, wait_for,
};

const ENDED: [&str; 5] = ["completed", "failed", "cancelled", "undone", "stuck"];

#[test]
fn a_damaged_production_is_restored_through_the_api_undone_and_copied_to_staging() {
    let undoo = Undoo::ready();
    let (live, other) = (Instance::up(Kind::ODOO_19), Instance::up(Kind::ODOO_19));
    let platform = Platform::up(&undoo);
    for (path, mode) in platform.files() {
        assert_eq!(mode & 0o077, 0, "{} is for others to read: {mode:o}", path.display());
    }
    let production = platform.adopt(&live.odoo(), "production");
    let staging = platform.adopt(&other.odoo(), "staging");

    let web = live.web();
    let content = noise(7, 40_000);
    let partner = web.create("res.partner", json!({ "name": "Kept by the platform" }));
    let values = json!({ "name": "kept.bin", "res_model": "res.partner", "res_id": partner,
                         "datas": base64(&content) });
    let attachment = web.create("ir.attachment", values);
    let named = |web: &crate::support::web::Web| {
        web.count("res.partner", json!([["name", "=", "Kept by the platform"]]))
    };
    let backup = platform.back_up(&production);

    web.call("ir.attachment", "unlink", json!([[attachment]]), json!({}));
    web.call("res.partner", "unlink", json!([[partner]]), json!({}));
    let events = platform.events();
    let restore = platform.restore(json!({ "backup_id": backup }));
    let done = platform.ended(&format!("/restore/{restore}"), &ENDED);
    assert_eq!(done["status"], "completed", "{done}");
    let safety = done["pre_restore_backup_id"].as_str().expect("a safety backup").to_owned();
    assert_eq!(platform.get(&format!("/backups/{safety}"))["backup_type"], "pre_restore");
    assert_eq!(named(&live.web()), 1);
    assert_eq!(sha1(&live.web().attachment(attachment)), sha1(&content));
    let told = wait_for("the last event", std::time::Duration::from_secs(10), || {
        let told = events.of_restore(&restore);
        told.iter().any(|(name, _)| name == "restore.completed").then_some(told)
    });
    assert_eq!(told.first().unwrap().0, "restore.started");
    assert!(told.iter().any(|(name, _)| name == "restore.progress"), "{told:?}");
    assert_eq!(told.last().unwrap().0, "restore.completed");
    let report = platform.get(&format!("/restore/{restore}/report"));
    assert!(report.to_string().contains("signature"), "{report}");

    platform.post(&format!("/restore/{restore}/undo"), json!({}));
    let undone = platform.ended(&format!("/restore/{restore}"), &["undone", "stuck"]);
    assert_eq!(undone["status"], "undone", "{undone}");
    assert_eq!(named(&live.web()), 0, "the damage is back");

    let target = json!({ "mode": "existing", "environment_id": staging });
    let copy = platform.restore(json!({ "backup_id": backup, "target": target }));
    let copied = platform.ended(&format!("/restore/{copy}"), &ENDED);
    assert_eq!(copied["status"], "completed", "{copied}");
    assert_eq!(named(&other.web()), 1);
    assert_eq!(other.parameter(&other.name, "database.is_neutralized").to_lowercase(), "true");
    assert_ne!(
        other.parameter(&other.name, "database.uuid"),
        live.parameter(&live.name, "database.uuid"),
        "a copy has an identity of its own"
    );
    assert_eq!(platform.terminate().code, 0);
    assert_eq!(left_behind(&live) + &left_behind(&other), "", "nothing of ours is left running");
}

#[test]
fn a_restore_whose_platform_is_killed_ends_after_the_next_start() {
    let undoo = Undoo::ready();
    let live = Instance::up(Kind::ODOO_19);
    let mut platform = Platform::up(&undoo);
    let production = platform.adopt(&live.odoo(), "production");
    let web = live.web();
    let partner = web.create("res.partner", json!({ "name": "Kept by the platform" }));
    let backup = platform.back_up(&production);
    web.call("res.partner", "unlink", json!([[partner]]), json!({}));
    let request = json!({ "backup_id": backup, "create_pre_restore_backup": false });
    for status in ["restoring_db", "verifying"] {
        let restore = platform.restore(request.clone());
        platform.ended(&format!("/restore/{restore}"), &[status]);
        platform.kill_and_start(&undoo);
        let done = platform.ended(&format!("/restore/{restore}"), &ENDED);
        assert_eq!(done["status"], "completed", "killed at {status}: {done}");
        assert_eq!(live.web().count("res.partner", json!([["name", "=", "Kept by the platform"]])), 1);
    }
    assert_eq!(platform.terminate().code, 0);
    assert_eq!(left_behind(&live), "");
}

#[test]
fn what_a_lost_worker_has_stopped_to_make_room_is_started_again() {
    let undoo = Undoo::ready();
    let live = Instance::up(Kind::ODOO_19);
    let beside = live.run_beside("beside", &["--entrypoint", "sleep", "postgres:15", "3600"]);
    let platform = Platform::up(&undoo);
    let production = platform.adopt(&live.odoo(), "production");
    let backup = platform.back_up(&production);
    let request = json!({ "backup_id": backup, "create_pre_restore_backup": false });
    let id = |container: &str| docker(&["inspect", "-f", "{{.Id}}", container]);
    let note = live.data_dir().join(format!("filestore/.undoo/stopped-{}.json", hex::encode(&live.name)));
    // As a worker leaves it that is killed before it drops anything. One of its containers is gone since.
    let stopped = [id(&live.odoo()), id(&beside), "removed-meanwhile".to_owned()];
    let lost = || {
        std::fs::create_dir_all(note.parent().unwrap()).unwrap();
        std::fs::write(&note, serde_json::to_vec(&stopped).unwrap()).unwrap();
        docker(&["stop", "-t", "5", &live.odoo(), &beside]);
    };

    lost();
    let restore = platform.restore(request.clone());
    platform.ended(&format!("/restore/{restore}"), &["restoring_db"]);
    platform.post(&format!("/restore/{restore}/cancel"), json!({}));
    assert_eq!(platform.ended(&format!("/restore/{restore}"), &ENDED)["status"], "cancelled");
    assert!(Instance::runs(&live.odoo()) && Instance::runs(&beside));
    assert!(!note.exists());

    lost();
    let restore = platform.restore(request);
    assert_eq!(platform.ended(&format!("/restore/{restore}"), &ENDED)["status"], "completed");
    assert!(Instance::runs(&live.odoo()) && Instance::runs(&beside));
    assert!(!note.exists());
    assert_eq!(platform.terminate().code, 0);
}

/// Containers of ours that are about an instance.
fn left_behind(instance: &Instance) -> String {
    let target = format!("label=sh.undoo.target={}", instance.odoo());
    docker(&["ps", "--all", "--filter", &target, "--format", "{{.Names}} {{.Status}}"])
}
