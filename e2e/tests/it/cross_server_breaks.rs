//! A restore onto another server over the platform, whose way or whose server breaks in the middle: it is taken back
//! whole and says why, and what is asked for once more is done.

use std::time::Duration;

use serde_json::{Value, json};
use undoo_testing::servers::{Server, USER};

use crate::{
    cross_server::{ENDED, There, organization},
    support::{Instance, Kind, backup::base64, link::Link, noise, sha1, site::held_at, wait_for, web::Web},
};

const BIG: usize = 6 << 20;
const MANY: u64 = 5;
const PORT: u16 = 18_069;
/// In the middle of a cutover.
const MIDDLE: &str = "rename_databases:after";
/// In the container of a cutover, whose only place to write to is this one.
const GO_ON: &str = "/dev/shm/go-on";

/// What was backed up to a storage by SFTP that both servers reach, and is lost here.
struct BackedUp {
    there: There,
    backup: String,
    size: u64,
    attachments: Vec<i64>,
    before: Vec<String>,
    production: String,
    _storage: (Server, Link),
}

impl BackedUp {
    fn up() -> Self {
        let there = There::up();
        let platform = &there.platform;
        let storage = Server::sshd();
        let (way, host) = there.second.way_to(storage.port);
        let config = json!({ "provider": "sftp", "host": host, "port": way.port, "username": USER,
                             "private_key": storage.key, "host_key": storage.host_key,
                             "path": "/srv/home/backups" });
        let new = json!({ "organization_id": organization(platform), "name": "Shared", "config": config,
                          "is_default": true });
        platform.post("/storages", new);

        let live = Instance::up(Kind::ODOO_19);
        let web = live.web();
        let attachment = |index: u64| {
            let values = json!({ "name": format!("big-{index}.bin"), "datas": base64(&noise(index, BIG)) });
            web.create("ir.attachment", values)
        };
        let attachments = (0..MANY).map(attachment).collect();
        let production = platform.adopt(&live.odoo(), "production");
        let backup = platform.back_up(&production);
        let size = platform.get(&format!("/backups/{backup}"))["size_bytes"].as_u64().unwrap();
        assert!(size > 25 << 20, "{size} bytes");
        drop(live);
        let before = there.left();
        Self { backup, size, attachments, before, production, _storage: (storage, way), there }
    }

    fn begins(&self) -> (String, String) {
        self.there.begins(&self.backup, |new| new["odoo_image"] = json!("odoo:19.0"))
    }

    fn get(&self, restore: &str) -> Value {
        self.there.platform.get(&format!("/restore/{restore}"))
    }

    /// Waits until a restore is at work on the database.
    fn loads(&self, restore: &str) {
        wait_for("the load", Duration::from_secs(120), || {
            let now = self.get(restore);
            assert_eq!(now["error_message"], Value::Null, "{now}");
            (now["status"] == "restoring_db").then_some(())
        });
    }

    /// Waits for the end of a restore that fails, for a reason with these words, and leaves nothing anywhere. What
    /// could not be removed at once is removed by the platform itself when its server is back.
    fn fails(&self, restore: &str, words: &[&str]) -> Value {
        let ended = self.there.platform.ended(&format!("/restore/{restore}"), &["failed", "completed"]);
        assert_eq!(ended["status"], "failed", "{ended}");
        let message = ended["error_message"].as_str().unwrap();
        println!("{}: {message}", ended["error_step"]);
        assert!(words.iter().any(|words| message.contains(words)), "{ended}");
        assert_eq!(self.there.left(), self.before);
        let path =
            format!("/environments?organization_id={}", organization(&self.there.platform).as_str().unwrap());
        let environments = self.there.platform.get(&path);
        let ids: Vec<&Value> = environments.as_array().unwrap().iter().map(|one| &one["id"]).collect();
        assert_eq!(ids, [&json!(self.production)]);
        ended
    }

    /// Restores, which is done whole; gives the bytes that passed the platform.
    fn completes(&self) -> u64 {
        let counted = self.there.second.counted();
        let (restore, id) = self.begins();
        let done = self.there.platform.ended(&format!("/restore/{restore}"), &ENDED);
        assert_eq!(done["status"], "completed", "{done}");
        let counted = self.there.second.counted() - counted;
        let url = format!("http://{}:{PORT}", self.there.second.address());
        let web = Web::login(&url, &id, "admin", "admin").unwrap();
        for (index, id) in self.attachments.iter().enumerate() {
            assert_eq!(sha1(&web.attachment(*id)), sha1(&noise(index as u64, BIG)), "attachment {id}");
        }
        counted
    }
}

#[test]
fn a_way_that_is_cut_in_the_middle_of_a_cutover_takes_the_restore_back_and_sftp_serves_the_next_directly() {
    let mut it = BackedUp::up();
    it.there.platform.kill();
    let hold = [("UNDOO_HOLD_AT", MIDDLE), ("UNDOO_HOLD_UNTIL", GO_ON)];
    it.there.platform.start(&it.there.undoo, &hold);
    let (restore, _) = it.begins();
    it.there.platform.process().line(&held_at(MIDDLE));
    it.there.second.cut();
    let task = it.get(&restore)["task_id"].as_str().unwrap().to_owned();
    wait_for("the platform to see it", Duration::from_secs(60), || {
        let log = it.there.platform.get(&format!("/tasks/{task}/log"));
        let failed = |line: &Value| line["step"] == "cut_over" && line["event"] == "do_failed";
        log.as_array().unwrap().iter().any(failed).then_some(())
    });
    // Nothing is taken from under a cutover, which goes on without anybody.
    let engine = &it.there.second.engine;
    let agents = engine.docker(&["ps", "-q", "--filter", "label=sh.undoo.role=cutover-agent"]);
    assert_eq!(agents.lines().count(), 1, "{agents}");
    assert_eq!(it.get(&restore)["completed_at"], Value::Null);
    engine.docker(&["exec", &agents, "touch", GO_ON]);
    it.fails(&restore, &["broke off while the cutover there was followed"]);

    it.there.platform.kill_and_start(&it.there.undoo);
    let counted = it.completes();
    println!("{counted} bytes passed the platform while {} were restored by SFTP", it.size);
    assert!(counted < it.size / 20, "{counted} of {}", it.size);
}

#[test]
fn a_server_that_is_rebooted_and_then_full_keeps_nothing_of_a_restore_and_takes_the_next() {
    let mut it = BackedUp::up();
    let (restore, _) = it.begins();
    it.loads(&restore);
    it.there.second.reboot();
    it.there.second.is_back();
    it.fails(&restore, &["SSH connection", "Docker Engine"]);

    it.there.second.has_little_room(120);
    let (restore, _) = it.begins();
    let full = it.fails(&restore, &["disk_space"]);
    assert_eq!(full["error_step"], "preflight", "{full}");
    let said = full["findings"].as_array().unwrap().iter().find(|one| one["code"] == "disk_space").unwrap();
    println!("{}", said["message"]);
    assert!(said["message"].as_str().unwrap().contains(" MiB must stay free"), "{full}");

    it.there.second.has_room_again(2048);
    it.completes();
}
