"""A backup of ten gigabytes, for what a mover takes of memory: two files too large for 32 bits, a hundred
thousand small ones, nothing of it on the target yet. What was restored is then backed up again.

The large files are zeros, which take no room where the backup lies and all of it where they arrive.
"""

import hashlib
import json
import pathlib
import threading
import zipfile

import ours
from host import FOLDER, Failed, docker, run

MIB = 1 << 20
# Of the large files, and how many small ones; the second for --quick.
FULL = ((4400 * MIB, 5600 * MIB), 100_000)
QUICK = ((300 * MIB, 500 * MIB), 5_000)
ZEROS = bytes(MIB)


class Sparse:
    """A file to write in which long runs of zeros take no room."""

    def __init__(self, path):
        self.file = open(path, "w+b")

    def write(self, data):
        if len(data) == MIB and data == ZEROS:
            self.file.seek(MIB, 1)
            return MIB
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)


def small(number):
    """The content of a small file, each its own."""
    return f"small file {number}\n".encode() * (20 + number % 300)


def zeros_name(size):
    """The SHA-1 of so many zeros."""
    digest = hashlib.sha1()
    for _ in range(size // MIB):
        digest.update(ZEROS)
    return digest.hexdigest()


def make(instance, sizes, count):
    """Writes a backup of the instance with these files more, which its database names; answers its path."""
    path = FOLDER / "big.part"
    names = [(zeros_name(size), size) for size in sizes]
    contents = [(hashlib.sha1(small(number)).hexdigest(), number) for number in range(count)]
    # The column of sizes has no room for those of the large files.
    rows = [(name, "\\N") for name, _ in names] + [(name, len(small(number))) for name, number in contents]
    lines = "".join(f"big\tbinary\t{name[:2]}/{name}\t{name}\t{size}\n" for name, size in rows)
    instance.sql("COPY ir_attachment (name, type, store_fname, checksum, file_size) FROM stdin;\n" + lines + "\\.\n")
    with zipfile.ZipFile(Sparse(path), "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, size in names:
            with archive.open(f"filestore/{name[:2]}/{name}", "w", force_zip64=True) as member:
                for _ in range(size // MIB):
                    member.write(ZEROS)
        for name, number in contents:
            archive.writestr(f"filestore/{name[:2]}/{name}", small(number), zipfile.ZIP_DEFLATED, 1)
        dump = docker("exec", "-u", "postgres", instance.db, "pg_dump", "-U", "odoo", "--no-owner", instance.database)
        archive.writestr("dump.sql", dump + "\n", zipfile.ZIP_DEFLATED, 1)
        manifest = {"odoo_dump": "1", "db_name": instance.database, "version": "19.0", "modules": {}}
        archive.writestr("manifest.json", json.dumps(manifest))
    return path


class Watch:
    """Follows the movers of an instance while it is entered: the highest resident size of any, in MiB."""

    def __init__(self, instance):
        self.filters = ("--filter", "label=sh.undoo.role=mover", "--filter", f"label=sh.undoo.target={instance.odoo}")
        self.peak, self.seen, self.done = 0, set(), threading.Event()
        self.strange = []

    def __enter__(self):
        self.thread = threading.Thread(target=self.follow)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    def follow(self):
        while not self.done.wait(0.3):
            for container in docker("ps", "-q", *self.filters).split():
                try:
                    self.look(container)
                except (Failed, OSError):
                    # It has ended meanwhile.
                    continue

    def look(self, container):
        about = json.loads(docker("inspect", container))[0]
        if not about["HostConfig"]["ReadonlyRootfs"]:
            self.strange.append("its root can be written to")
        mounts = [mount["Destination"] for mount in about["Mounts"]]
        for line in docker("diff", container).splitlines():
            if line.startswith("A ") and not any(mount.startswith(line[2:]) for mount in mounts):
                self.strange.append(line[2:])
        for line in pathlib.Path(f"/proc/{about['State']['Pid']}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                self.peak = max(self.peak, int(line.split()[1]) / 1024)
                self.seen.add(container)


def watched(instance, *arguments):
    """Runs our command and follows its movers; answers the seconds, their peak in MiB, and the result."""
    with Watch(instance) as watch:
        seconds, _, last = ours.command(*arguments)
    if not watch.seen or watch.strange:
        raise Failed("the mover", f"not seen, or it wrote beside its mounts: {watch.strange}", "adapt bench/big.py")
    return {"seconds": seconds, "peak": watch.peak}, last["result"]


def measure(instance, quick):
    """Restores such a backup, and backs up what it became; answers what either took."""
    sizes, count = QUICK if quick else FULL
    path, to, target = make(instance, sizes, count), FOLDER / "big-backup.part", f"docker:{instance.odoo}"
    try:
        restored, result = watched(instance, "restore", path, "--into", target, *ours.RESTORE)
        files, matched = result["report"]["filestore"], result["report"]["attachments"]
        if files["fetched_bytes"] < sum(sizes) or matched["missing"] or matched["corrupt"]:
            raise Failed("the large backup", f"{files['fetched_bytes']} bytes arrived", "a restore that is not whole is not measured")
        run("rm", "-f", path)
        backed_up, made = watched(instance, "backup", target, "--to", to, "--json")
        if made["files"] < count or made["files_bytes"] < sum(sizes):
            raise Failed("a backup of ten gigabytes", f"it has {made['files_bytes']} bytes", "a backup that is not whole is not measured")
        restored |= {"files": files["fetched"], "bytes": files["fetched_bytes"]}
        return {"restore": restored, "backup": backed_up | {"files": made["files"], "bytes": made["files_bytes"]}}
    finally:
        run("rm", "-rf", path, to)
