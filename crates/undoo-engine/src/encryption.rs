//! Backups that only the holder of a key can read: age's format, written as a stream and read by range.
//! <https://age-encryption.org/v1>
//!
//! The whole backup is one age file, so that `age -d` makes of it what it was. Backups are encrypted to
//! recipients, which are public: what makes backups cannot read them. There are no passphrases; whoever
//! makes a backup by night would have to keep one, and could read every other backup with it. Keys must
//! never be in an argument, an environment or a log.

use std::{
    collections::HashSet,
    fmt,
    io::{self, BufRead, Read, Seek, SeekFrom, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use age::{
    DecryptError, Decryptor, EncryptError, Encryptor,
    stream::{StreamReader, StreamWriter},
    x25519,
};
use age_core::format::{FileKey, Stanza};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use undoo_archive::{
    RangedRead,
    error::{carry, problem_of},
};
use undoo_core::{Finding, Kind, Problem, Result};

/// What an age file begins with.
const MAGIC: &[u8] = b"age-encryption.org/v1\n";
/// What one begins with that was made into text, which cannot be read from the middle.
const ARMOR: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";
/// Bytes at the beginning that are kept: the header, which has some 100 for each recipient.
const HEAD: u64 = 16 * 1024;
/// The most recipients of a backup: their header fits into [`HEAD`], with what age adds to it.
const MOST_RECIPIENTS: usize = 100;
/// Plain bytes of each piece that is encrypted by itself.
const CHUNK: u64 = 64 * 1024;
/// What a piece has besides.
const TAG: u64 = 16;

/// Public keys that a backup is encrypted to; none leave it as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Recipients(Vec<String>);

impl Recipients {
    /// Public keys as `age-keygen` shows them: `age1…`.
    ///
    /// # Errors
    /// `invalid_recipient` (`Invalid`) for anything else; it is not shown, since it may be the secret half.
    /// `too_many_recipients` (`Invalid`) for more than could be read again.
    pub fn parse(keys: &[String]) -> Result<Self> {
        let recipients = Self(keys.to_vec());
        recipients.keys()?;
        Ok(recipients)
    }

    /// Whether there is nobody to encrypt to.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn keys(&self) -> Result<Vec<x25519::Recipient>> {
        if self.0.len() > MOST_RECIPIENTS {
            return Err(Problem::new(
                Kind::Invalid,
                "too_many_recipients",
                format!(
                    "{} recipients are more than the {MOST_RECIPIENTS} that a backup can have",
                    self.0.len()
                ),
                "Encrypt to fewer keys; one that several people hold will do.",
            ));
        }
        let parsed = self.0.iter().enumerate().map(|(at, key)| {
            key.parse::<x25519::Recipient>().map_err(|error| {
                Problem::new(
                    Kind::Invalid,
                    "invalid_recipient",
                    format!("recipient {} is not the public half of an age key", at + 1),
                    "`age-keygen -y FILE` prints it: age1 and 58 more characters.",
                )
                .caused_by(error)
            })
        });
        parsed.collect()
    }
}

/// Keys that backups can be read with. Serialising writes them out, so that is for the standard input of a
/// mover and for nothing else.
#[derive(Clone, Default, Deserialize)]
#[serde(from = "Vec<SecretString>")]
pub struct Identities {
    keys: Vec<SecretString>,
    /// The key of a single file, for whoever wrote it. It does not travel.
    file: Option<Arc<Known>>,
}

impl From<Vec<SecretString>> for Identities {
    fn from(keys: Vec<SecretString>) -> Self {
        Self { keys, file: None }
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({})", self.keys.len())
    }
}

impl Serialize for Identities {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.keys.iter().map(ExposeSecret::expose_secret))
    }
}

impl Identities {
    /// The keys of these files, as `age-keygen` writes them.
    ///
    /// # Errors
    /// `identity_unreadable` (`Denied`) for a file that cannot be read or has anything else in it.
    pub fn read<P: AsRef<Path>>(files: impl IntoIterator<Item = P>) -> Result<Self> {
        let mut identities = Vec::new();
        for path in files {
            let path = path.as_ref();
            let unreadable = |why: &str| {
                Problem::new(
                    Kind::Denied,
                    "identity_unreadable",
                    format!("{} is no file of age identities: {why}", path.display()),
                    "Give a file as `age-keygen -o FILE` writes it, which you may read; one that is itself \
                     encrypted has to be decrypted first.",
                )
            };
            let text = std::fs::read_to_string(path).map(SecretString::from);
            let text = text.map_err(|error| unreadable("it cannot be read").caused_by(error))?;
            let keys = text.expose_secret().lines().map(str::trim);
            let before = identities.len();
            for key in keys.filter(|key| !key.is_empty() && !key.starts_with('#')) {
                identities.push(SecretString::from(key));
                parsed(key).ok_or_else(|| unreadable("a line of it is no key"))?;
            }
            if identities.len() == before {
                return Err(unreadable("it has no key"));
            }
        }
        Ok(identities.into())
    }
}

fn parsed(key: &str) -> Option<x25519::Identity> {
    key.parse().ok()
}

/// The way out of a backup that is being written: as it is, or encrypted where there are recipients.
/// It is whole only after [`Outgoing::finish`].
pub enum Outgoing<W: Write> {
    /// As it is.
    Plain(W),
    /// Encrypted, with this file's key.
    Encrypted(Box<StreamWriter<W>>, Arc<Known>),
}

impl<W: Write> Outgoing<W> {
    /// `out` gets an age file's header at once where there are recipients.
    ///
    /// # Errors
    /// As [`Recipients::parse`]; `backup_write_failed` when `out` takes nothing.
    pub fn new(out: W, recipients: &Recipients) -> Result<Self> {
        if recipients.is_empty() {
            return Ok(Self::Plain(out));
        }
        let broken = || {
            Problem::new(Kind::Internal, "encryption", "the backup cannot be encrypted", "please report this")
        };
        let keys: Vec<Catching<_>> = recipients.keys()?.into_iter().map(Catching::new).collect();
        let encryptor = Encryptor::with_recipients(keys.iter().map(|key| key as &dyn age::Recipient));
        let encryptor = encryptor.map_err(|error| broken().caused_by(error.to_string()))?;
        let key = keys.into_iter().find_map(Catching::caught).ok_or_else(broken)?;
        let writer = encryptor.wrap_output(out).map_err(unwritable)?;
        Ok(Self::Encrypted(Box::new(writer), Arc::new(key)))
    }

    /// What reads back the file that is being written and no other, without the secret half of any key.
    pub fn read_back(&self) -> Identities {
        match self {
            Self::Plain(_) => Identities::default(),
            Self::Encrypted(_, key) => Identities { keys: Vec::new(), file: Some(Arc::clone(key)) },
        }
    }

    /// Writes what is left, and gives back what it was written to.
    ///
    /// # Errors
    /// `backup_write_failed`, or the problem that the output told.
    pub fn finish(self) -> Result<W> {
        match self {
            Self::Plain(out) => Ok(out),
            Self::Encrypted(writer, _) => writer.finish().map_err(unwritable),
        }
    }
}

impl<W: Write> Write for Outgoing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Encrypted(writer, _) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Encrypted(writer, _) => writer.flush(),
        }
    }
}

fn unwritable(error: io::Error) -> Problem {
    error.downcast::<Problem>().unwrap_or_else(|error| {
        Problem::new(
            Kind::Unavailable,
            "backup_write_failed",
            "the backup could not be written to its end",
            "Try again; if it stays so, check that the storage answers and has room.",
        )
        .caused_by(error)
    })
}

/// What is said of a backup that was opened with a key.
pub fn finding() -> Finding {
    Finding::info(
        "encrypted",
        "the backup is encrypted with age: Odoo's own database manager cannot load it",
        "Undoo restores it as it is; for Odoo, `undoo convert --layout undoo` or `age -d` makes a plain one.",
    )
}

/// A backup as it is to be read, and whether it was encrypted. What is not is given back untouched.
///
/// # Errors
/// `encrypted` (`Denied`) where there is no key at all, `wrong_identity` (`Denied`) where none of them fits,
/// `encrypted_text` and `encrypted_damaged` (`Invalid`); `Unavailable` when the storage does not answer.
pub fn open(
    backup: Arc<dyn RangedRead>,
    name: &str,
    identities: &Identities,
) -> Result<(Arc<dyn RangedRead>, bool)> {
    let size = backup.size();
    let read = |len: u64| backup.read_at(0, usize::try_from(len.min(size)).unwrap_or_default());
    let magic = read(ARMOR.len() as u64).map_err(problem_of)?;
    if magic.starts_with(ARMOR) {
        return Err(Problem::new(
            Kind::Invalid,
            "encrypted_text",
            format!("{name} is an age file made into text, which can only be read as a whole"),
            "Decrypt it first: age -d -i IDENTITY -o FILE.",
        ));
    }
    if !magic.starts_with(MAGIC) {
        return Ok((backup, false));
    }
    if identities.keys.is_empty() && identities.file.is_none() {
        return Err(Problem::new(
            Kind::Denied,
            "encrypted",
            format!("{name} is encrypted with age, and no key was given"),
            "Give the file with the key: --identity FILE, or UNDOO_IDENTITY=FILE.",
        ));
    }
    let head: Arc<[u8]> = read(HEAD).map_err(problem_of)?.into();
    Ok((Arc::new(Decrypted::open(backup, head, name, identities)?), true))
}

fn damaged(name: &str) -> Problem {
    Problem::new(
        Kind::Invalid,
        "encrypted_damaged",
        format!("{name} is not the age file that was written: it was changed or cut"),
        "Fetch the backup again, or use another one.",
    )
}

/// The problem of a reader of an age file: the storage's, or that what it gives is not what was written.
fn unreadable(name: &str, error: io::Error) -> Problem {
    match error.downcast::<Problem>() {
        Ok(problem) => problem,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => damaged(name).caused_by(error),
        Err(error) => problem_of(error),
    }
}

/// The plain bytes of an age file, by range: each read fetches the pieces that it touches and no more.
struct Decrypted {
    /// What it is called in messages.
    name: Arc<str>,
    source: Arc<dyn RangedRead>,
    /// The file's beginning, with all of its header.
    head: Arc<[u8]>,
    key: Arc<Known>,
    /// Where the pieces begin.
    start: u64,
    /// Plain bytes.
    size: u64,
}

impl Decrypted {
    fn open(
        source: Arc<dyn RangedRead>,
        head: Arc<[u8]>,
        name: &str,
        identities: &Identities,
    ) -> Result<Self> {
        let damaged = || damaged(name);
        let all = source.size();
        let keys = identities.keys.iter().filter_map(|key| parsed(key.expose_secret()));
        let catching: Vec<Catching<_>> = keys.map(Catching::new).collect();
        let bytes = Ciphertext {
            source: Arc::clone(&source),
            head: Arc::clone(&head),
            at: 0,
            end: all,
            stream: None,
        };
        let decryptor =
            Decryptor::new_buffered(bytes).map_err(|error| damaged().caused_by(error.to_string()))?;
        let known = identities.file.iter().map(|key| &**key as &dyn age::Identity);
        let all_keys = catching.iter().map(|identity| identity as &dyn age::Identity);
        let opened = decryptor.decrypt(all_keys.chain(known));
        let mut reader = opened.map_err(|error| match error {
            DecryptError::NoMatchingKeys => Problem::new(
                Kind::Denied,
                "wrong_identity",
                format!("{name} is encrypted to other keys than those that were given"),
                "Give the file with the key that it was encrypted to.",
            ),
            error => damaged().caused_by(error.to_string()),
        })?;
        // Reads the last piece, which says that it is the last: what was cut off is found out here.
        let size = reader.seek(SeekFrom::End(0)).map_err(|error| unreadable(name, error))?;
        let pieces = size.div_ceil(CHUNK).max(1);
        let start = all.checked_sub(size + pieces * TAG).ok_or_else(damaged)?;
        let caught = catching.into_iter().find_map(Catching::caught).map(Arc::new);
        let key = caught.or_else(|| identities.file.clone()).ok_or_else(damaged)?;
        Ok(Self { name: name.into(), source, head, key, start, size })
    }

    /// The plain bytes from `offset` on, as far as the piece that has the byte before `end`.
    fn reader(&self, offset: u64, end: u64) -> io::Result<StreamReader<Ciphertext>> {
        let end = self.start.saturating_add(end.div_ceil(CHUNK).saturating_mul(CHUNK + TAG));
        let bytes = Ciphertext {
            source: Arc::clone(&self.source),
            head: Arc::clone(&self.head),
            at: 0,
            end: end.min(self.source.size()),
            stream: None,
        };
        let reader = Decryptor::new_buffered(bytes)
            .and_then(|it| it.decrypt(std::iter::once(&*self.key as &dyn age::Identity)));
        let mut reader =
            reader.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        if offset > 0 && offset.is_multiple_of(CHUNK) {
            // To seek to the beginning of a piece, the library reads the file's last one.
            reader.seek(SeekFrom::Start(offset - 1))?;
            reader.read_exact(&mut [0])?;
        } else {
            reader.seek(SeekFrom::Start(offset))?;
        }
        Ok(reader)
    }
}

impl RangedRead for Decrypted {
    fn size(&self) -> u64 {
        self.size
    }

    fn stream(&self, offset: u64, len: u64) -> io::Result<Box<dyn Read + Send>> {
        let end = offset.checked_add(len).filter(|end| *end <= self.size);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        if len == 0 {
            return Ok(Box::new(io::empty()));
        }
        let reader = self.reader(offset, end).map_err(|error| carry(unreadable(&self.name, error)))?;
        Ok(Box::new(Exactly { name: Arc::clone(&self.name), reader, left: len }))
    }
}

/// So many bytes, or an error.
struct Exactly {
    name: Arc<str>,
    reader: StreamReader<Ciphertext>,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let room = out.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if room == 0 {
            return Ok(0);
        }
        let read = self.reader.read(&mut out[..room]);
        let read = read.map_err(|error| carry(unreadable(&self.name, error)))?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// The age file as the library wants it. What is read in one go is fetched in one request.
struct Ciphertext {
    source: Arc<dyn RangedRead>,
    head: Arc<[u8]>,
    at: u64,
    /// Where a request ends, and the file as far as it is needed.
    end: u64,
    stream: Option<Box<dyn Read + Send>>,
}

impl Read for Ciphertext {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.end.saturating_sub(self.at);
        let room = out.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if room == 0 {
            return Ok(0);
        }
        let read = if self.stream.is_none() && !self.fill_buf()?.is_empty() {
            let mut known = self.fill_buf()?;
            known.read(&mut out[..room])?
        } else {
            let stream = match &mut self.stream {
                Some(stream) => stream,
                none => none.insert(self.source.stream(self.at, left)?),
            };
            stream.read(&mut out[..room])?
        };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += read as u64;
        Ok(read)
    }
}

/// For the header alone, which has to end in what is kept of the file.
impl BufRead for Ciphertext {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(usize::try_from(self.at).ok().and_then(|at| self.head.get(at..)).unwrap_or_default())
    }

    fn consume(&mut self, read: usize) {
        self.at += read as u64;
    }
}

impl Seek for Ciphertext {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.source.size().checked_add_signed(by),
        };
        let at = at.ok_or(io::ErrorKind::InvalidInput)?;
        if at != self.at {
            self.stream = None;
        }
        self.at = at;
        Ok(at)
    }
}

/// The key of one file, so that it is unwrapped once and not for every read.
pub struct Known(SecretBox<[u8; 16]>);

impl Known {
    fn of(key: &FileKey) -> Self {
        Self(SecretBox::new(Box::new(*key.expose_secret())))
    }

    fn key(&self) -> FileKey {
        FileKey::new(Box::new(*self.0.expose_secret()))
    }
}

impl age::Identity for Known {
    fn unwrap_stanza(&self, _: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        Some(Ok(self.key()))
    }
}

/// Half a key that keeps the file's key which it wrapped or unwrapped.
struct Catching<K> {
    half: K,
    caught: Mutex<Option<Known>>,
}

impl<K> Catching<K> {
    fn new(half: K) -> Self {
        Self { half, caught: Mutex::default() }
    }

    fn keep(&self, key: &FileKey) {
        *self.caught.lock().unwrap_or_else(PoisonError::into_inner) = Some(Known::of(key));
    }

    fn caught(self) -> Option<Known> {
        self.caught.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl age::Identity for Catching<x25519::Identity> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        let unwrapped = self.half.unwrap_stanza(stanza);
        if let Some(Ok(key)) = &unwrapped {
            self.keep(key);
        }
        unwrapped
    }
}

impl age::Recipient for Catching<x25519::Recipient> {
    fn wrap_file_key(&self, key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        self.keep(key);
        self.half.wrap_file_key(key)
    }
}

#[cfg(test)]
mod tests;
