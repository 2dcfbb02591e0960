//! An Odoo of this test's own, with its database, gone when the test ends, however it ends.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::PathBuf,
    time::Duration,
};

use serde_json::Value;

use super::{
    cache,
    docker::{Engine, docker, docker_maybe, succeed},
    project, wait_for,
    web::Web,
};

/// What an instance is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) odoo: &'static str,
    pub(crate) postgres: &'static str,
    pub(crate) modules: &'static str,
    /// Whether odoo.conf names the database; without, Odoo serves every one that it sees.
    pub(crate) pinned: bool,
}

impl Kind {
    /// Odoo 19 on PostgreSQL 15, small.
    pub(crate) const ODOO_19: Self = Self { odoo: "19.0", postgres: "15", modules: "contacts", pinned: true };
    /// Odoo 19 on PostgreSQL 15 with orders.
    pub(crate) const SALES: Self = Self { modules: "sale,crm,contacts", ..Self::ODOO_19 };
    /// Odoo 14 on PostgreSQL 13.
    pub(crate) const ODOO_14: Self = Self { odoo: "14.0", postgres: "13", ..Self::ODOO_19 };
}

/// How the names of instances begin. The tests of one cache take turns, those of another do not wait for
/// them: so the cache is in the name.
fn prefix() -> String {
    let mut hash = DefaultHasher::new();
    cache().hash(&mut hash);
    format!("undoo-e2e-{:04x}-", hash.finish() & 0xffff)
}

/// Takes down what tests have left that were killed. The caller has the turn, so no instance is in use.
pub(crate) fn sweep() {
    let format = "{{.Label \"dev.undoo.demo\"}}";
    let left = docker(&["volume", "ls", "--filter", "label=dev.undoo.demo", "--format", format]);
    let left: BTreeSet<&str> = left.lines().filter(|name| name.starts_with(&prefix())).collect();
    for name in left {
        drop(Instance { name: name.to_owned(), url: String::new(), engine: Engine::default() });
    }
}

/// A running Odoo.
pub(crate) struct Instance {
    /// Name of the instance and of its database.
    pub(crate) name: String,
    /// Where Odoo answers.
    pub(crate) url: String,
    /// What its containers are in.
    pub(crate) engine: Engine,
}

impl Instance {
    /// Brings one up.
    pub(crate) fn up(kind: Kind) -> Self {
        Self::up_on(&Engine::default(), "127.0.0.1", kind)
    }

    /// Brings one up on this engine, published on this address of its server.
    pub(crate) fn up_on(engine: &Engine, address: &str, kind: Kind) -> Self {
        let name = format!("{}{:08x}", prefix(), rand::random::<u32>());
        // From here on the guard takes down whatever was made.
        let mut instance = Self { name: name.clone(), url: String::new(), engine: engine.clone() };
        let mut command = engine.command(project().join("dev/demo-instance"));
        command.args(["up", &name, "--address", address]);
        command.args(["--odoo", kind.odoo, "--postgres", kind.postgres]);
        command.args(["--modules", kind.modules]);
        if !kind.pinned {
            command.arg("--no-db-name");
        }
        instance.url = String::from_utf8(succeed(&mut command, b"")).unwrap().trim().to_owned();
        instance
    }

    /// The container of Odoo.
    pub(crate) fn odoo(&self) -> String {
        format!("{}_odoo", self.name)
    }

    /// The container of PostgreSQL.
    pub(crate) fn db(&self) -> String {
        format!("{}_db", self.name)
    }

    /// The instance as `undoo` is told.
    pub(crate) fn target(&self) -> String {
        format!("docker:{}", self.odoo())
    }

    /// SQL on the live database.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.engine.psql(&self.db(), &self.name, sql)
    }

    /// SQL on another database of the server.
    pub(crate) fn sql_in(&self, database: &str, sql: &str) -> String {
        self.engine.psql(&self.db(), database, sql)
    }

    /// Odoo's data directory on this machine.
    pub(crate) fn data_dir(&self) -> PathBuf {
        let volume = format!("{}_odoo_data", self.name);
        self.engine.path(&self.engine.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &volume]))
    }

    /// The live filestore on this machine.
    pub(crate) fn filestore(&self) -> PathBuf {
        self.data_dir().join("filestore").join(&self.name)
    }

    /// The file that Odoo's options are in.
    pub(crate) fn conf(&self) -> PathBuf {
        let format =
            "{{range .Mounts}}{{if eq .Destination \"/etc/odoo/odoo.conf\"}}{{.Source}}{{end}}{{end}}";
        self.engine.docker(&["inspect", "-f", format, &self.odoo()]).into()
    }

    /// The password of the database server.
    pub(crate) fn password(&self) -> String {
        let variables: Vec<String> =
            serde_json::from_str(&self.engine.docker(&["inspect", "-f", "{{json .Config.Env}}", &self.db()]))
                .unwrap();
        variables.iter().find_map(|line| line.strip_prefix("POSTGRES_PASSWORD=")).unwrap().to_owned()
    }

    /// The address of this machine in the instance's network.
    pub(crate) fn gateway(&self) -> String {
        let network = format!("{}_net", self.name);
        self.engine.docker(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", &network])
    }

    /// The address of a container in the instance's network.
    pub(crate) fn address(&self, container: &str) -> String {
        let format = format!("{{{{(index .NetworkSettings.Networks \"{}_net\").IPAddress}}}}", self.name);
        self.engine.docker(&["inspect", "-f", &format, container])
    }

    /// The administrator's session.
    pub(crate) fn web(&self) -> Web {
        self.web_of(&self.name)
    }

    /// The administrator's session on another database.
    pub(crate) fn web_of(&self, database: &str) -> Web {
        wait_for("a login", Duration::from_secs(60), || {
            Web::login(&self.url, database, "admin", "admin").ok()
        })
    }

    /// Makes it the instance that a backup came from.
    pub(crate) fn is_origin_of(&self, uuid: &str) {
        self.sql(&format!("UPDATE ir_config_parameter SET value = '{uuid}' WHERE key = 'database.uuid'"));
    }

    /// A system parameter of a database.
    pub(crate) fn parameter(&self, database: &str, key: &str) -> String {
        self.sql_in(database, &format!("SELECT value FROM ir_config_parameter WHERE key = '{key}'"))
    }

    /// Databases and roles of restores, those of kept pairs among them.
    pub(crate) fn staged(&self) -> Vec<String> {
        let sql = "SELECT datname FROM pg_database WHERE datname LIKE 'undoo\\_%' UNION ALL \
                   SELECT rolname FROM pg_roles WHERE rolname LIKE 'undoo\\_%' ORDER BY 1";
        self.sql_in("postgres", sql).lines().map(str::to_owned).collect()
    }

    /// Containers that undoo made for this instance, by role; `all` with those that have ended.
    pub(crate) fn of_undoo(&self, role: &str, all: bool) -> Vec<String> {
        let (role, target) = (format!("label=sh.undoo.role={role}"), self.label());
        let mut words = vec!["ps", "-q", "--no-trunc", "--filter", &role, "--filter", &target];
        words.extend(all.then_some("-a"));
        self.engine.docker(&words).lines().map(str::to_owned).collect()
    }

    /// Containers, networks and volumes that undoo made for this instance.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let label = self.label();
        let containers =
            self.engine.docker(&["ps", "-a", "--format", "container {{.Names}}", "--filter", &label]);
        let networks =
            self.engine.docker(&["network", "ls", "--format", "network {{.Name}}", "--filter", &label]);
        let volumes =
            self.engine.docker(&["volume", "ls", "--format", "volume {{.Name}}", "--filter", &label]);
        [containers, networks, volumes].iter().flat_map(|text| text.lines()).map(str::to_owned).collect()
    }

    fn label(&self) -> String {
        format!("label=sh.undoo.target={}", self.odoo())
    }

    /// Whether a container runs.
    pub(crate) fn runs(container: &str) -> bool {
        docker_maybe(&["inspect", "-f", "{{.State.Running}}", container]).as_deref() == Some("true")
    }

    /// The newest restore's record on the target.
    pub(crate) fn record(&self) -> Option<Value> {
        let newest = self.newest_restore()?;
        serde_json::from_slice(&std::fs::read(newest.join("record.json")).ok()?).ok()
    }

    /// The newest restore's directory on the target.
    pub(crate) fn newest_restore(&self) -> Option<PathBuf> {
        let home = std::fs::read_dir(self.data_dir().join("filestore/.undoo")).ok()?;
        home.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).max()
    }

    /// Runs one more container of the instance; it goes with it.
    pub(crate) fn run_beside(&self, suffix: &str, words: &[&str]) -> String {
        let name = format!("{}_{suffix}", self.name);
        let (label, network) = (format!("dev.undoo.demo={}", self.name), format!("{}_net", self.name));
        let mut all = vec!["run", "-d", "--name", &name, "--label", &label, "--network", &network];
        all.extend(words);
        self.engine.docker(&all);
        name
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.engine.docker_maybe(&["version"]).is_none() {
            eprintln!("the instance {} stays: its engine does not answer", self.name);
            return;
        }
        for left in self.leftovers() {
            let words: &[&str] = match left.split_once(' ').unwrap_or_default() {
                ("container", name) => &["rm", "-f", name],
                ("network", name) => {
                    self.engine.docker_maybe(&["network", "disconnect", "-f", name, &self.db()]);
                    &["network", "rm", name]
                }
                _ => continue,
            };
            self.engine.docker_maybe(words);
        }
        let down =
            self.engine.command(project().join("dev/demo-instance")).args(["down", &self.name]).output();
        if !down.is_ok_and(|output| output.status.success()) {
            eprintln!("the instance {} could not be taken down", self.name);
        }
    }
}
