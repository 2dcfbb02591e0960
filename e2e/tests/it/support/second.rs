//! A second real server, reached by SSH, and a network to reach it from in which bytes are counted.
//!
//! `dev/second-engine` says what it consists of. It ends with this process's end of a pipe, however the
//! test ends.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use super::{
    docker::{Engine, docker, succeed},
    instance::{Instance, Kind},
    link::Link,
    project, wait_for, weed,
};

/// Who may use Docker there.
pub(crate) const USER: &str = "undoo";
/// Who may not.
pub(crate) const STRANGER: &str = "nobody-here";
/// The password of both.
pub(crate) const PASSWORD: &str = "undoo-secret";

/// The server, gone when this is dropped. Whoever has one has the turn.
pub(crate) struct Second {
    process: Child,
    orders: Option<ChildStdin>,
    facts: HashMap<String, String>,
    /// What its containers are in.
    pub(crate) engine: Engine,
}

impl Second {
    /// Brings it up, with images and nothing else.
    pub(crate) fn up() -> Self {
        let mut command = Command::new(project().join("dev/second-engine"));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let orders = process.stdin.take();
        let mut facts = HashMap::new();
        for line in BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok) {
            let (name, value) = line.split_once(' ').unwrap();
            facts.insert(name.to_owned(), value.to_owned());
            if name == "key" {
                break;
            }
        }
        assert!(facts.contains_key("key"), "dev/second-engine says why it did not come up");
        let root = PathBuf::from(format!("/proc/{}/root", facts["server"]));
        Self { process, orders, engine: Engine::below(&root), facts }
    }

    /// An Odoo of its own.
    pub(crate) fn instance(&self, kind: Kind) -> Instance {
        Instance::up_on(&self.engine, self.address(), kind)
    }

    /// The address of the server.
    pub(crate) fn address(&self) -> &str {
        &self.facts["address"]
    }

    /// The fingerprint of its host key.
    pub(crate) fn host_key(&self) -> &str {
        &self.facts["host-key"]
    }

    /// As `--server` takes it.
    pub(crate) fn url(&self, user: &str) -> String {
        format!("ssh://{user}@{}", self.address())
    }

    /// What lets its users in.
    pub(crate) fn key_file(&self) -> &str {
        &self.facts["key"]
    }

    /// A process in whose network nothing else is; it reaches the server and this machine.
    pub(crate) fn counted_network(&self) -> u32 {
        self.facts["control"].parse().unwrap()
    }

    /// The address that it has there.
    pub(crate) fn counted_address(&self) -> &str {
        &self.facts["control-address"]
    }

    /// Bytes that came into the counted network and went out of it so far.
    pub(crate) fn counted(&self) -> u64 {
        let table = fs::read_to_string(format!("/proc/{}/net/dev", self.counted_network())).unwrap();
        let lines = table.lines().filter_map(|line| line.split_once(':'));
        let outside = lines.filter(|(name, _)| name.trim() != "lo");
        // Eight columns of what came in, then eight of what went out; the first of each are bytes.
        let bytes = |row: &str| -> u64 {
            let columns: Vec<u64> = row.split_whitespace().map(|number| number.parse().unwrap()).collect();
            columns[0] + columns[8]
        };
        outside.map(|(_, row)| bytes(row)).sum()
    }

    /// A way to the S3 storage that the server has too.
    pub(crate) fn storage(&self) -> Link {
        Link::at(&self.facts["host"], weed::weed().s3)
    }

    /// Copies an image of this machine's engine there, unless it has it.
    pub(crate) fn has_image(&self, image: &str) {
        let id = ["image", "inspect", "-f", "{{.Id}}", image];
        let here = docker(&id);
        if self.engine.docker_maybe(&id) != Some(here) {
            let mut save =
                Command::new("docker").args(["save", image]).stdout(Stdio::piped()).spawn().unwrap();
            let mut load = self.engine.command("docker");
            load.args(["load", "-q"]).stdin(save.stdout.take().unwrap()).stdout(Stdio::null());
            let loaded = load.status().unwrap();
            // With it goes our end of the pipe: whoever writes to nobody ends.
            drop(load);
            assert!(save.wait().unwrap().success() && loaded.success(), "{image} was not copied");
        }
    }

    /// A way from this machine to the Odoo of a container there that has no port of its own.
    pub(crate) fn door(&self, container: &str, network: &str) -> String {
        let port = 18_070;
        let program = format!(
            "import socket, threading\n\
             def pump(a, b):\n  try:\n    while d := a.recv(65536): b.sendall(d)\n  finally: b.shutdown(1)\n\
             s = socket.create_server(('', {port}))\n\
             while True:\n  a, _ = s.accept(); b = socket.create_connection(('{container}', 8069))\n  \
             for x, y in ((a, b), (b, a)): threading.Thread(target=pump, args=(x, y)).start()\n"
        );
        let publish = format!("{port}:{port}");
        let words = ["run", "-d", "--rm", "--network", network, "-p", &publish, "--entrypoint", "python3"];
        self.engine.docker(&[&words[..], &["odoo:19.0", "-c", &program]].concat());
        let url = format!("http://{}:{port}", self.address());
        wait_for("the door", Duration::from_secs(10), || {
            std::net::TcpStream::connect((self.address(), port)).ok().map(drop)
        });
        url
    }

    /// The address of that storage.
    pub(crate) fn endpoint(&self, storage: &Link) -> String {
        format!("http://{}:{}", self.facts["host"], storage.port)
    }

    /// The variables that give access to that storage and to the server.
    pub(crate) fn variables(&self, storage: &Link) -> Vec<(&'static str, String)> {
        let mut variables = weed::variables();
        for (name, value) in &mut variables {
            if *name == "AWS_ENDPOINT_URL" {
                *value = self.endpoint(storage);
            }
        }
        variables.push(("UNDOO_SSH_KEY_FILE", self.key_file().to_owned()));
        variables
    }

    /// A way to an SSH server of this machine's loopback that the server has too, and the address of its end.
    pub(crate) fn way_to(&self, port: u16) -> (Link, &str) {
        (Link::at(&self.facts["host"], port), &self.facts["host"])
    }

    /// Moves its volumes to a disk in memory on which so many MiB are free; it goes with the server.
    pub(crate) fn has_little_room(&self, mib: u64) {
        self.inside(&format!(
            "cd /var/lib/docker; used=$(du -sm volumes | cut -f 1); mkdir /run/volumes; \
             mount -t tmpfs -o size=$((used + {mib}))m undoo-test /run/volumes; \
             cp -a volumes/. /run/volumes; mount --move /run/volumes volumes"
        ));
    }

    /// Makes that disk so big.
    pub(crate) fn has_room_again(&self, mib: u64) {
        self.inside(&format!("mount -o remount,size={mib}m /var/lib/docker/volumes"));
    }

    /// Runs a script among its mounts, as root.
    fn inside(&self, script: &str) {
        let mounts = format!("--mount=/proc/{}/ns/mnt", self.facts["server"]);
        succeed(Command::new("nsenter").args([&mounts, "sh", "-ec", script]), b"");
    }

    /// Everything that its engine has besides images.
    pub(crate) fn inventory(&self) -> Vec<String> {
        let containers = self.engine.docker(&["ps", "-a", "--format", "container {{.Names}}"]);
        let networks = self.engine.docker(&["network", "ls", "--format", "network {{.Name}}"]);
        let volumes = self.engine.docker(&["volume", "ls", "--format", "volume {{.Name}}"]);
        let all = [containers, networks, volumes];
        let mut all: Vec<String> = all.iter().flat_map(|text| text.lines()).map(str::to_owned).collect();
        all.sort();
        all
    }

    /// Kills its engine, which then stays away.
    pub(crate) fn stop_engine(&mut self) {
        self.order("stop");
        wait_for("the engine's end", Duration::from_secs(10), || (!self.answers()).then_some(()));
    }

    /// Starts its engine again.
    pub(crate) fn start_engine(&mut self) {
        self.order("start");
        wait_for("the engine", Duration::from_secs(60), || self.answers().then_some(()));
    }

    /// Kills every process there; sshd and the engine come back by themselves.
    pub(crate) fn reboot(&mut self) {
        self.order("reboot");
    }

    /// Waits until its engine answers.
    pub(crate) fn is_back(&self) {
        wait_for("the engine", Duration::from_secs(60), || self.answers().then_some(()));
    }

    /// Kills the SSH connections that there are.
    pub(crate) fn cut(&mut self) {
        self.order("cut");
    }

    fn answers(&self) -> bool {
        self.engine.docker_maybe(&["version", "-f", "{{.Server.Version}}"]).is_some()
    }

    fn order(&mut self, word: &str) {
        writeln!(self.orders.as_mut().unwrap(), "{word}").unwrap();
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        drop(self.orders.take());
        self.process.wait().ok();
    }
}
