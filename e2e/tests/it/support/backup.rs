//! Backups made by Odoo itself and by `pg_dump`, in every layout that people bring.
//!
//! Making one takes an instance and a while, so they are kept in the cache, keyed by the images that
//! made them and by [`RECIPE`].

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use super::{
    cache,
    docker::{docker, output, pg_dump, succeed},
    instance::{Instance, Kind},
    noise, sha1,
    web::post_form,
};

/// Changed whenever what stands in the backups changes.
const RECIPE: &str = "1";

/// Backups of one instance, all of the same moment.
pub(crate) struct Made {
    folder: PathBuf,
    facts: Value,
}

/// An attachment that the backup has.
pub(crate) struct Attached {
    pub(crate) id: i64,
    pub(crate) sha1: String,
}

impl Made {
    /// The backups of an instance of this kind, from the cache or made now.
    pub(crate) fn of(kind: Kind) -> Self {
        let image = |name: String| docker(&["image", "inspect", "-f", "{{.Id}}", &name])[7..19].to_owned();
        let key = format!(
            "odoo-{}-{}-postgres-{}-{}-{}-{RECIPE}",
            kind.odoo,
            image(format!("odoo:{}", kind.odoo)),
            kind.postgres,
            image(format!("postgres:{}", kind.postgres)),
            kind.modules.replace(',', "+"),
        );
        let folder = cache().join(key);
        if !folder.join("facts.json").exists() {
            let draft = folder.with_extension("part");
            let _ = fs::remove_dir_all(&draft);
            fs::create_dir_all(&draft).unwrap();
            make(kind, &draft);
            let _ = fs::remove_dir_all(&folder);
            fs::rename(&draft, &folder).unwrap();
        }
        let facts = serde_json::from_slice(&fs::read(folder.join("facts.json")).unwrap()).unwrap();
        Self { folder, facts }
    }

    /// What Odoo's database manager and `odoo db dump` make.
    pub(crate) fn zip(&self) -> String {
        self.at("odoo.zip")
    }

    /// `pg_dump -Fc`: the database alone.
    pub(crate) fn custom(&self) -> String {
        self.at("database.dump")
    }

    /// `pg_dump`: the database alone.
    pub(crate) fn plain(&self) -> String {
        self.at("dump.sql")
    }

    /// The filestore as a folder of its own.
    pub(crate) fn filestore(&self) -> PathBuf {
        self.folder.join("filestore")
    }

    /// `manifest.json` as Odoo wrote it.
    pub(crate) fn manifest(&self) -> PathBuf {
        self.folder.join("manifest.json")
    }

    fn at(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Which instance it is of.
    pub(crate) fn uuid(&self) -> &str {
        self.facts["uuid"].as_str().unwrap()
    }

    /// Rows of `res_partner`.
    pub(crate) fn partners(&self) -> i64 {
        self.facts["partners"].as_i64().unwrap()
    }

    /// Attachments that were put in for the tests.
    pub(crate) fn attachments(&self) -> Vec<Attached> {
        let attached = self.facts["attachments"].as_array().unwrap();
        attached
            .iter()
            .map(|one| Attached {
                id: one["id"].as_i64().unwrap(),
                sha1: one["sha1"].as_str().unwrap().to_owned(),
            })
            .collect()
    }

    /// Insists that a database is what the backup holds, as its users see it.
    pub(crate) fn is_live_on(&self, instance: &Instance, database: &str) {
        let web = instance.web_of(database);
        let everyone = json!([["active", "in", [true, false]]]);
        assert_eq!(web.count("res.partner", everyone), self.partners(), "partners");
        assert_eq!(web.count("res.partner", json!([["name", "=like", "Backed up %"]])), 3);
        for attached in self.attachments() {
            assert_eq!(sha1(&web.attachment(attached.id)), attached.sha1, "attachment {}", attached.id);
        }
    }
}

fn make(kind: Kind, folder: &Path) {
    let instance = Instance::up(kind);
    let web = instance.web();
    let mut attachments = Vec::new();
    for (index, length) in [(1, 300_000), (2, 4_000), (3, 70_000)] {
        let partner = web.create("res.partner", json!({ "name": format!("Backed up {index}") }));
        let bytes = noise(index, length);
        let id = web.create(
            "ir.attachment",
            json!({
                "name": format!("backed-up-{index}.bin"),
                "res_model": "res.partner",
                "res_id": partner,
                "datas": base64(&bytes),
            }),
        );
        attachments.push(json!({ "id": id, "sha1": sha1(&bytes) }));
    }
    let partners = web.count("res.partner", json!([["active", "in", [true, false]]]));
    fs::write(folder.join("odoo.zip"), dump_by_odoo(kind, &instance)).unwrap();
    fs::write(folder.join("database.dump"), pg_dump(&instance.db(), &instance.name, &["-Fc"])).unwrap();
    fs::write(folder.join("dump.sql"), pg_dump(&instance.db(), &instance.name, &[])).unwrap();
    let to = folder.join("filestore");
    succeed(Command::new("cp").arg("-a").arg(instance.filestore()).arg(&to), b"");
    let mut zip = zip::ZipArchive::new(fs::File::open(folder.join("odoo.zip")).unwrap()).unwrap();
    let mut manifest = fs::File::create(folder.join("manifest.json")).unwrap();
    std::io::copy(&mut zip.by_name("manifest.json").unwrap(), &mut manifest).unwrap();
    let facts = json!({
        "uuid": instance.parameter(&instance.name, "database.uuid"),
        "partners": partners,
        "attachments": attachments,
    });
    fs::write(folder.join("facts.json"), facts.to_string()).unwrap();
}

/// A ZIP by `odoo db dump`, or, before Odoo 19 had it, by the database manager.
fn dump_by_odoo(kind: Kind, instance: &Instance) -> Vec<u8> {
    if kind.odoo.starts_with("19") {
        let dump = format!(
            "exec odoo db --db_host=$HOST --db_user=$USER --db_password=$PASSWORD dump {} -",
            instance.name
        );
        let out = output(Command::new("docker").args(["exec", &instance.odoo(), "sh", "-c", &dump]), b"");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        return out.stdout;
    }
    let conf = fs::read_to_string(instance.conf()).unwrap();
    let master = conf.lines().find_map(|line| line.strip_prefix("admin_passwd = ")).unwrap();
    let form = format!("master_pwd={master}&name={}&backup_format=zip", instance.name);
    let zip = post_form(&format!("{}/web/database/backup", instance.url), &form);
    assert!(zip.starts_with(b"PK"), "{}", String::from_utf8_lossy(&zip));
    zip
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let index = (word >> (18 - 6 * digit)) as usize & 63;
            text.push(if digit <= chunk.len() { char::from(DIGITS[index]) } else { '=' });
        }
    }
    text
}
