//! The keys that the platform's secrets are sealed with: where they come from, and the first one.
//!
//! A key is a line of 64 hexadecimal digits. The first one seals, all open. Keys are never logged, and are in
//! no message; a file that is made here is readable by its owner only.

use std::{
    fs, io, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path, process::Stdio, time::Duration,
};

use secrecy::ExposeSecret as _;
use undoo_control::Sealer;
use undoo_core::{Kind, Problem, Result};
use zeroize::Zeroizing;

use super::config::{Config, Database, KeySource};

/// How long a command may take to print the keys.
const PATIENCE: Duration = Duration::from_secs(60);

/// A key.
type Key = Zeroizing<[u8; 32]>;

/// The keys, the one that seals first.
pub struct Keys(Vec<Key>);

impl Keys {
    /// Reads the keys; on the SQLite platform's first start, makes one.
    ///
    /// # Errors
    /// `sealing_key_missing`, `sealing_key_unreadable`, `sealing_key_invalid`.
    pub async fn load(config: &Config) -> Result<Self> {
        match &config.keys {
            KeySource::Given(text) => Self::parse(text.expose_secret(), "UNDOO_SECRET_KEY"),
            KeySource::Command(command) => {
                Self::parse(&printed(command).await?, "what secret_key_command prints")
            }
            KeySource::File(path) => Self::read(path),
            KeySource::Own(path) => {
                let Database::Sqlite(database) = &config.database else { return Err(none_given()) };
                if !path.exists() {
                    if database.exists() {
                        return Err(lost(path, database));
                    }
                    Self(vec![generate()?]).write(path)?;
                }
                Self::read(path)
            }
        }
    }

    /// Reads a file of keys.
    ///
    /// # Errors
    /// As [`Keys::load`].
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map(Zeroizing::new).map_err(|error| unreadable(path, error))?;
        Self::parse(&text, &path.display().to_string())
    }

    /// The same with a new key before them, which seals from then on.
    ///
    /// # Errors
    /// `Internal` when the system has no randomness.
    pub fn with_a_new_one(self) -> Result<Self> {
        Ok(Self(std::iter::once(generate()?).chain(self.0).collect()))
    }

    /// The one that seals, alone.
    #[must_use]
    pub fn current(mut self) -> Self {
        self.0.truncate(1);
        self
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// What seals and opens.
    pub fn sealer(&self) -> Sealer {
        Sealer::new(&self.0[0], &self.0[1..])
    }

    /// Writes them into a file in the place of what was there, durably, for its owner only.
    ///
    /// # Errors
    /// `sealing_key_unreadable` when that is not possible.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = Zeroizing::new(String::new());
        for key in &self.0 {
            text.push_str(&Zeroizing::new(hex::encode(**key)));
            text.push('\n');
        }
        let draft = path.with_extension("new");
        let write = || {
            let _ = fs::remove_file(&draft);
            let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, path)?;
            fs::File::open(path.parent().unwrap_or(path))?.sync_all()
        };
        write().map_err(|error| unreadable(path, error))
    }

    fn parse(text: &str, source: &str) -> Result<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys: Option<Vec<Key>> = lines
            .map(|line| {
                let bytes = Zeroizing::new(hex::decode(line).ok()?);
                <[u8; 32]>::try_from(bytes.as_slice()).ok().map(Zeroizing::new)
            })
            .collect();
        keys.filter(|keys| !keys.is_empty()).map(Self).ok_or_else(|| {
            Problem::new(
                Kind::Invalid,
                "sealing_key_invalid",
                format!("{source} holds no sealing key, or something else"),
                "give a line of 64 hexadecimal digits for each key (openssl rand -hex 32), the newest first",
            )
        })
    }
}

fn generate() -> Result<Key> {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *key).map_err(|error| {
        Problem::new(Kind::Internal, "no_randomness", "the system gave no random bytes", "see its log")
            .caused_by(error.to_string())
    })?;
    Ok(key)
}

async fn printed(command: &str) -> Result<Zeroizing<String>> {
    let failed = |why: String| {
        Problem::new(
            Kind::Unavailable,
            "sealing_key_unreadable",
            format!("secret_key_command gave no keys: {why}"),
            "mend the command: it has to print the keys, and to end with 0",
        )
    };
    let mut shell = tokio::process::Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, shell.output())
        .await
        .map_err(|_| failed(format!("it did not end within {} s", PATIENCE.as_secs())))?
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    String::from_utf8(output.stdout).map(Zeroizing::new).map_err(|_| failed("it prints no text".into()))
}

fn unreadable(path: &Path, error: io::Error) -> Problem {
    Problem::new(
        Kind::Unavailable,
        "sealing_key_unreadable",
        format!("the file of sealing keys {} can be neither read nor made: {error}", path.display()),
        "see the rights of the file and of its folder",
    )
    .caused_by(error)
}

fn none_given() -> Problem {
    Problem::new(
        Kind::Invalid,
        "sealing_key_missing",
        "a platform on PostgreSQL has to be given its sealing key, the same in every process",
        "put the output of `openssl rand -hex 32` into a file, and give --secret-key-file FILE (or \
         UNDOO_SECRET_KEY_FILE, UNDOO_SECRET_KEY, or secret_key_command in the file of settings)",
    )
}

fn lost(path: &Path, database: &Path) -> Problem {
    Problem::new(
        Kind::Missing,
        "sealing_key_missing",
        format!(
            "the database {} is there, and the key {} is not, with which its secrets are sealed",
            database.display(),
            path.display()
        ),
        "put the key back from its copy; without it the secrets in the database are lost",
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_written_are_keys_read_and_only_their_owner_reads_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret.key");
        let sealed = {
            let first = Keys(vec![generate().expect("random")]);
            first.write(&path).expect("written");
            first.sealer().seal("x", b"geheim").expect("sealed")
        };
        let both = Keys::read(&path).expect("read").with_a_new_one().expect("random");
        both.write(&path).expect("written");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let read = Keys::read(&path).expect("read");
        assert_eq!(read.count(), 2);
        assert_eq!(&*read.sealer().open("x", &sealed).expect("opens"), b"geheim");
        assert!(!read.sealer().is_current(&sealed));
        assert!(read.current().sealer().open("x", &sealed).is_err());
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_shown() {
        for text in ["", "# nothing\n", "0a", &"zz".repeat(32), &format!("{}\nx", "0a".repeat(32))] {
            let problem = Keys::parse(text, "there").err().expect("refused");
            assert_eq!(problem.code, "sealing_key_invalid");
            assert!(!problem.message.contains("zz"));
        }
    }

    #[tokio::test]
    async fn a_command_gives_keys_by_printing_them() {
        let text = printed("echo 0a; echo secret >&2").await.expect("printed");
        assert_eq!(text.trim(), "0a");
        assert_eq!(printed("exit 3").await.expect_err("failed").code, "sealing_key_unreadable");
    }
}
