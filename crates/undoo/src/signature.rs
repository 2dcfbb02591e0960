//! This machine's key, with which reports, manifests and verifications are signed.
//!
//! The key belongs to the person or service that runs the command. It is made at first use, readable by
//! its owner only, and never leaves the machine.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use undoo_core::{Kind, Problem, Result, Signer};

/// This machine's key, made at first use.
///
/// # Errors
/// `Unavailable` when the key can be neither read nor made.
pub fn signer() -> Result<Signer> {
    Ok(Signer::from_seed(&seed(&key_path()?)?))
}

fn key_path() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("UNDOO_SIGNING_KEY") {
        return Ok(path.into());
    }
    let home = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")))
        .ok_or_else(|| {
            Problem::new(
                Kind::Invalid,
                "no_home",
                "neither HOME nor XDG_CONFIG_HOME says where the signing key is to be kept",
                "set one of them, or UNDOO_SIGNING_KEY to a file",
            )
        })?;
    Ok(home.join("undoo").join("signing.key"))
}

fn seed(path: &Path) -> Result<[u8; 32]> {
    let unusable = |error: io::Error| {
        Problem::new(
            Kind::Unavailable,
            "signing_key",
            format!("the signing key {} can be neither read nor made", path.display()),
            "see the file's rights, or set UNDOO_SIGNING_KEY to another file",
        )
        .caused_by(error)
    };
    match fs::read_to_string(path) {
        Ok(text) => {
            let bytes = hex::decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok());
            bytes.ok_or_else(|| unusable(io::ErrorKind::InvalidData.into()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_seed(path).map_err(unusable),
        Err(error) => Err(unusable(error)),
    }
}

fn make_seed(path: &Path) -> io::Result<[u8; 32]> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(hex::encode(bytes).as_bytes())?;
    file.sync_all()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once() {
        let folder = std::env::temp_dir().join(format!("undoo-key-{}", std::process::id()));
        let path = folder.join("signing.key");
        let first = seed(&path).expect("made");
        assert_eq!(first, seed(&path).expect("read"));
        // One that is none is told of, and stays for whoever can mend it.
        fs::write(&path, "no key").expect("written");
        assert_eq!(seed(&path).expect_err("refused").code, "signing_key");
        assert_eq!(fs::read_to_string(&path).expect("read"), "no key");
        fs::remove_dir_all(folder).expect("removed");
    }
}
