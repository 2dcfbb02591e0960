"""Docker, processes and the cache, as the other files of this folder use them.

Every container of a measurement is named undoo-bench-… and made by dev/demo-instance, so that
`dev/demo-instance down` removes exactly what was made, also after a failure.
It must never touch a container, volume or network that it did not make.
"""

import atexit
import fcntl
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

PROJECT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("UNDOO_CACHE") or pathlib.Path.home() / ".cache/undoo")
FOLDER = CACHE / "bench"
# Seconds after which any command is taken for hung.
PATIENCE = 1800
ODOO_IMAGE, POSTGRES_IMAGE = "odoo:19.0", "postgres:15"


class Failed(Exception):
    """What went wrong, its cause and what to do, in one sentence each."""

    def __init__(self, what, cause, remedy):
        super().__init__(f"failed: {what}\n  cause: {cause}\n  next:  {remedy}")


def say(text):
    """One line for one thing really done, on standard error."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def run(*command, **options):
    """Runs a command and answers its standard output as text; raises Failed with its last words."""
    options.setdefault("stdout", subprocess.PIPE)
    try:
        done = subprocess.run([str(part) for part in command], stderr=subprocess.PIPE, text=True, timeout=PATIENCE, **options)
    except subprocess.TimeoutExpired:
        raise Failed(" ".join(map(str, command))[:200], f"it has not ended after {PATIENCE} s",
                     "run that command by hand") from None
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-3:] or ["it said nothing"]
        raise Failed(" ".join(map(str, command))[:200], f"exit {done.returncode}: {' / '.join(last)}",
                     "run that command by hand")
    return (done.stdout or "").strip()


def docker(*arguments, **options):
    """Runs the docker client."""
    return run("docker", *arguments, **options)


def only_one():
    """Shares with nobody, since two measurements at once would measure each other; answers the lock, which
    is held as long as it is open. Removes what a killed run left."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    handle = open(FOLDER / "lock", "w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Failed("bench", "another measurement or generation runs", f"wait for it (it holds {handle.name})") from None
    for left in (*FOLDER.glob("s3-*"), *FOLDER.glob("procedure-*"), *FOLDER.glob("*.part")):
        shutil.rmtree(left, ignore_errors=True)
    # Terminated like interrupted: the instances are taken down on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return handle


def recipe(*parts):
    """A short name for content: what was made from other parts is made anew."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:12]


def free_port():
    """A port far from 8069, which the next instance that someone starts takes while ours is stopped; and
    below those that the kernel gives to outgoing connections."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Instance:
    """A real Odoo 19 with PostgreSQL 15 in default settings, in two containers of dev/demo-instance.

    `with Instance("load", modules) as instance:` removes it at the end.
    """

    def __init__(self, name, modules):
        self.name = f"undoo-bench-{name}"
        self.modules = modules
        self.database = self.name
        self.db = f"{self.name}_db"
        self.odoo = f"{self.name}_odoo"
        self.url = None

    def __enter__(self):
        atexit.register(self.down)
        self.down()
        self.url = run(PROJECT / "dev/demo-instance", "up", self.name, "--modules", self.modules, "--port", free_port())
        return self

    def __exit__(self, *_):
        self.down()
        atexit.unregister(self.down)

    def down(self):
        """Removes it, if it is there."""
        run(PROJECT / "dev/demo-instance", "down", self.name)

    def sql(self, statements, database=None, *options):
        """Runs SQL as Odoo's role; answers unaligned rows."""
        return docker("exec", "-i", "-u", "postgres", self.db, "psql", "-qAtX", "-v", "ON_ERROR_STOP=1", *options,
                      "-U", "odoo", "-d", database or self.database, input=statements)

    def databases(self):
        """The names of all databases but PostgreSQL's own."""
        rows = self.sql("SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'", "postgres")
        return set(rows.splitlines())

    def drop(self, database):
        """Drops a database, whoever is on it."""
        self.sql(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)', "postgres")

    def settle(self):
        """Writes out what earlier work left dirty, so that the next measurement does not pay for it."""
        self.sql("CHECKPOINT", "postgres")
        os.sync()


def answers(url, timeout=10):
    """Whether Odoo's login page answers 200."""
    try:
        with urllib.request.urlopen(f"{url}/web/login", timeout=timeout) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def machine():
    """What a reader of the figures has to know about where they were measured."""
    info = json.loads(docker("info", "--format", "{{json .}}"))
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cores": os.cpu_count(),
        "memory_mib": info["MemTotal"] // 2**20,
        "kernel": info["KernelVersion"],
        "docker": info["ServerVersion"],
        "postgres": docker("run", "--rm", "--network", "none", POSTGRES_IMAGE, "postgres", "--version"),
        "load_average_before": round(os.getloadavg()[0], 2),
    }
