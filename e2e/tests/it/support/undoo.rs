//! The real binary, run as a person or a script runs it.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use serde_json::Value;

use super::{cache, docker, instance, project, wait_for};

/// The binary, and this test's turn.
pub(crate) struct Undoo {
    program: PathBuf,
    /// The process whose network it runs in, where that is not this one's.
    network: Option<u32>,
    _turn: File,
}

/// What a finished run came to.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A run that goes on; it is killed when this goes.
pub(crate) struct Running {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<String>>,
}

impl Undoo {
    /// Waits for this test's turn and has cargo build the binary.
    ///
    /// `UNDOO_PROGRAM` names one that is built already. Tests that hold a cutover need a debug build.
    pub(crate) fn ready() -> Self {
        let turn = File::create(cache().join("turn")).unwrap();
        turn.lock().unwrap();
        instance::sweep();
        let program = match std::env::var_os("UNDOO_PROGRAM") {
            Some(program) => program.into(),
            None => build(),
        };
        Self { program, network: None, _turn: turn }
    }

    /// The binary's path.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// From now on it runs in the network of this process.
    pub(crate) fn moves_to_network_of(&mut self, process: u32) {
        self.network = Some(process);
    }

    fn command(&self, words: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = match self.network {
            None => Command::new(&self.program),
            Some(process) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/proc/{process}/ns/net")).arg(&self.program);
                command
            }
        };
        for (name, _) in std::env::vars() {
            if name.starts_with("AWS_") || name.starts_with("UNDOO_") {
                command.env_remove(name);
            }
        }
        command.args(words).envs(variables.iter().copied()).stdin(Stdio::null());
        command
    }

    /// Starts a mover on this machine, gives it this order, and closes its input.
    pub(crate) fn order_and_leave(&self, order: &Value) -> Child {
        let mut command = self.command(&["mover"], &[]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        writeln!(child.stdin.take().unwrap(), "{order}").unwrap();
        child
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Run {
        self.run_with(words, &[])
    }

    /// Runs it to its end with these variables in its environment.
    pub(crate) fn run_with(&self, words: &[&str], variables: &[(&str, &str)]) -> Run {
        let output = self.command(words, variables).output().unwrap();
        Run {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts it and comes back at once.
    pub(crate) fn start(&self, words: &[&str], variables: &[(&str, &str)]) -> Running {
        let mut command = self.command(words, variables);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let readers = vec![listen(out, Arc::clone(&lines)), listen(err, Arc::clone(&lines))];
        Running { child, lines, readers }
    }
}

impl Run {
    /// Everything that it wrote.
    pub(crate) fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    /// Insists on an exit code.
    pub(crate) fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code; it wrote:\n{}", self.all());
        self
    }

    /// The last JSON document on standard output.
    pub(crate) fn json(&self) -> Value {
        let documents = serde_json::Deserializer::from_str(&self.out).into_iter::<Value>();
        let last = documents.map(|document| document.unwrap()).last();
        last.unwrap_or_else(|| panic!("no JSON on standard output; it wrote:\n{}", self.all()))
    }

    /// What a command with `--json` answers at its end.
    pub(crate) fn result(&self) -> Value {
        self.json()["result"].clone()
    }

    /// Codes of the findings that stood in the way.
    pub(crate) fn findings(&self) -> Vec<String> {
        let answer = self.json();
        let findings = answer["findings"].as_array().cloned().unwrap_or_default();
        findings.iter().map(|finding| finding["code"].as_str().unwrap().to_owned()).collect()
    }
}

impl Running {
    /// Waits for a line, on either of its outputs, that holds `text`.
    pub(crate) fn hears(&self, text: &str) {
        self.line(text);
    }

    /// The first line that holds `text`, once there is one.
    pub(crate) fn line(&self, text: &str) -> String {
        wait_for(&format!("a line with {text}"), Duration::from_secs(120), || {
            self.lines.lock().unwrap().iter().find(|line| line.contains(text)).cloned()
        })
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        // What it held is let go when it is dead, not when it was told to be.
        self.child.wait().unwrap();
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        self.signal("-INT");
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: &str) {
        docker::succeed(Command::new("kill").args([signal, &self.id().to_string()]), b"");
    }

    /// The lines with `text` that it has written so far.
    pub(crate) fn heard(&self, text: &str) -> Vec<String> {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|line| line.contains(text)).cloned().collect()
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Run {
        let status = self.child.wait().unwrap();
        let mut texts = std::mem::take(&mut self.readers).into_iter().map(|reader| reader.join().unwrap());
        let (out, err) = (texts.next().unwrap(), texts.next().unwrap());
        Run { code: status.code().unwrap_or(-1), out, err }
    }
}

/// Hears what comes out of a process, line by line.
fn listen(out: impl Read + Send + 'static, heard: Arc<Mutex<Vec<String>>>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            text.push_str(&line);
            text.push('\n');
            heard.lock().unwrap().push(line);
        }
        text
    })
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Builds the binary and copies it aside: cargo's own place changes under a build from elsewhere.
fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "-q", "--locked", "-p", "undoo", "--message-format=json"]).current_dir(project());
    let messages = docker::succeed(&mut command, b"");
    let built = String::from_utf8(messages)
        .unwrap()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "undoo")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo says where it put the binary");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("undoo-e2e");
    let stamp = |path: &Path| fs::metadata(path).and_then(|found| Ok((found.len(), found.modified()?))).ok();
    let fresh =
        stamp(&program).zip(stamp(&built)).is_some_and(|(ours, new)| ours.0 == new.0 && ours.1 >= new.1);
    if !fresh {
        let draft = program.with_extension("new");
        fs::copy(&built, &draft).unwrap();
        fs::rename(&draft, &program).unwrap();
    }
    program
}
