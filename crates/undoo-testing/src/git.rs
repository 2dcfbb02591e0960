//! A real git server over HTTP on the loopback: `git http-backend` behind as much of HTTP as it needs, with
//! repositories made by the real `git`. It can also do what servers do on bad days.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::run;

const BACKEND: &str = "/usr/lib/git-core/git-http-backend";

/// How a server answers.
#[derive(Debug, Clone, Default)]
pub enum Manner {
    /// As it should.
    #[default]
    Well,
    /// It leads every request on to this address, with the request's own path behind it.
    Redirect(String),
    /// It begins an answer and never goes on.
    Silent,
    /// It ends each answer after so many bytes of its body.
    Cut(usize),
    /// It has this status for everything, as `403 Forbidden`.
    Status(&'static str),
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its method and its path with query.
    pub line: String,
    /// The user and password that it brought.
    pub login: Option<String>,
}

#[derive(Default)]
struct State {
    folder: PathBuf,
    login: Option<String>,
    manner: Mutex<Manner>,
    seen: Mutex<Vec<Seen>>,
    held: Mutex<Vec<TcpStream>>,
    ended: AtomicBool,
}

/// The server, which ends when this is dropped.
pub struct GitServer {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    state: Arc<State>,
    _folder: tempfile::TempDir,
}

/// A repository of the server.
pub struct Repository {
    /// Where it lies, with a working copy of its own.
    pub folder: PathBuf,
    /// Its address.
    pub url: String,
}

impl GitServer {
    /// A server that everybody may read from.
    ///
    /// # Panics
    /// When it does not start.
    pub fn public() -> Self {
        Self::start(None)
    }

    /// A server that wants a user and a password.
    ///
    /// # Panics
    /// When it does not start.
    pub fn private(user: &str, password: &str) -> Self {
        Self::start(Some(format!("{user}:{password}")))
    }

    fn start(login: Option<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State { folder: folder.path().to_owned(), login, ..Default::default() });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.ended.load(Ordering::SeqCst) {
                    break;
                }
                let (stream, shared) = (stream.unwrap(), Arc::clone(&shared));
                // A client that goes away in the middle is none of a test's business.
                std::thread::spawn(move || shared.serve(stream).ok());
            }
        });
        Self { port, state, _folder: folder }
    }

    /// A new repository without a commit, whose default branch is `main`.
    ///
    /// # Panics
    /// When `git` fails.
    pub fn repository(&self, name: &str) -> Repository {
        let folder = self.state.folder.join(format!("{name}.git"));
        run(git(&self.state.folder).args(["init", "-q", "-b", "main"]).arg(&folder));
        let url = format!("http://127.0.0.1:{}/{name}.git", self.port);
        Repository { folder, url }
    }

    /// Has it answer in another manner from now on.
    ///
    /// # Panics
    /// When a thread of it has panicked.
    pub fn behave(&self, manner: Manner) {
        *self.state.manner.lock().unwrap() = manner;
    }

    /// All requests so far.
    ///
    /// # Panics
    /// When a thread of it has panicked.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        self.state.held.lock().unwrap().clear();
        // It looks up only when somebody comes.
        TcpStream::connect(("127.0.0.1", self.port)).ok();
    }
}

impl Repository {
    /// Runs `git` in the working copy; answers what it says.
    ///
    /// # Panics
    /// When it fails.
    pub fn git(&self, arguments: &[&str]) -> String {
        let told = run(git(&self.folder).args(arguments));
        String::from_utf8(told).unwrap().trim().to_owned()
    }

    /// Writes files and commits all that is in the working copy; answers the commit.
    ///
    /// # Panics
    /// When `git` fails.
    pub fn commit(&self, files: &[(&str, &str)]) -> String {
        for (path, content) in files {
            let path = self.folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "a commit"]);
        self.git(&["rev-parse", "HEAD"])
    }
}

fn git(folder: &Path) -> Command {
    isolated("git", folder)
}

/// A program of git's, without the configuration of this machine.
fn isolated(program: &str, folder: &Path) -> Command {
    let mut git = Command::new(program);
    git.current_dir(folder).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    git.env_remove("GIT_CONFIG_COUNT").env_remove("GIT_DIR");
    for role in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{role}_NAME"), "Ada").env(format!("GIT_{role}_EMAIL"), "ada@example.com");
    }
    git
}

impl State {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let headers: Vec<(String, String)> = reader
            .by_ref()
            .lines()
            .map_while(|line| line.ok().filter(|line| !line.is_empty()))
            .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.into())))
            .collect();
        let header =
            |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let mut body = vec![0; header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
        reader.read_exact(&mut body)?;
        let login = header("authorization")
            .and_then(|value| value.strip_prefix("Basic "))
            .map(|value| String::from_utf8(STANDARD.decode(value).unwrap_or_default()).unwrap_or_default());
        let may_read = self.login.is_none() || self.login == login;
        self.seen.lock().unwrap().push(Seen { line: format!("{method} {target}"), login });
        let manner = self.manner.lock().unwrap().clone();
        let answer = match &manner {
            Manner::Redirect(to) => (format!("301 Moved\r\nLocation: {to}{target}\r\n"), Vec::new()),
            Manner::Status(status) => (format!("{status}\r\n"), Vec::new()),
            _ if !may_read => {
                ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"git\"\r\n".to_owned(), Vec::new())
            }
            _ => self.backend(method, target, &header, &body),
        };
        let (head, mut body) = answer;
        write!(stream, "HTTP/1.1 {head}Connection: close\r\nContent-Length: {}\r\n\r\n", body.len())?;
        match manner {
            Manner::Silent => {
                self.held.lock().unwrap().push(stream);
                return Ok(());
            }
            Manner::Cut(after) => body.truncate(after),
            _ => {}
        }
        stream.write_all(&body)
    }

    /// The status with headers, and the body.
    fn backend<'h>(
        &self,
        method: &str,
        target: &str,
        header: &impl Fn(&str) -> Option<&'h str>,
        body: &[u8],
    ) -> (String, Vec<u8>) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut child = isolated(BACKEND, &self.folder)
            .env("GIT_PROJECT_ROOT", &self.folder)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("REQUEST_METHOD", method)
            .env("PATH_INFO", path)
            .env("QUERY_STRING", query)
            .env("CONTENT_TYPE", header("content-type").unwrap_or_default())
            .env("CONTENT_LENGTH", body.len().to_string())
            .env("GIT_PROTOCOL", header("git-protocol").unwrap_or_default())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(body).ok();
        let output = child.wait_with_output().unwrap().stdout;
        let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(0);
        let head = String::from_utf8_lossy(&output[..end]).into_owned();
        let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK");
        (format!("{status}\r\n{head}\r\n"), output.get(end + 4..).unwrap_or_default().to_vec())
    }
}
