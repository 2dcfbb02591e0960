//! Signing in to a server, and where it is kept who one is there.
//!
//! The password is used once and kept nowhere. What is kept is a token, in a file that only its owner can
//! read; it is never printed.

use std::{
    env,
    fs::{self, OpenOptions},
    io::{self, BufRead, IsTerminal, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use undoo_api::{
    Client,
    identity::{CreateTokenRequest, LoginRequest},
    secret::Secret,
};
use undoo_core::{Kind, Problem, Result, TokenId};
use undoo_engine::order::Failure;

use crate::{cli::remote::Login, ui::Ui};

/// What helps who is not signed in.
pub const SIGN_IN: &str = "sign in with `undoo login URL`, or set UNDOO_URL and UNDOO_TOKEN";

/// A token is at most so long: what is longer is something else.
const LONGEST_TOKEN: u64 = 4096;

/// Who one is, and where.
pub struct Account {
    /// The server.
    pub url: String,
    /// The token.
    pub token: SecretString,
}

/// What signing in leaves.
#[derive(Serialize, Deserialize)]
struct Kept {
    url: String,
    token: Secret,
    /// The token's id, where signing in has made it: then it is to be ended by signing out.
    #[serde(default)]
    token_id: Option<TokenId>,
}

/// Who one is: what the environment says, else what signing in has left.
///
/// # Errors
/// When nobody is signed in.
pub fn account() -> Result<Account> {
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    pick(variable("UNDOO_URL"), variable("UNDOO_TOKEN"), || read(&file()?))
}

fn pick(
    url: Option<String>,
    token: Option<String>,
    kept: impl FnOnce() -> Result<Option<Kept>>,
) -> Result<Account> {
    let nobody = |message: &str| Problem::new(Kind::Denied, "not_signed_in", message, SIGN_IN);
    if let (Some(url), Some(token)) = (&url, &token) {
        return Ok(Account { url: url.clone(), token: token.as_str().into() });
    }
    match (kept()?, url, token) {
        (Some(kept), None, None) => Ok(Account { url: kept.url, token: kept.token.into_inner() }),
        (Some(kept), None, Some(token)) => Ok(Account { url: kept.url, token: token.into() }),
        // A token goes to the server that it is of, and to no other.
        (Some(kept), Some(url), None) if same(&kept.url, &url) => {
            Ok(Account { url, token: kept.token.into_inner() })
        }
        (_, Some(url), _) => Err(nobody(&format!("nobody is signed in to {url}"))),
        (None, None, _) => Err(nobody("nobody is signed in to a server")),
    }
}

fn same(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

/// `undoo login`
pub async fn login(arguments: &Login, ui: &Ui) -> Result<(), Failure> {
    let client = Client::anonymous(&arguments.url)?;
    if client.is_readable_on_the_way() {
        ui.say(&format!(
            "{} is not encrypted: everybody on the way can read the password and the token",
            client.base()
        ));
    }
    let (token, token_id) = if arguments.token_stdin {
        (token_from(io::stdin().lock())?, None)
    } else {
        let (token, id) = sign_in(&client, arguments).await?;
        (token, Some(id))
    };
    let me = client.with_token(token.expose_secret().into()).me().await?;
    let kept = Kept { url: client.base().to_owned(), token: token.into(), token_id };
    let file = file()?;
    write(&file, &kept)?;
    ui.say(&format!("Signed in to {} as {} ({})", client.base(), me.user.name, me.user.email));
    Ok(())
}

/// Signs in with a password, makes a token, and ends the session.
async fn sign_in(client: &Client, arguments: &Login) -> Result<(SecretString, TokenId)> {
    if !io::stdin().is_terminal() {
        return Err(Problem::new(
            Kind::Invalid,
            "no_terminal",
            "there is no terminal to ask for a password on",
            "run it in a terminal, or give a token with --token-stdin",
        ));
    }
    let email = match &arguments.email {
        Some(email) => email.clone(),
        None => ask("E-mail: ")?,
    };
    let password = rpassword::prompt_password("Password: ").map_err(unheard)?;
    let request = LoginRequest { email, password: password.into() };
    let (session, _) = client.login(&request).await?;
    let client = client.with_session(session);
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let request = CreateTokenRequest {
        name: format!("undoo login {}", host.trim()).trim().to_owned(),
        organization_id: None,
        scopes: None,
        expires_in_days: Some(arguments.days),
    };
    let made = client.token_create(&request).await;
    // One that stays would end by itself.
    let _ = client.logout().await;
    let made = made?;
    Ok((made.token.into_inner(), made.details.id))
}

fn ask(question: &str) -> Result<String> {
    eprint!("{question}");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(unheard)?;
    Ok(answer.trim().to_owned())
}

fn unheard(error: io::Error) -> Problem {
    Problem::new(Kind::Cancelled, "no_answer", "there was no answer on the terminal", SIGN_IN)
        .caused_by(error)
}

fn token_from(input: impl BufRead) -> Result<SecretString> {
    let mut token = String::new();
    let read = input.take(LONGEST_TOKEN).read_line(&mut token);
    match token.trim() {
        token if read.is_ok() && !token.is_empty() => Ok(token.into()),
        _ => Err(Problem::new(
            Kind::Invalid,
            "no_token",
            "there is no token on standard input",
            "give one line with the token: undoo login URL --token-stdin < FILE",
        )),
    }
}

/// `undoo logout`
pub async fn logout(ui: &Ui) -> Result<(), Failure> {
    let file = file()?;
    let Some(kept) = read(&file)? else {
        ui.say("Nobody was signed in");
        return Ok(());
    };
    let ended = match kept.token_id {
        Some(id) => Client::new(&kept.url, kept.token.into_inner())?.token_revoke(id).await.map(drop),
        None => Ok(()),
    };
    fs::remove_file(&file).map_err(|error| unusable(&file, error))?;
    ui.say(&format!("Signed out of {}", kept.url));
    // One that is not accepted any more has ended already.
    match ended {
        Err(problem) if problem.kind != Kind::Denied => {
            let message = format!("the token could not be ended on the server: {problem}");
            Err(Problem::new(problem.kind, "token_stays", message, "end it there, or wait for its end")
                .into())
        }
        _ => Ok(()),
    }
}

fn file() -> Result<PathBuf> {
    let config = env::var_os("XDG_CONFIG_HOME")
        .filter(|config| !config.is_empty())
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    let config = config.ok_or_else(|| {
        let message = "neither HOME nor XDG_CONFIG_HOME says where it is kept who is signed in";
        Problem::new(Kind::Invalid, "no_home", message, "set one of them, or UNDOO_URL and UNDOO_TOKEN")
    })?;
    Ok(config.join("undoo").join("login.json"))
}

fn unusable(file: &Path, error: io::Error) -> Problem {
    Problem::new(
        Kind::Unavailable,
        "login_file",
        format!("{} can be neither read nor written", file.display()),
        "see the file's rights, or set UNDOO_URL and UNDOO_TOKEN",
    )
    .caused_by(error)
}

fn read(file: &Path) -> Result<Option<Kept>> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(file, error)),
    };
    serde_json::from_str(&text).map(Some).map_err(|error| unusable(file, error.into()))
}

/// Written beside and renamed, so that who is signed in stays so when the disk is full.
fn write(file: &Path, kept: &Kept) -> Result<()> {
    let written = || {
        let folder = file.parent().ok_or(io::ErrorKind::NotFound)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let beside = file.with_extension(format!("{}.tmp", std::process::id()));
        let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        let done = new
            .write_all(&serde_json::to_vec_pretty(kept)?)
            .and_then(|()| new.sync_all())
            .and_then(|()| fs::rename(&beside, file));
        if done.is_err() {
            let _ = fs::remove_file(&beside);
        }
        done
    };
    written().map_err(|error| unusable(file, error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn kept() -> Kept {
        Kept { url: "https://undo.example.com".into(), token: "geheim".into(), token_id: None }
    }

    #[test]
    fn who_is_signed_in_is_kept_where_only_they_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("undoo/login.json");
        assert!(read(&file).unwrap().is_none());
        write(&file, &kept()).unwrap();
        write(&file, &Kept { url: "https://other.example".into(), ..kept() }).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file), 0o600);
        assert_eq!(mode(file.parent().unwrap()), 0o700);
        let read = read(&file).unwrap().unwrap();
        assert_eq!((read.url.as_str(), read.token.expose()), ("https://other.example", "geheim"));
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_token_goes_to_its_own_server_only() {
        let picked = |url: Option<&str>, token: Option<&str>, kept: Option<Kept>| {
            let account = pick(url.map(Into::into), token.map(Into::into), || Ok(kept));
            account
                .map(|account| (account.url, account.token.expose_secret().to_owned()))
                .map_err(|problem| problem.code)
        };
        let own = ("https://undo.example.com".to_owned(), "geheim".to_owned());
        assert_eq!(picked(None, None, Some(kept())), Ok(own.clone()));
        assert_eq!(picked(None, Some("t"), Some(kept())), Ok((own.0.clone(), "t".into())));
        let slash = "https://undo.example.com/";
        assert_eq!(picked(Some(slash), None, Some(kept())), Ok((slash.into(), own.1)));
        assert_eq!(picked(Some("https://evil.example"), None, Some(kept())), Err("not_signed_in"));
        assert_eq!(picked(Some("http://h"), Some("t"), None), Ok(("http://h".into(), "t".into())));
        assert_eq!(picked(None, Some("t"), None), Err("not_signed_in"));
        assert_eq!(picked(None, None, None), Err("not_signed_in"));
    }

    #[test]
    fn a_token_is_the_first_line_of_what_comes() {
        assert_eq!(token_from(&b" t0ken \nmore"[..]).unwrap().expose_secret(), "t0ken");
        assert_eq!(token_from(&b"\n"[..]).unwrap_err().code, "no_token");
        assert!(token_from(&[b'x'; 10_000][..]).unwrap().expose_secret().len() <= 4096);
    }
}
