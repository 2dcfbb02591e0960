"""The platform under load: a real `undoo serve` on either database, filled as after years of use.

No worker runs beside it: what is measured is the control plane. The rows are made by the database itself.
"""

import asyncio
import json
import os
import pathlib
import random
import re
import shutil
import sqlite3
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import ours
from host import FOLDER, POSTGRES_IMAGE, PROJECT, Failed, docker, run, say
from s3 import HOST, free_ports

POSTGRES = "undoo-bench-platform"
PROJECTS, ENVIRONMENTS, BACKUPS, RESTORES = 100, 100, 100, 20
QUICK = (10, 10, 10, 5)
CLIENTS, SECONDS, FOLLOWERS = 50, 20, 1000

# How each database writes what the other writes otherwise. SERIES has one column, n, from 1.
DIALECTS = {
    "sqlite": {
        "id": "randomblob(16)", "true": "1", "json": "'{}'",
        "series": "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {count}) SELECT n FROM s)"},
    "postgres": {
        "id": "gen_random_uuid()", "true": "true", "json": "'{}'::json",
        "series": "(SELECT n FROM generate_series(1::bigint, {count}) AS n)"},
}

SNAPSHOT = json.dumps({"odoo_version": "19.0", "odoo_image": "odoo:19.0", "postgres_version": "15.20", "database": "acme",
                       "modules": {f"module_{number}": "19.0.1.0" for number in range(60)}})

# Microseconds; each row a minute after the one before.
ROWS = """
INSERT INTO projects (id, organisation_id, name, created_at)
  SELECT {id}, o.id, 'project ' || s.n, 1700000000000000 + s.n * 60000000 FROM organisations o, {projects} s;
INSERT INTO environments (id, organisation_id, project_id, name, environment_type, status, server_id, container,
    database_name, odoo_version, created_at)
  SELECT {id}, p.organisation_id, p.id, 'environment ' || s.n, 'staging', 'running', v.id, 'odoo_' || s.n,
    p.name || s.n, '19.0', 1700000000000000 + s.n * 60000000
  FROM projects p, servers v, {environments} s WHERE p.name LIKE 'project %';
INSERT INTO backups (id, organisation_id, project_id, environment_id, storage_id, "key", status, backup_type,
    include_filestore, size_bytes, database_size_bytes, filestore_size_bytes, is_verified, environment_snapshot, created_at,
    completed_at)
  SELECT {id}, e.organisation_id, e.project_id, e.id, t.id, 'backups/' || s.n, 'completed', 'scheduled', {true},
    1000000000 + s.n, 500000000, 500000000, {true}, {snapshot}, 1700000000000000 + s.n * 60000000,
    1700000000000000 + s.n * 60000000
  FROM environments e, storages t, {backups} s;
INSERT INTO restore_points (id, organisation_id, project_id, backup_id, source_environment_id, target_environment_id, mode,
    options, status, progress, findings, created_at)
  SELECT {id}, b.organisation_id, b.project_id, b.id, b.environment_id, b.environment_id, 'original', {json}, 'completed', 100,
    {json}, b.created_at
  FROM backups b WHERE b.size_bytes <= 1000000000 + {restores};
"""


class Database:
    """An empty database of one kind."""

    def __init__(self, kind):
        self.kind = kind
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="platform-", dir=FOLDER))

    def __enter__(self):
        if self.kind == "postgres":
            docker("rm", "--force", "--volumes", POSTGRES)
            port, = free_ports(1)
            # On the host's loopback itself: Docker's proxy for a published port took half of what was measured.
            docker("run", "--detach", "--name", POSTGRES, "--network", "host", "--env", "POSTGRES_PASSWORD=bench",
                   "--env", f"PGPORT={port}", POSTGRES_IMAGE, "postgres", "-c", f"listen_addresses={HOST}")
            for _ in range(60):
                # The first server of an initialising container listens on its socket only.
                if subprocess.run(["docker", "exec", POSTGRES, "pg_isready", "-h", HOST], capture_output=True).returncode == 0:
                    break
                time.sleep(0.5)
            self.url = f"postgres://postgres:bench@{HOST}:{port}/postgres"
        else:
            self.url = f"sqlite:{self.folder}/undoo.db"
        return self

    def __exit__(self, *_):
        if self.kind == "postgres":
            docker("rm", "--force", "--volumes", POSTGRES)
        shutil.rmtree(self.folder, ignore_errors=True)

    def fill(self, sizes):
        words = dict(DIALECTS[self.kind])
        series = words.pop("series")
        for name, count in zip(("projects", "environments", "backups"), sizes):
            words[name] = series.format(count=count)
        text = ROWS.format(**words, restores=sizes[3], snapshot="'" + SNAPSHOT + "'")
        if self.kind == "postgres":
            self.sql(text)
            self.sql("VACUUM (ANALYZE, PARALLEL 0)")
            self.sql("CHECKPOINT")
        else:
            with sqlite3.connect(self.folder / "undoo.db") as connection:
                connection.executescript("PRAGMA foreign_keys = off; BEGIN;" + text + "COMMIT; PRAGMA optimize;")
        # What the rows left dirty is not the platform's to pay for.
        os.sync()

    def ids(self, table, count):
        """Ids of some rows, as they are written in addresses."""
        if self.kind == "postgres":
            return self.sql(f"SELECT id FROM {table} ORDER BY random() LIMIT {count}").split()
        with sqlite3.connect(self.folder / "undoo.db") as connection:
            found = connection.execute(f"SELECT lower(hex(id)) FROM {table} ORDER BY random() LIMIT {count}").fetchall()
        return [re.sub(r"(.{8})(.{4})(.{4})(.{4})(.{12})", r"\1-\2-\3-\4-\5", row[0]) for row in found]

    def sql(self, text):
        return run("docker", "exec", "--interactive", POSTGRES, "psql", "-U", "postgres", "-qAt", "-v", "ON_ERROR_STOP=1",
                   input=text)


class Platform:
    """`undoo serve` on a database; `with Platform(...)` starts and ends it."""

    def __init__(self, database):
        self.database = database
        self.port, = free_ports(1)
        self.url = f"http://{HOST}:{self.port}"
        self.token = None
        self.browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

    def __enter__(self):
        log = self.database.folder / "serve.log"
        environment = {**os.environ, "UNDOO_DATABASE_URL": self.database.url, "UNDOO_SECRET_KEY": "07" * 32}
        with open(log, "a") as out:
            self.process = subprocess.Popen(
                [ours.program(), "serve", "--no-worker", "--listen", f"{HOST}:{self.port}", "--data-dir", self.database.folder],
                stdout=out, stderr=out, env=environment)
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{self.url}/readyz", timeout=5).close()
                break
            except OSError:
                time.sleep(0.25)
        else:
            raise Failed("undoo serve", "it is not ready after 30 s", f"read {log}")
        self.log = log
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)

    def first_admin(self):
        """Signs in by the link of the first start; answers a token."""
        link = re.search(r"/setup[?#]token=([A-Za-z0-9_-]+)", self.log.read_text())
        if not link:
            raise Failed("undoo serve", "it has printed no one-time link", f"read {self.log}")
        # The answer's cookie is a session; what asks a thousand times has a token.
        self.call("POST", "/api/v1/auth/setup", token=link[1], email="bench@example.com", name="Bench",
                  password="correct horse battery staple", organization_name="Bench")
        self.token = self.call("POST", "/api/v1/tokens", name="bench")["token"]
        return self.token

    def call(self, method, path, **body):
        headers = {"Content-Type": "application/json", "X-Requested-With": "bench"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(self.url + path, method=method, headers=headers,
                                         data=json.dumps(body).encode() if body or method != "GET" else None)
        try:
            with self.browser.open(request, timeout=30) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise Failed(f"{method} {path}", f"{error.code}: {error.read()[:300]}", f"read {self.log}") from None
        return json.loads(text) if text else None

    def organization(self):
        return self.call("GET", "/api/v1/organizations")[0]["id"]

    def memory(self):
        """Resident MiB."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def load(self, paths):
        """Fifty clients that ask without a pause."""
        file = self.database.folder / "addresses"
        file.write_text("\n".join(paths) + "\n")
        said = run("wrk", "-t2", f"-c{CLIENTS}", f"-d{SECONDS}s", "-s", PROJECT / "bench/load.lua", self.url,
                   env={**os.environ, "ADDRESSES": str(file), "TOKEN": self.token})
        return json.loads(said.splitlines()[-1])

    def told(self, environment):
        """Seconds until a thousand followers have all heard of what happened."""
        return asyncio.run(self._told(environment))

    async def _told(self, environment):
        heard = []

        async def follow(ready):
            reader, writer = await asyncio.open_connection(HOST, self.port)
            writer.write(f"GET /api/v1/events/stream HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {self.token}\r\n"
                         "Accept: text/event-stream\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            ready.set()
            while b"event: backup.cancelled" not in await reader.readline():
                pass
            heard.append(time.monotonic())
            writer.close()

        followers = []
        for _ in range(FOLLOWERS):
            ready = asyncio.Event()
            followers.append(asyncio.create_task(follow(ready)))
            await asyncio.wait_for(ready.wait(), 10)
        await asyncio.sleep(1)

        def happen():
            made = self.call("POST", f"/api/v1/environments/{environment}/backups")
            began = time.monotonic()
            self.call("POST", f"/api/v1/tasks/{made['task_id']}/cancel")
            return began

        began = await asyncio.to_thread(happen)
        await asyncio.wait_for(asyncio.gather(*followers), 30)
        return max(heard) - began


def task_ms(quick):
    """Milliseconds for a task: claimed and finished, by twelve workers at once, on PostgreSQL."""
    with Database("postgres") as database:
        said = run(ours.program().parent / "examples/queue", database.url, 200 if quick else 5000, 12)
    result = json.loads(said)
    return 1000 * result["seconds"] / result["tasks"], result


def measure(kind, quick):
    """Figures of the platform on one kind of database, by name."""
    need_wrk()
    sizes = QUICK if quick else (PROJECTS, ENVIRONMENTS, BACKUPS, RESTORES)
    found = {}
    with Database(kind) as database:
        with Platform(database) as platform:
            token = platform.first_admin()
            time.sleep(5)
            found["idle memory"] = platform.memory(), {}
        say(f"filling {kind}")
        database.fill(sizes)
        with Platform(database) as platform:
            platform.token = token
            environments, points = database.ids("environments", 500), database.ids("restore_points", 500)
            lists = [f"/api/v1/environments/{id}/backups?page={random.randint(1, 5)}" for id in environments]
            lists += [f"/api/v1/environments/{id}/restore-points" for id in environments]
            of_all = f"organization_id={platform.organization()}"
            lists += [f"/api/v1/environments?{of_all}&page={page}" for page in range(1, 100)]
            lists += [f"/api/v1/backups?{of_all}&page={page}" for page in range(1, 100)]
            gets = [f"/api/v1/backups/{id}" for id in database.ids("backups", 500)]
            gets += [f"/api/v1/restore/{id}" for id in points] + [f"/api/v1/environments/{id}" for id in environments]
            for name, paths in (("lists", lists), ("gets", gets)):
                answers = platform.load(paths)
                if answers["failed"]:
                    raise Failed(f"asking for {name}", f"{answers['failed']} requests failed", "see undoo's log")
                found[name] = answers["p99_ms"], answers
            found["told"] = platform.told(environments[0]), {"followers": FOLLOWERS}
            found["memory after"] = platform.memory(), {}
    return found


def need_wrk():
    if shutil.which("wrk") is None:
        run("apt-get", "install", "-y", "-q", "--no-install-recommends", "wrk")
