"""Files for a filestore, of the kinds and sizes that attachments have, each named by its SHA-1 and by a row.

The same seed gives the same files. It must never make two of one content.
"""

import hashlib
import io
import random
import subprocess
import tarfile

from host import ODOO_IMAGE, Failed, docker

KINDS = (  # share, MIME type, extension, whether it compresses
    (0.50, "image/jpeg", "jpg", False),
    (0.38, "application/pdf", "pdf", False),
    (0.12, "text/csv", "csv", True),
)


def sizes(count, total, chance):
    """As attachments are: many small, few large; never empty, and `total` bytes together."""
    drawn = [min(chance.lognormvariate(11, 1.4), 40e6) for _ in range(count)]
    return [max(200, int(size * total / sum(drawn))) for size in drawn]


def content(size, compresses, chance):
    """Bytes of one file."""
    if not compresses:
        return chance.randbytes(size)
    line = ",".join(f"{chance.random():.6f}" for _ in range(200)).encode() + b"\n"
    return (line * (size // len(line) + 1))[:size]


def add(instance, seed, count, total):
    """Streams so many files of so many bytes into the filestore as a tar, and adds their rows."""
    chance = random.Random(seed)
    weights = [share for share, *_ in KINDS]
    sink = subprocess.Popen(["docker", "cp", "-", f"{instance.odoo}:/var/lib/odoo/filestore/{instance.database}"],
                            stdin=subprocess.PIPE)
    rows, folders = [], set()
    owner, group = docker("run", "--rm", "--network", "none", "--entrypoint", "sh", ODOO_IMAGE, "-c",
                          "id -u; id -g").split()
    with tarfile.open(fileobj=sink.stdin, mode="w|") as tar:
        def put(entry, data=None):
            entry.uid, entry.gid, entry.mtime = int(owner), int(group), 1_760_000_000
            tar.addfile(entry, data)

        for index, size in enumerate(sizes(count, total, chance)):
            _, mime, extension, compresses = chance.choices(KINDS, weights)[0]
            data = content(size, compresses, chance)
            name = hashlib.sha1(data).hexdigest()
            if name[:2] not in folders:
                folders.add(name[:2])
                folder = tarfile.TarInfo(name[:2])
                folder.type, folder.mode = tarfile.DIRTYPE, 0o755
                put(folder)
            entry = tarfile.TarInfo(f"{name[:2]}/{name}")
            entry.size, entry.mode = size, 0o644
            put(entry, io.BytesIO(data))
            rows.append(f"scan-{index}.{extension}\t{mime}\t{name}\t{size}")
    sink.stdin.close()
    if sink.wait() != 0:
        raise Failed("docker cp into the filestore", f"exit {sink.returncode}", "see the lines above")
    instance.sql(
        "CREATE TEMP TABLE files (n serial, name text, mimetype text, sha1 text, size int);\n"
        "COPY files (name, mimetype, sha1, size) FROM STDIN;\n" + "\n".join(rows) + "\n\\.\n"
        "INSERT INTO ir_attachment (name, type, mimetype, store_fname, checksum, file_size, res_model, res_id,"
        " company_id, public, create_uid, write_uid, create_date, write_date)"
        " SELECT f.name, 'binary', f.mimetype, left(sha1, 2) || '/' || sha1, sha1, size, 'res.partner', p.id, 1, false,"
        " 1, 1, now(), now() FROM files f JOIN (SELECT id, row_number() OVER (ORDER BY id) AS n, count(*) OVER () AS"
        " many FROM res_partner) p ON p.n = 1 + f.n % p.many;")
