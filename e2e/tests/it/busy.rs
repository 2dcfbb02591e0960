//! Backups of an Odoo that users write to while its garbage collector removes files: none of them is torn.

use std::{
    collections::VecDeque,
    fs,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    Instance, Kind, Undoo,
    backup::base64,
    docker::{docker, output},
    noise,
};

/// Backups in a row; each is restored.
const RUNS: usize = 20;
/// Bytes of the attachments that come and go.
const SIZES: [usize; 5] = [40, 3_000, 70_000, 400_000, 1_500_000];
/// Orders of one writer that are there at a time.
const KEPT: usize = 4;
/// Turns after which a content is used again. By then it has been deleted, and seconds ago: Odoo's own collector
/// takes a file away from under whoever is about to use it again (its `_get_path` looks, then opens).
const AGAIN: u64 = 16;
/// Tells the collector to end.
const STOP: &str = "/tmp/undoo-e2e-stop";

#[test]
fn backups_made_while_orders_and_attachments_come_and_go_restore_exactly_twenty_times_in_a_row() {
    let undoo = Undoo::ready();
    let live = Instance::up(Kind::SALES);
    let folder = tempfile::tempdir().unwrap();
    let storage = folder.path().join("storage").display().to_string();
    let (stop, rest, orders) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(0));
    let collected = thread::scope(|scope| {
        // Whatever becomes of the runs, the others end: the scope waits for them.
        let stopping = Stopping { stop: &stop, live: &live };
        let collector = scope.spawn(|| collect(&live));
        for writer in 0..2 {
            let (live, stop, rest, orders) = (&live, &stop, &rest, &orders);
            scope.spawn(move || write(live, writer, stop, rest, orders));
        }
        for run in 0..RUNS {
            let before = orders.load(Ordering::Relaxed);
            let backup = undoo.run(&["backup", &live.target(), "--to", &storage, "--json"]).ends(0).result();
            assert!(orders.load(Ordering::Relaxed) > before, "run {run}: nobody wrote meanwhile");
            let backup = backup["address"].as_str().unwrap().to_owned();
            // What is restored is somewhere else; beside writers it would only take longer.
            rest.store(true, Ordering::Relaxed);
            is_restored_exactly(&undoo, &live, &backup, &format!("copy{run}"));
            rest.store(false, Ordering::Relaxed);
            fs::remove_file(backup).unwrap();
        }
        drop(stopping);
        collector.join().unwrap()
    });
    let orders = orders.into_inner();
    eprintln!("{orders} orders were made meanwhile, {collected} files collected");
    assert!(collected > RUNS as u64 * 2, "only {collected} files were collected meanwhile");
    undoo.run(&["verify", &live.target()]).ends(0);
    assert_eq!(live.leftovers(), [""; 0]);
}

/// Restores it into a database and a filestore of its own, where no file is at hand, and has both matched.
fn is_restored_exactly(undoo: &Undoo, live: &Instance, backup: &str, database: &str) {
    let folder = tempfile::tempdir().unwrap();
    let filestore = folder.path().join("filestore").join(database).display().to_string();
    fs::create_dir(folder.path().join("filestore")).unwrap();
    let address = live.address(&live.db());
    let url = format!("postgresql://odoo:{}@{address}:5432/{database}", live.password());
    let run = |words: &[&str]| {
        let place = ["--filestore", filestore.as_str(), "--json"];
        undoo.run_with(&[words, &place].concat(), &[("UNDOO_DATABASE_URL", &url)])
    };
    // Accepts nothing: an attachment without its file would stop it.
    let restored = run(&["restore", backup, "--yes", "--no-neutralize"]).ends(0).result();
    let found: Value = run(&["verify"]).ends(0).json();
    let report = &restored["report"]["attachments"];
    assert_eq!((&found["attachments"], &found["matched"]), (&report["attachments"], &report["matched"]));
    let lines = "SELECT count(*) FROM sale_order o WHERE client_order_ref LIKE 'order %' AND NOT EXISTS (SELECT FROM \
                 ir_attachment WHERE res_model = 'sale.order' AND res_id = o.id)";
    let torn = live.sql_in(database, lines);
    // Each writer makes an order and its attachment in two requests.
    assert!(torn.parse::<u32>().unwrap() <= 2, "{torn} orders of {database} have lost their attachment");
    live.sql_in("postgres", &format!("DROP DATABASE {database} WITH (FORCE)"));
}

/// Makes orders with an attachment each, and deletes those that it made before; not while it is to rest.
fn write(live: &Instance, writer: u64, stop: &AtomicBool, rest: &AtomicBool, made: &AtomicU64) {
    let web = live.web();
    let partner = web.create("res.partner", json!({ "name": format!("Writer {writer}") }));
    let mut kept = VecDeque::new();
    for turn in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        while rest.load(Ordering::Relaxed) && !stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(20));
        }
        let order = web.create(
            "sale.order",
            json!({ "partner_id": partner, "client_order_ref": format!("order {turn}") }),
        );
        // Now and then a content that was there before and was collected.
        let seed = if turn % 4 == 3 { turn.saturating_sub(AGAIN) } else { turn };
        let bytes = noise(writer << 32 | (seed + 1), SIZES[(seed % SIZES.len() as u64) as usize]);
        web.create(
            "ir.attachment",
            json!({ "name": "a.bin", "res_model": "sale.order", "res_id": order, "datas": base64(&bytes) }),
        );
        kept.push_back(order);
        if kept.len() > KEPT {
            // Its attachment goes with it.
            web.call("sale.order", "unlink", json!([[kept.pop_front()]]), json!({}));
        }
        made.fetch_add(1, Ordering::Relaxed);
    }
}

/// Odoo's own garbage collector, again and again until it is told to end; answers how many files it has
/// removed.
fn collect(live: &Instance) -> u64 {
    let program = format!(
        "import os, time\nwhile not os.path.exists('{STOP}'):\n    \
         env['ir.attachment']._gc_file_store()\n    env.cr.commit()\n    time.sleep(0.2)\n"
    );
    let shell = format!(
        "exec odoo shell --db_host=$HOST --db_user=$USER --db_password=$PASSWORD -d {} --no-http",
        live.name
    );
    let out = output(
        Command::new("docker").args(["exec", "-i", &live.odoo(), "sh", "-c", &shell]),
        program.as_bytes(),
    );
    let log = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{log}");
    let removed = |line: &str| {
        let words = line.split_once("filestore gc ")?.1.split_once(" checked, ")?.1;
        words.split(' ').next()?.parse::<u64>().ok()
    };
    log.lines().filter_map(removed).sum()
}

/// Ends writers and collector when it goes.
struct Stopping<'a> {
    stop: &'a AtomicBool,
    live: &'a Instance,
}

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        docker(&["exec", &self.live.odoo(), "touch", STOP]);
    }
}
