//! From one layout to another, as one stream: nothing is unpacked, nothing kept on a disk.
//!
//! To the layout of OEC.SH, for those who go there, and to our own from any that has a plain dump. A
//! dump is never translated: a plain one stays plain and a custom one stays custom, because turning one
//! into the other takes a database. What a layout has no place for is left out and named.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    sync::Arc,
};

use crc32fast::Hasher;
use jiff::Timestamp;
use md5::Md5;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use undoo_core::{BackupId, Kind, Problem, Result, Sign, word};

use crate::{
    Backup,
    container::{Container, Gunzip, shown},
    dump::DumpFormat,
    filestore::{FilestoreFile, FilestorePart, FilestoreTar},
    manifest::{
        MAX_MANIFEST,
        ours::{Environment, OdooKeys, Undoo, Warning},
    },
    tar::write::{FilestoreTarWriter, Source},
    write::{
        BackupWriter, Description, Settings,
        deflate::{Block, Blocks, Lane, Pool, STREAM_END},
        hash,
        stream::{Content, stream, unwritable},
        zip::ZipWriter,
    },
    zip::Method,
};

/// What OEC.SH calls the filestore.
const OEC_FILESTORE: &str = "filestore.tar.gz";
const OEC_DUMP: &str = "dump.sql";
/// A gzip header without name and time.
const GZIP_HEADER: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\xff";

/// What came of a conversion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Converted {
    /// Files of the filestore.
    pub files: u64,
    /// What the other layout has no place for: sentences.
    pub left_out: Vec<String>,
}

/// Writes a backup in the layout of OEC.SH: `dump.sql` as plain or custom as it is, `filestore.tar.gz`
/// with the database's name as its top folder, and `manifest.json` with both checksums. `database` is
/// that name where the backup does not tell it, or another one is wanted.
///
/// # Errors
/// `no_database` and `no_database_name` where these are missing; what readers find wrong;
/// `Unavailable` when the output cannot be written.
pub fn to_oec<W: Write>(
    backup: &Backup,
    out: W,
    settings: &Settings,
    database: Option<&str>,
) -> Result<(W, Converted)> {
    let part = backup.database.as_ref().ok_or_else(|| no_database(backup))?;
    let mut manifest = manifest(backup)?;
    let undoo = manifest.remove("undoo");
    let known = backup.manifest.as_ref().and_then(|manifest| manifest.db_name.as_deref());
    let name = database.or(known).ok_or_else(|| {
        Problem::new(
            Kind::Missing,
            "no_database_name",
            "the backup does not tell its database's name, which the filestore's folder is named by",
            "Give the name with --database.",
        )
    })?;
    let mut zip = ZipWriter::new(out, settings.created_at);
    let pool = Pool::new(settings.threads, settings.level)?;
    let deflate = settings.level > 0;

    let (sha256, md5) = (Lane::new("sha256", hash::<Sha256>)?, Lane::new("md5", hash::<Md5>)?);
    let mut dump = dump_content(backup)?;
    let mut tap = |block: &Arc<Vec<u8>>| {
        sha256.give(block);
        md5.give(block);
    };
    let mut content = Content::new(&mut dump, "the backup's dump");
    // A custom dump is compressed already.
    let deflate_dump = deflate && part.format == DumpFormat::Plain;
    let dumped = stream(&mut zip, &pool, OEC_DUMP, deflate_dump, &mut content, &mut tap, &mut |_, _| {})?;
    let mut checksums = Map::new();
    let sums = |sha256: &[u8], md5: &[u8]| json!({"md5": hex::encode(md5), "sha256": hex::encode(sha256)});
    checksums.insert(OEC_DUMP.into(), sums(&sha256.end()?, &md5.end()?));

    let mut converted = Converted::default();
    let mut files = files_of(backup)?;
    if let Some(files) = &mut files {
        let time = u64::try_from(settings.created_at.as_second()).unwrap_or_default();
        let mut tar = FilestoreTarWriter::new(&mut **files, name, time)?;
        let (sha256, md5, stored) = gzip_member(&mut zip, &pool, OEC_FILESTORE, &mut tar)?;
        checksums.insert(OEC_FILESTORE.into(), sums(&sha256, &md5));
        let (count, bytes) = tar.counts();
        converted.files = count;
        manifest.insert("filestore_files".into(), count.into());
        manifest.insert("filestore_bytes".into(), bytes.into());
        manifest.insert("filestore_size_bytes".into(), stored.into());
    }
    manifest.insert("db_name".into(), name.into());
    manifest.insert("database_size_bytes".into(), dumped.bytes.into());
    manifest.insert("checksums".into(), checksums.into());
    manifest.insert("created_at".into(), settings.created_at.to_string().into());
    if let Some(environment) = undoo.as_ref().and_then(|undoo| undoo.get("environment")) {
        manifest.insert("environment_snapshot".into(), environment.clone());
    }
    let bytes = serde_json::to_vec_pretty(&Value::Object(manifest)).map_err(unwritten)?;
    let crc = crc32fast::hash(&bytes);
    zip.member("manifest.json", Method::Stored, &bytes, crc, bytes.len() as u64).map_err(unwritable)?;
    let addons = names(backup).filter(|name| name.starts_with("addons/") && !name.ends_with('/')).count();
    if addons > 0 {
        converted.left_out.push(format!("{addons} files of custom modules"));
    }
    if undoo.is_some() {
        converted.left_out.push("the manifest's signature and seek index".into());
    }
    Ok((zip.finish().map_err(unwritable)?, converted))
}

/// Writes a backup in our own layout. The dump has to be plain.
///
/// # Errors
/// `custom_dump` (`Invalid`) for a custom dump; otherwise as [`to_oec`] and [`BackupWriter`].
pub fn to_undoo<W: Write>(
    backup: &Backup,
    out: W,
    settings: Settings,
    undoo_version: &str,
    signer: Option<&dyn Sign>,
) -> Result<(W, Undoo, Converted)> {
    let part = backup.database.as_ref().ok_or_else(|| no_database(backup))?;
    if part.format == DumpFormat::Custom {
        return Err(Problem::new(
            Kind::Invalid,
            "custom_dump",
            "the backup's dump is in custom format, and a plain one cannot be made of it without PostgreSQL",
            "Restore it, and make a backup of what it became.",
        ));
    }
    let manifest = Value::Object(manifest(backup)?);
    let ours = backup.manifest.as_ref().and_then(|manifest| manifest.undoo.as_deref());
    let odoo: OdooKeys = serde_json::from_value(manifest).unwrap_or_else(|_| odoo_keys(backup));
    let mut converted = Converted::default();
    let mut writer = BackupWriter::new(out, settings.clone())?;
    writer.database(&mut dump_content(backup)?)?;
    let mut files = files_of(backup)?;
    while let Some(files) = &mut files {
        let Some((hash, _)) = files.next_file()? else { break };
        converted.files += u64::from(writer.file(hash, &mut Reading(&mut **files))?);
    }
    let container = backup.container();
    for member in 0..container.len() {
        let name = container.name(member);
        if let Some(path) =
            name.strip_prefix("addons/").filter(|path| !path.is_empty() && !path.ends_with('/'))
        {
            writer.addon(path, &mut container.read(member)?)?;
        }
    }
    let database = odoo.db_name.clone();
    let environment = ours.map(|ours| ours.environment.clone());
    let unknown = Environment {
        database,
        odoo_version: backup.manifest.as_ref().and_then(|manifest| manifest.version.clone()),
        ..Environment::default()
    };
    let description = Description {
        backup_id: ours.map_or_else(BackupId::generate, |ours| ours.backup_id),
        undoo_version: undoo_version.to_owned(),
        organisation: ours.and_then(|ours| ours.organisation.clone()),
        odoo,
        environment: environment.unwrap_or(unknown),
        database_only: files.is_none(),
        warnings: vec![Warning {
            code: "converted".into(),
            message: format!("converted from another backup, of layout {}", word(&backup.layout)),
        }],
    };
    let (out, undoo) = writer.finish(description, signer)?;
    Ok((out, undoo, converted))
}

/// What Odoo would have written, as far as it is known.
fn odoo_keys(backup: &Backup) -> OdooKeys {
    let manifest = backup.manifest.clone().unwrap_or_default();
    let version = manifest.version.unwrap_or_default();
    OdooKeys {
        odoo_dump: "1".into(),
        db_name: manifest.db_name.unwrap_or_default(),
        version: version.clone(),
        version_info: Vec::new(),
        major_version: version,
        pg_version: manifest.pg_version.unwrap_or_default(),
        modules: manifest
            .modules
            .unwrap_or_default()
            .into_iter()
            .map(|(name, it)| (name, Some(it)))
            .collect(),
    }
}

/// The manifest's JSON; empty where there is none.
fn manifest(backup: &Backup) -> Result<Map<String, Value>> {
    let Some(member) = backup.manifest_member else { return Ok(Map::new()) };
    let mut bytes = Vec::new();
    let read = backup.container().read(member)?.take(MAX_MANIFEST).read_to_end(&mut bytes);
    read.map_err(crate::error::problem_of)?;
    // It was read as a manifest before.
    Ok(serde_json::from_slice(&bytes).unwrap_or_default())
}

fn names(backup: &Backup) -> impl Iterator<Item = &str> {
    let container: &Container = backup.container();
    (0..container.len()).map(|member| container.name(member))
}

/// The dump's own bytes, without a gzip around them.
fn dump_content(backup: &Backup) -> Result<Box<dyn Read + Send>> {
    let part = backup.database.as_ref().ok_or_else(|| no_database(backup))?;
    let input = backup.container().read(part.member)?;
    Ok(if part.gzip { Box::new(Gunzip::new(input, backup.container().describe(part.member))) } else { input })
}

fn no_database(backup: &Backup) -> Problem {
    Problem::new(
        Kind::Missing,
        "no_database",
        format!("{} has no database dump", names(backup).next().map_or("the backup".into(), shown)),
        "A backup without its database cannot be converted.",
    )
}

fn unwritten(error: serde_json::Error) -> Problem {
    Problem::new(Kind::Internal, "manifest", "the manifest could not be written", "please report this")
        .caused_by(error)
}

/// The filestore's files: by hash where they can be had in any order, else as they come.
fn files_of(backup: &Backup) -> Result<Option<Box<dyn Source + '_>>> {
    Ok(match &backup.filestore {
        FilestorePart::None => None,
        FilestorePart::Members(files) | FilestorePart::Directory(files) => {
            let sorted: BTreeMap<[u8; 20], FilestoreFile> =
                files.iter().map(|file| (file.hash, *file)).collect();
            Some(Box::new(Files { backup, files: sorted.into_values(), open: Box::new(io::empty()) }))
        }
        FilestorePart::Tar { .. } => Some(Box::new(TarFiles(backup.open_filestore_tar()?))),
    })
}

struct Files<'a> {
    backup: &'a Backup,
    files: std::collections::btree_map::IntoValues<[u8; 20], FilestoreFile>,
    open: Box<dyn Read + Send>,
}

impl Source for Files<'_> {
    fn next_file(&mut self) -> Result<Option<([u8; 20], u64)>> {
        let Some(file) = self.files.next() else { return Ok(None) };
        self.open = self.backup.open_file(&file)?;
        Ok(Some((file.hash, file.size)))
    }

    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.open.read(out)
    }
}

struct TarFiles(FilestoreTar);

impl Source for TarFiles {
    fn next_file(&mut self) -> Result<Option<([u8; 20], u64)>> {
        self.0.next_file()
    }

    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

/// The file at hand of a source.
struct Reading<'a>(&'a mut dyn Source);

impl Read for Reading<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

/// Writes a member that is a gzip file of `content`; answers its SHA-256, its MD5 and its bytes.
fn gzip_member<W: Write>(
    zip: &mut ZipWriter<W>,
    pool: &Pool,
    name: &str,
    content: &mut dyn Read,
) -> Result<(Vec<u8>, Vec<u8>, u64)> {
    let open = zip.begin(name, Method::Stored).map_err(unwritable)?;
    let (mut sha256, mut md5, mut stored, mut bytes) = (Sha256::new(), Md5::new(), Hasher::new(), 0);
    let mut put = |data: &[u8]| {
        sha256.update(data);
        md5.update(data);
        stored.update(data);
        bytes += data.len() as u64;
        zip.data(data).map_err(unwritable)
    };
    put(GZIP_HEADER)?;
    let (mut crc, mut size) = (Hasher::new(), 0_u64);
    let mut sink = |block: Block| {
        crc.combine(&block.crc);
        size += block.len();
        put(block.data())
    };
    let mut content = Content::new(content, "the backup's filestore");
    let mut blocks = Blocks::new(pool, true);
    loop {
        let block = content.block()?;
        if block.is_empty() {
            break;
        }
        blocks.push(Arc::new(block), &mut sink)?;
    }
    blocks.finish(&mut sink)?;
    put(STREAM_END)?;
    put(&crc.finalize().to_le_bytes())?;
    // By definition modulo 2^32.
    put(&(size as u32).to_le_bytes())?;
    zip.end(open, stored, bytes).map_err(unwritable)?;
    Ok((sha256.finalize().to_vec(), md5.finalize().to_vec(), bytes))
}

/// When a conversion's members are from: the backup's own time where it tells one.
pub fn time_of(backup: &Backup) -> Timestamp {
    let ours = backup.manifest.as_ref().and_then(|manifest| manifest.undoo.as_ref());
    ours.map_or(Timestamp::UNIX_EPOCH, |ours| ours.created_at)
}
