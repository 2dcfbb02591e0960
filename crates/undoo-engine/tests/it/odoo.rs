//! A small Odoo-like database with its filestore, and backups of it in the layouts that people bring,
//! made by the real `pg_dump`.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock},
};

use sha1::{Digest, Sha1};
use undoo_engine::filestore::store_fname;

use crate::server::{Server, run};

/// The database that every other is a copy of.
pub const SOURCE: &str = "source";
/// Files of the source's filestore.
pub const FILES: usize = 60;

/// The bytes of a file, all different.
pub fn content(number: usize) -> Vec<u8> {
    let line = format!("file number {number}\n");
    line.bytes().cycle().take(200 + number * 37).collect()
}

/// Where a file of these bytes lies in a filestore.
pub fn fname(content: &[u8]) -> String {
    store_fname(&Sha1::digest(content).into())
}

/// All files of the source, by their names.
pub fn files() -> Vec<(String, Vec<u8>)> {
    (0..FILES).map(content).map(|content| (fname(&content), content)).collect()
}

/// Writes a filestore of these files.
pub fn write_filestore(directory: &Path, files: &[(String, Vec<u8>)]) {
    fs::create_dir_all(directory).unwrap();
    for (name, content) in files {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

impl Server {
    /// Makes the source.
    pub fn make_source(&self) {
        self.psql("postgres", &format!("CREATE DATABASE {SOURCE} OWNER odoo"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/odoo.sql");
        run(self.client("psql").args(["-Xq", "-v", "ON_ERROR_STOP=1", "-d", SOURCE, "-f"]).arg(script));
        let rows: Vec<String> = files()
            .iter()
            .enumerate()
            .map(|(number, (name, content))| {
                let field = if number % 2 == 0 { "NULL" } else { "'image_128'" };
                format!("('file {number}', {field}, '{name}', '{}', {})", &name[3..], content.len())
            })
            .collect();
        let columns = "ir_attachment (name, res_field, store_fname, checksum, file_size)";
        self.psql(SOURCE, &format!("INSERT INTO {columns} VALUES {}", rows.join(", ")));
    }

    /// A copy of the source that belongs to `odoo`, changed by `sql`; answers its name.
    pub fn copy_of_source(&self, sql: &str) -> String {
        let name = self.unique("copy");
        self.psql("postgres", &format!("CREATE DATABASE {name} TEMPLATE {SOURCE} OWNER odoo"));
        if !sql.is_empty() {
            self.psql(&name, sql);
        }
        name
    }

    /// The source as Odoo dumps it (`--no-owner`, plain), made once.
    pub fn plain_dump(&self) -> Vec<u8> {
        static MADE: OnceLock<Mutex<HashMap<u32, Vec<u8>>>> = OnceLock::new();
        let made = MADE.get_or_init(Mutex::default);
        let mut made = made.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        made.entry(self.pid()).or_insert_with(|| self.dump(SOURCE, &["--no-owner"])).clone()
    }
}

/// Writes a ZIP as Odoo's database manager does.
pub fn odoo_zip(path: &Path, dump: &[u8], files: &[(String, Vec<u8>)]) -> PathBuf {
    let mut zip = zip::ZipWriter::new(File::create(path).unwrap());
    let options = zip::write::SimpleFileOptions::default().compression_level(Some(1));
    let manifest =
        br#"{"odoo_dump": "1", "db_name": "acme", "version": "17.0", "modules": {"base": "17.0.1.3"}}"#;
    let fixed = [("dump.sql", dump), ("manifest.json", manifest.as_slice())];
    let named = files.iter().map(|(name, content)| (format!("filestore/{name}"), content.as_slice()));
    for (name, content) in fixed.map(|(name, content)| (name.to_owned(), content)).into_iter().chain(named) {
        zip.start_file(name, options).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap();
    path.to_owned()
}

/// Writes a folder as click-odoo does.
pub fn click_odoo_folder(path: &Path, dump: &[u8], files: &[(String, Vec<u8>)]) -> PathBuf {
    fs::create_dir_all(path).unwrap();
    fs::write(path.join("db.dump"), dump).unwrap();
    fs::write(path.join("manifest.json"), br#"{"odoo_dump": "1", "version": "17.0"}"#).unwrap();
    write_filestore(&path.join("filestore"), files);
    path.to_owned()
}

/// Writes a ZIP as OEC.SH does: a custom dump and the filestore as a tar.
pub fn oec_zip(path: &Path, dump: &[u8], files: &[(String, Vec<u8>)]) -> PathBuf {
    let folder = tempfile::tempdir().unwrap();
    write_filestore(&folder.path().join("filestore"), files);
    let tar = run(std::process::Command::new("tar").arg("-C").arg(folder.path()).args(["-cz", "filestore"]));
    zip_of(
        path,
        &[("dump.sql", dump), ("filestore.tar.gz", &tar), ("manifest.json", br#"{"version": "17.0"}"#)],
    )
}

/// Writes a ZIP of these members.
pub fn zip_of(path: &Path, members: &[(&str, &[u8])]) -> PathBuf {
    let mut zip = zip::ZipWriter::new(File::create(path).unwrap());
    for (name, content) in members {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap();
    path.to_owned()
}

/// Makes a directory that others may pass through and look into, whatever the umask.
pub fn readable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
