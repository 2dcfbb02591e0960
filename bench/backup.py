"""Backups to S3 as people make them, and ours: the same live database, the same files, the same server.

Each side ends when its object is whole in the storage. Ours has then been read back too, which the others
never are. They must never be handicapped: they write next to the files, and upload from there.
"""

import pathlib
import time
import zipfile

import files
import ours
import s3
from host import Failed, docker, run

# Bytes of the live filestore, and how many files are added for that.
FULL = (2_000_000_000, 3000)
QUICK = (60_000_000, 200)


class Live:
    """An instance with the database of a data set and a filestore of a fixed size."""

    def __init__(self, instance, dataset, size):
        self.instance = instance
        # Restored as anyone would; what it replaced goes, so that the disk has only what is backed up.
        _, _, last = ours.command("restore", dataset.path("odoo.zip"), "--into", f"docker:{instance.odoo}", *ours.RESTORE)
        ours.command("purge", f"docker:{instance.odoo}", "--restore", ours.find(last, "restore")["id"], "--json")
        data = docker("volume", "inspect", "-f", "{{.Mountpoint}}", f"{instance.name}_odoo_data")
        self.data = pathlib.Path(data)
        self.filestore = self.data / "filestore" / instance.database
        total, count = size
        files.add(instance, "backup", count, total - self.look()[1])
        self.files, self.bytes = self.look()
        instance.sql("VACUUM (ANALYZE, PARALLEL 0)")

    def look(self):
        """How many files the filestore has, and their bytes."""
        found = [path.stat().st_size for path in self.filestore.glob("??/*")]
        return len(found), sum(found)


def upload(server, paths):
    """Sends files as they are, one after the other; answers their keys."""
    return [server.put(path, f"peer/{path.name}") for path in paths]


def odoo(live, server):
    """`odoo db dump` into a file, then an upload; answers the seconds, of each step too."""
    instance, name = live.instance, "bench-odoo.zip"
    path = live.data / name
    began = time.monotonic()
    try:
        # Its command has the same variables as its container.
        docker("exec", instance.odoo, "sh", "-c", "exec odoo db --db_host=$HOST --db_user=$USER --db_password=$PASSWORD"
               f" dump {instance.database} /var/lib/odoo/{name}")
        dumped = time.monotonic()
        keys = upload(server, [path])
        ended = time.monotonic()
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        whole("odoo db dump", sum(each.startswith("filestore/") and not each.endswith("/") for each in names), live)
        return ended - began, {"dump": dumped - began, "upload": ended - dumped, "bytes": path.stat().st_size}
    finally:
        run("rm", "-f", path)
        server.remove("peer/" + name)


def dump_and_tar(live, server):
    """`pg_dump -Fc` and `tar -czf`, then an upload of both; answers the seconds, of each step too."""
    instance = live.instance
    dump, tar = live.data / "bench.dump", live.data / "bench.tar.gz"
    began = time.monotonic()
    try:
        with open(dump, "wb") as file:
            docker("exec", "-u", "postgres", instance.db, "pg_dump", "-U", "odoo", "-Fc", instance.database, stdout=file)
        dumped = time.monotonic()
        run("tar", "-C", live.filestore.parent, "-czf", tar, instance.database)
        packed = time.monotonic()
        upload(server, [dump, tar])
        ended = time.monotonic()
        names = run("tar", "-tzf", tar).splitlines()
        whole("tar -czf", sum("/checklist/" not in each and not each.endswith("/") for each in names), live)
        return ended - began, {"dump": dumped - began, "tar": packed - dumped, "upload": ended - packed,
                               "bytes": dump.stat().st_size + tar.stat().st_size}
    finally:
        run("rm", "-f", dump, tar)
        for path in (dump, tar):
            server.remove(f"peer/{path.name}")


def undoo(live, server):
    """`undoo backup`; answers the seconds, of each step too."""
    target = f"docker:{live.instance.odoo}"
    seconds, phases, last = ours.command("backup", target, "--to", f"s3://{s3.BUCKET}", "--json",
                                         environment=server.environment())
    made = last["result"]
    server.remove(made["key"])
    whole("undoo backup", made["files"], live)
    return seconds, {"steps": ours.steps(phases), "bytes": made["bytes"]}


SIDES = {"ours backup": undoo, "odoo db dump": odoo, "pg_dump and tar": dump_and_tar}


def whole(side, found, live):
    """Nobody is fast by leaving files out."""
    if found < live.files:
        raise Failed(side, f"it has {found} of {live.files} files", "a backup that is not whole is not measured")
