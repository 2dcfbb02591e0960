//! Git repositories as people name them on the command line, and what opens them, out of the file that git's own
//! credential store keeps: <https://git-scm.com/docs/git-credential-store>.

use std::path::Path;

use secrecy::SecretString;
use undoo_core::{
    Kind, Problem, Result,
    platform::{AddonsOrigin, AddonsSource},
};
use url::Url;
use zeroize::Zeroizing;

/// Repositories, each with the user and token of the first line of the file that fits it.
///
/// # Errors
/// `git_credentials` (`Invalid`) for a file that cannot be read; `addons_origin` (`Invalid`) as
/// [`AddonsSource::check`].
pub fn sources(addons: &[String], file: Option<&Path>) -> Result<Vec<AddonsSource>> {
    let text = file.map(read).transpose()?.unwrap_or_default();
    let known: Vec<Url> = text.lines().filter_map(|line| Url::parse(line.trim()).ok()).collect();
    let sources: Vec<AddonsSource> = addons.iter().map(|text| source(text, &known)).collect();
    AddonsSource::check(&sources)?;
    Ok(sources)
}

fn read(file: &Path) -> Result<Zeroizing<String>> {
    std::fs::read_to_string(file).map(Zeroizing::new).map_err(|error| {
        Problem::new(
            Kind::Invalid,
            "git_credentials",
            format!("the file {} with credentials of git cannot be read: {error}", file.display()),
            "Name a file with lines https://USER:TOKEN@HOST.",
        )
    })
}

fn source(text: &str, known: &[Url]) -> AddonsSource {
    let mut origin = AddonsOrigin::parse(text);
    let url = Url::parse(&origin.url).ok();
    let Some(found) = url.and_then(|url| known.iter().find(|known| fits(known, &url))) else {
        return AddonsSource { origin, token: None, anywhere: true };
    };
    let plain = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    origin.username = Some(plain(found.username())).filter(|user| !user.is_empty());
    AddonsSource {
        origin,
        token: found.password().map(|token| SecretString::from(plain(token))),
        anywhere: true,
    }
}

/// Whether a line of the file is about a repository: its server, and its path where it names one.
fn fits(known: &Url, url: &Url) -> bool {
    let path = known.path().trim_matches('/');
    known.scheme() == url.scheme()
        && known.host() == url.host()
        && known.port_or_known_default() == url.port_or_known_default()
        && (path.is_empty() || path == url.path().trim_matches('/'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use secrecy::ExposeSecret as _;

    use super::*;

    fn token(file: &str, address: &str) -> Option<(String, String)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("git-credentials");
        std::fs::write(&path, file).unwrap();
        let found = sources(&[address.to_owned()], Some(&path)).unwrap().remove(0);
        Some((found.origin.user().to_owned(), found.token?.expose_secret().to_owned()))
    }

    #[test]
    fn a_token_goes_to_the_server_and_the_repository_that_its_line_names() {
        let file = "https://me:p%40ss@git.example\nhttps://bot:t2@git.example:8443/acme/one.git\n# no line\n";
        let of = |user: &str, token: &str| Some((user.to_owned(), token.to_owned()));
        assert_eq!(token(file, "https://git.example/acme/addons.git#19.0"), of("me", "p@ss"));
        assert_eq!(token(file, "https://git.example:8443/acme/one.git"), of("bot", "t2"));
        assert_eq!(token(file, "https://git.example:8443/acme/two.git"), None);
        assert_eq!(token(file, "https://git.example.org/acme/addons.git"), None);
        assert_eq!(token(file, "http://git.example/acme/addons.git"), None);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let gone = sources(&["https://h/a".to_owned()], Some(Path::new("/nowhere/credentials"))).unwrap_err();
        assert_eq!(gone.code, "git_credentials");
        assert!(gone.message.contains("/nowhere/credentials"), "{}", gone.message);
    }
}
