//! Many environments on one server: made one after another and side by side, none in the way of another; and when
//! they are destroyed, the server, the platform and its process are as they were before the first.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    cross_server::{ENDED, There, organization},
    support::{Instance, Kind, docker::output, wait_for, web::Web},
};

const ONE_BY_ONE: u16 = 10;
const AT_ONCE: u16 = 4;
const FIRST_PORT: u16 = 18_100;
/// What an environment has on its server: two containers, their network, two volumes, a folder.
const THINGS: usize = 6;
/// Fewer than one for each environment that was made meanwhile.
const MORE_FILES: usize = 8;

/// An environment that was restored.
struct Made {
    id: String,
    name: String,
    web: Web,
}

impl Made {
    /// Begins one; gives its restore and its id.
    fn begin(there: &There, backup: &str, number: u16) -> (String, String) {
        there.begins(backup, |new| {
            new["name"] = json!(name(number));
            new["http_port"] = json!(FIRST_PORT + number);
            new["odoo_image"] = json!("odoo:19.0");
        })
    }

    /// Waits for it, looks at it as its users do, and enters something that is nowhere else.
    fn ends(there: &There, (restore, id): (String, String), number: u16) -> Self {
        let done = there.platform.ended(&format!("/restore/{restore}"), &ENDED);
        assert_eq!(done["status"], "completed", "{done}");
        let task = done["task_id"].as_str().unwrap();
        println!("{} took {}", name(number), phases(&there.platform.get(&format!("/tasks/{task}/log"))));
        let environment = there.platform.get(&format!("/environments/{id}"));
        assert_eq!(environment["status"], "running", "{environment}");

        let url = format!("http://{}:{}", there.second.address(), FIRST_PORT + number);
        assert_eq!(login_page(&url), "200");
        let web = Web::login(&url, &id, "admin", "admin").unwrap();
        web.create("res.partner", json!({ "name": format!("Only in {}", name(number)) }));
        Self { id, name: name(number), web }
    }

    /// Insists that it has what the backup has, and of the others' data nothing.
    fn is_itself(&self) {
        let named =
            |operator: &str, name: &str| self.web.count("res.partner", json!([["name", operator, name]]));
        assert_eq!(named("=", "In every one"), 1, "{}", self.name);
        assert_eq!(named("=", &format!("Only in {}", self.name)), 1, "{}", self.name);
        assert_eq!(named("=like", "Only in %"), 1, "{}", self.name);
    }
}

fn name(number: u16) -> String {
    format!("Number {number}")
}

/// How long each step took, in seconds, by the log of the task.
fn phases(log: &Value) -> String {
    let lines = log.as_array().unwrap();
    let at = |line: &Value| line["create_date"].as_str().unwrap().parse::<Timestamp>().unwrap();
    let took = |from: &Value, to: &Value| at(to).duration_since(at(from)).as_secs_f64();
    let steps = lines.chunks(2).map(|pair| format!("{} {:.1}", pair[0]["step"], took(&pair[0], &pair[1])));
    let steps: Vec<String> = steps.collect();
    format!("{:.1} s: {}", took(&lines[0], &lines[lines.len() - 1]), steps.join(", "))
}

fn login_page(url: &str) -> String {
    let words = ["-s", "-o", "/dev/null", "-m", "60", "--noproxy", "*", "-w", "%{http_code}"];
    let answer = output(Command::new("curl").args(words).arg(format!("{url}/web/login")), b"");
    String::from_utf8(answer.stdout).unwrap()
}

impl There {
    /// What the platform says that the server has left.
    fn room(&self, backup: &str) -> Value {
        let all = self.platform.get(&format!("/backups/{backup}/compatible-servers"));
        let servers = all["servers"].as_array().unwrap();
        servers.iter().find(|server| server["id"] == self.server.as_str()).unwrap().clone()
    }

    /// Insists that each of these, and nothing else, takes its part of the server, and has its things there.
    fn is_shared_by(&self, fleet: &[Made], backup: &str, room: &Value, before: &[String]) {
        let now = self.room(backup);
        assert_eq!(now["current_environments"], fleet.len(), "{now}");
        for (left, takes) in
            [("available_cpu", "cpu_cores"), ("available_ram_mb", "ram_mb"), ("available_disk_gb", "disk_gb")]
        {
            let taken = |one: &Made| self.platform.get(&format!("/environments/{}", one.id))[takes].as_i64();
            let taken: i64 = fleet.iter().map(|one| taken(one).unwrap_or(0)).sum();
            assert_eq!(now[left], (room[left].as_i64().unwrap() - taken).max(0), "{left} of {now}");
        }
        let left = self.left();
        assert_eq!(left.len(), before.len() + THINGS * fleet.len(), "{left:#?}");
        for one in fleet {
            let its = left.iter().filter(|thing| thing.contains(&one.id)).count();
            assert_eq!(its, THINGS, "{} of {left:#?}", one.id);
            one.is_itself();
        }
    }

    /// How many files the platform has open once it has no connection to the server any more.
    fn open_files(&self, at_most: usize) -> usize {
        let process = self.platform.process().id();
        let began = Instant::now();
        loop {
            let files = fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
            // The third column is the other end, whose port is in base 16.
            let table = fs::read_to_string(format!("/proc/{process}/net/tcp")).unwrap();
            let to_ssh = |row: &&str| {
                let mut columns = row.split_whitespace().skip(2);
                columns.next().is_some_and(|end| end.ends_with(":0016")) && columns.next() == Some("01")
            };
            let connections = table.lines().filter(to_ssh).count();
            if connections == 0 && files <= at_most {
                return files;
            }
            let both = format!("{files} open files, {connections} SSH connections");
            assert!(began.elapsed() < Duration::from_secs(30), "{both}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Destroys them, as many at once as the platform does.
    fn destroys(&self, fleet: Vec<Made>) {
        let begin = |one: &Made| {
            let confirmed = json!({ "confirm": one.name });
            self.platform.post(&format!("/environments/{}/destroy", one.id), confirmed)["id"].clone()
        };
        let tasks: Vec<Value> = fleet.iter().map(begin).collect();
        for task in tasks {
            let ended = self.platform.ended(&format!("/tasks/{}", task.as_str().unwrap()), &ENDED);
            assert_eq!(ended["status"], "completed", "{ended}");
        }
    }
}

#[test]
fn ten_environments_one_after_another_and_four_at_once_share_a_server_and_leave_nothing() {
    let side_by_side = AT_ONCE.to_string();
    let there =
        There::up_with(&[("UNDOO_WORKER_TASKS", &side_by_side), ("UNDOO_SERVER_TASKS", &side_by_side)]);
    let platform = &there.platform;
    let live = Instance::up(Kind::ODOO_19);
    live.web().create("res.partner", json!({ "name": "In every one" }));
    let production = platform.adopt(&live.odoo(), "production");
    // It lies in the platform's own folder, so that all of each backup passes the platform's process.
    let backup = platform.back_up(&production);
    drop(live);
    let (before, room) = (there.left(), there.room(&backup));
    assert_eq!(room["current_environments"], 0, "{room}");

    let (mut fleet, mut after_first, began) = (Vec::new(), 0, Instant::now());
    for number in 0..ONE_BY_ONE {
        fleet.push(Made::ends(&there, Made::begin(&there, &backup, number), number));
        if number == 0 {
            after_first = there.open_files(usize::MAX);
        }
    }
    println!("{ONE_BY_ONE} one after another took {:.1} s", began.elapsed().as_secs_f64());
    let after_ten = there.open_files(after_first + MORE_FILES);
    println!("the platform had {after_first} open files after the first, {after_ten} after the last");
    there.is_shared_by(&fleet, &backup, &room, &before);
    let began = Instant::now();
    there.destroys(fleet);
    println!("destroyed in {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!((there.left(), there.room(&backup)), (before.clone(), room.clone()));

    let began = Instant::now();
    let begun: Vec<_> = (0..AT_ONCE).map(|number| Made::begin(&there, &backup, number)).collect();
    wait_for("all of them at work", Duration::from_secs(60), || {
        let started = |(restore, _): &(String, String)| {
            let now = platform.get(&format!("/restore/{restore}"));
            assert!(now["completed_at"].is_null(), "one ended before the last began: {now}");
            now["started_at"].is_string()
        };
        begun.iter().all(started).then_some(())
    });
    let fleet: Vec<_> = (0..).zip(begun).map(|(number, begun)| Made::ends(&there, begun, number)).collect();
    println!("{AT_ONCE} at once took {:.1} s", began.elapsed().as_secs_f64());
    there.is_shared_by(&fleet, &backup, &room, &before);
    there.destroys(fleet);
    assert_eq!((there.left(), there.room(&backup)), (before, room));

    let environments = format!("/environments?organization_id={}", organization(platform).as_str().unwrap());
    let environments = platform.get(&environments);
    let ids: Vec<&Value> = environments.as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert_eq!(ids, [&json!(production)]);
    println!("{} open files at the end", there.open_files(after_first + MORE_FILES));
}
