//! What our own backups say in `manifest.json`, under the key `undoo` beside Odoo's.
//!
//! Sizes and checksums of the parts, where a reader can start within the dump, and what the system was
//! like. A signature covers every byte of the file. Like any manifest it is a claim until checked: its
//! offsets are used for reading only after they were found possible, its checksums only to compare.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, ser::Serializer};
use undoo_core::{BackupId, Kind, Problem, Result, Sign, signature};

use super::{MAX_MANIFEST, json::Indented};

/// The form of what is under `undoo`. Another number means that other things are to be understood by it.
pub const FORMAT: u32 = 1;
/// Name of the dump's member.
pub const DUMP_MEMBER: &str = "dump.sql";
/// Names of each kind that a manifest lists; beyond, it only counts.
pub const MOST_LISTED: usize = 10_000;

/// Precedes the manifest where it is signed, so that a signature of something else never fits.
pub const SIGNED: &[u8] = b"undoo manifest 1\n";
/// Stands for the signature where the manifest is signed.
const BLANK: [u8; 128] = [b'0'; 128];

/// Odoo's own keys, in its order. Its database manager writes them and never reads them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OdooKeys {
    /// Always `1`.
    pub odoo_dump: String,
    /// Name of the database.
    pub db_name: String,
    /// Such as `19.0` or `saas~18.3`.
    pub version: String,
    /// Such as `[19, 0, 0, "final", 0, ""]`.
    pub version_info: Vec<Value>,
    /// Such as `19.0`.
    pub major_version: String,
    /// Odoo writes `15.0` for every 15.x.
    pub pg_version: String,
    /// Installed modules and their versions.
    pub modules: BTreeMap<String, Option<String>>,
}

/// What is under `undoo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undoo {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of the program that wrote the backup.
    pub undoo_version: String,
    /// The backup's id.
    pub backup_id: BackupId,
    /// When it was begun.
    pub created_at: Timestamp,
    /// Whose it is: the id of an organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// What it is made of.
    pub parts: Parts,
    /// What the system was like.
    pub environment: Environment,
    /// Attachments of the dump and files of the filestore, matched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachments: Option<Attachments>,
    /// Files whose content is not their name; they are in the backup as they are. At most
    /// [`MOST_LISTED`].
    pub corrupt: Vec<CorruptFile>,
    /// Codes and sentences of what was found while writing.
    pub warnings: Vec<Warning>,
    /// Public half of the key that signed, hexadecimal (Ed25519).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// Signature of this very file with the signature's digits as zeros, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// The parts that a backup has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// `dump.sql`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DumpRecord>,
    /// `filestore/…`; absent in a backup of the database only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filestore: Option<TreeRecord>,
    /// `addons/…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addons: Option<TreeRecord>,
}

/// The dump.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpRecord {
    /// Bytes of the dump.
    pub bytes: u64,
    /// Bytes that it takes in the ZIP.
    pub stored_bytes: u64,
    /// SHA-256 of the dump, hexadecimal.
    pub sha256: String,
    /// MD5 of the dump, hexadecimal.
    pub md5: String,
    /// Version of the server that was dumped.
    pub server_version: Option<String>,
    /// Version of the `pg_dump` that wrote it.
    pub dump_version: Option<String>,
    /// Where reading can start.
    pub seek: SeekIndex,
    /// The `COPY` blocks in their order; absent where the dump was not understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<Vec<TableExtent>>,
}

/// Where the dump can be read from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeekIndex {
    /// Bytes of the dump between one point and the next; the last stretch may be shorter.
    pub every: u64,
    /// For each point, where it is in the member's data as stored. The first is 0.
    pub offsets: Vec<u64>,
    /// For each point, the CRC-32 of the stretch of dump that begins there.
    pub crcs: Vec<u32>,
}

/// A table's `COPY` block: its statement, its rows, and the line that ends them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableExtent {
    /// Schema and name, with a dot between, without quotes.
    pub name: String,
    /// Where the statement begins in the dump.
    pub offset: u64,
    /// Bytes up to the end of the line `\.`.
    pub bytes: u64,
    /// Number of rows.
    pub rows: u64,
}

/// Files in a tree. Their checksums are over a list that has for each file, in the order of the names'
/// bytes, a line `<SHA-256 of the content> <bytes> <member's name>`, each ended by a line feed. So they
/// do not depend on the order in which files were read, and files can be hashed side by side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeRecord {
    /// Number of files.
    pub files: u64,
    /// Bytes of their contents.
    pub bytes: u64,
    /// SHA-256 of the list, hexadecimal.
    pub sha256: String,
    /// MD5 of the list, hexadecimal.
    pub md5: String,
}

/// What the system was like that was backed up. All of it is what whoever made the backup was told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Environment {
    /// Id of the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Name of the database.
    pub database: String,
    /// Odoo's version, exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub odoo_version: Option<String>,
    /// Odoo's image as it was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub odoo_image: Option<String>,
    /// The image's digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub odoo_image_digest: Option<String>,
    /// PostgreSQL's version, exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_version: Option<String>,
    /// PostgreSQL's image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_image: Option<String>,
    /// Custom modules; their files are the part `addons`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addons: Vec<Addons>,
    /// What the containers may use.
    #[serde(skip_serializing_if = "Resources::is_unknown")]
    pub resources: Resources,
    /// `odoo.conf` without its secrets: [`super::redacted`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub odoo_conf: Option<String>,
}

/// A folder of custom modules.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Addons {
    /// Its folder below `addons/`.
    pub folder: String,
    /// Its modules and their versions.
    pub modules: BTreeMap<String, Option<String>>,
    /// Python packages that it asks for, a line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requirements: Vec<String>,
    /// Where git had it from, without credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<GitOrigin>,
}

/// Where a folder of modules came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GitOrigin {
    /// Address of the remote.
    pub url: String,
    /// The branch that was checked out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The commit that was checked out. The files in the backup may differ from it.
    pub commit: String,
}

/// What the containers may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Memory of Odoo's container, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub odoo_memory: Option<u64>,
    /// Processors of Odoo's container, in billionths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub odoo_nano_cpus: Option<u64>,
    /// Memory of PostgreSQL's container, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_memory: Option<u64>,
    /// Processors of PostgreSQL's container, in billionths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres_nano_cpus: Option<u64>,
}

impl Resources {
    fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

/// How the dump's attachments and the backup's files match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachments {
    /// Rows that name a file.
    pub attachments: u64,
    /// Rows whose bytes are in the database.
    pub in_database: u64,
    /// Rows whose bytes are kept elsewhere by a module.
    pub external: u64,
    /// Files that rows name and the backup has not.
    pub missing_total: u64,
    /// The first [`MOST_LISTED`] of them.
    pub missing: Vec<MissingFile>,
    /// Files that no row names. Odoo's garbage collector takes them in time.
    pub orphans: u64,
}

/// A file that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingFile {
    /// `ir_attachment.id` of the first row that names it.
    pub attachment: i64,
    /// Where it should be.
    pub store_fname: String,
}

/// A file that is not what its name says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorruptFile {
    /// Its path in the filestore.
    pub store_fname: String,
    /// SHA-1 of what it holds, hexadecimal.
    pub sha1: String,
    /// Its bytes.
    pub bytes: u64,
}

/// What was found while writing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// Stable name.
    pub code: String,
    /// A sentence.
    pub message: String,
}

/// Who signed a manifest, and whether the signature holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatureState {
    /// Nobody did.
    #[default]
    Unsigned,
    /// It holds: no byte of the manifest has changed since the owner of the key signed it. Whether the
    /// key is one to be trusted, the key tells.
    Valid,
    /// It does not hold.
    Invalid,
}

#[derive(Serialize)]
struct File<'a> {
    #[serde(flatten)]
    odoo: &'a OdooKeys,
    undoo: &'a Undoo,
}

/// The bytes of `manifest.json`, signed where there is a signer.
///
/// # Errors
/// `manifest_too_large` (`Invalid`) when no reader would take it; the signer's.
pub fn write(odoo: &OdooKeys, undoo: &Undoo, signer: Option<&dyn Sign>) -> Result<Vec<u8>> {
    let mut undoo = undoo.clone();
    undoo.public_key = signer.map(Sign::public_key);
    undoo.signature = signer.map(|_| String::from_utf8_lossy(&BLANK).into_owned());
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, Indented::new());
    File { odoo, undoo: &undoo }.serialize(&mut serializer).map_err(|error| {
        Problem::new(Kind::Internal, "manifest", "the manifest could not be written", "please report this")
            .caused_by(error)
    })?;
    if bytes.len() as u64 > MAX_MANIFEST {
        return Err(Problem::new(
            Kind::Invalid,
            "manifest_too_large",
            format!("the backup's manifest would have {} bytes; readers take {MAX_MANIFEST}", bytes.len()),
            "Leave odoo.conf or the addons' requirements out of the snapshot.",
        ));
    }
    if let Some(signer) = signer {
        let digits = signer.sign(&[SIGNED, &bytes].concat())?;
        // The last value of the file: what might look like it before is text of someone else's.
        if let Some(at) = memchr::memmem::rfind(&bytes, &BLANK) {
            bytes[at..at + BLANK.len()].copy_from_slice(digits.as_bytes());
        }
    }
    Ok(bytes)
}

/// What is under `undoo` in a manifest, and whether its signature holds; none where the key is missing.
///
/// # Errors
/// `undoo_manifest_unreadable` (`Invalid`) where something else is under that key, such as a later form.
pub(super) fn read(bytes: &[u8]) -> Result<Option<(Undoo, SignatureState)>> {
    #[derive(Deserialize)]
    struct Form {
        undoo: Option<Value>,
    }
    #[derive(Deserialize)]
    struct Whole {
        undoo: Undoo,
    }
    let Ok(Form { undoo: Some(value) }) = serde_json::from_slice(bytes) else { return Ok(None) };
    let unreadable = |why: String| {
        Problem::new(
            Kind::Invalid,
            "undoo_manifest_unreadable",
            format!("the manifest's part of Undoo cannot be used: {why}"),
            "It is read as any other backup of Odoo. A newer version of undoo may understand more of it.",
        )
    };
    match value.get("format").and_then(Value::as_u64) {
        Some(format) if format == u64::from(FORMAT) => {}
        Some(format) => return Err(unreadable(format!("it has form {format}, and {FORMAT} is understood"))),
        None => return Err(unreadable("it does not say which form it has".into())),
    }
    drop(value);
    // From the bytes, where a key that is there twice is an error.
    let whole: Whole = serde_json::from_slice(bytes)
        .map_err(|error| unreadable(format!("line {}: it is damaged", error.line())).caused_by(error))?;
    let state = signature_state(bytes, &whole.undoo);
    Ok(Some((whole.undoo, state)))
}

fn signature_state(bytes: &[u8], undoo: &Undoo) -> SignatureState {
    let (Some(key), Some(digits)) = (&undoo.public_key, &undoo.signature) else {
        return SignatureState::Unsigned;
    };
    let place = format!("\"signature\": \"{digits}\"");
    let mut found = memchr::memmem::find_iter(bytes, place.as_bytes());
    let (Some(at), None, true) = (found.next(), found.next(), digits.len() == BLANK.len()) else {
        return SignatureState::Invalid;
    };
    let mut signed = [SIGNED, bytes].concat();
    let at = SIGNED.len() + at + place.len() - 1 - BLANK.len();
    signed[at..at + BLANK.len()].copy_from_slice(&BLANK);
    match signature::holds(key, digits, &signed) {
        true => SignatureState::Valid,
        false => SignatureState::Invalid,
    }
}
