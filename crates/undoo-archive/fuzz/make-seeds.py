#!/usr/bin/env python3
"""Writes small honest inputs into corpus/, so that the fuzzer starts from something that parses."""

import gzip
import hashlib
import io
import os
import struct
import tarfile
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
CONTENT = b"content of a file"
HASH = hashlib.sha1(CONTENT).hexdigest()
FILE = f"filestore/{HASH[:2]}/{HASH}"
MANIFEST = b'{"db_name": "acme", "version": "19.0", "pg_version": "15.0", "modules": {"base": "1"}}'
PLAIN = rb"""--
-- PostgreSQL database dump
--

\restrict abc

-- Dumped from database version 15.18
-- Dumped by pg_dump version 17.11

SET transaction_timeout = 0;
CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA public;
CREATE FUNCTION public.f() RETURNS integer LANGUAGE sql AS $_$ SELECT 'a;b'::text; $_$;
CREATE TABLE public.t (id integer, "a;b" text DEFAULT E'x\'y');
COPY public.t (id, "a;b") FROM stdin;
1	one\\two
2	\N
\.

SELECT pg_catalog.lo_open('16400', 131072);
SELECT pg_catalog.lowrite(0, '\x6162');
SELECT pg_catalog.lo_close(0);

--
-- PostgreSQL database dump complete
--

\unrestrict abc

"""


def zip_of(members, method):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members:
            with archive.open(name, "w", force_zip64=method == zipfile.ZIP_STORED) as member:
                member.write(content)
    return out.getvalue()


def tar_of(format):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for name in (FILE, "filestore/" + "long" * 40):
            info = tarfile.TarInfo(name)
            info.size = len(CONTENT)
            archive.addfile(info, io.BytesIO(CONTENT))
    return out.getvalue()


def custom():
    def number(value):
        return bytes([value < 0]) + struct.pack("<I", abs(value))

    def text(value):
        return number(-1) if value is None else number(len(value)) + value.encode()

    def entry(dump_id, dumper, oid, tag, desc, section, defn, copy, depends, state):
        fields = [number(dump_id), number(dumper), text(oid), text(oid), text(tag), text(desc), number(section)]
        fields += [text(value) for value in (defn, "", copy, "public", "", "heap", "odoo", "false")]
        fields += [text(value) for value in (*depends, None)]
        return b"".join(fields) + bytes([state]) + bytes(8)

    head = b"PGDMP\x01\x0e\x00\x04\x08\x01" + b"".join(map(number, (0, 0, 0, 12, 1, 0, 126, 0)))
    head += text("acme") + text("13.16") + text("13.16") + number(2)
    head += entry(1, 0, "1", "t", "TABLE", 2, "CREATE TABLE public.t (id integer);\n", "", (), 3)
    head += entry(2, 1, "2", "t", "TABLE DATA", 3, "", "COPY public.t (id) FROM stdin;\n", ("1",), 1)
    rows = b"1\n2\n\\.\n\n\n"
    return head + b"\x01" + number(2) + number(len(rows)) + rows + number(0)


def main():
    plain_zip = [("dump.sql", PLAIN), ("manifest.json", MANIFEST), (FILE, CONTENT)]
    tar = tar_of(tarfile.GNU_FORMAT)
    oec_zip = [("dump.sql", custom()), ("filestore.tar.gz", gzip.compress(tar, mtime=0))]
    zips = [zip_of(plain_zip, zipfile.ZIP_DEFLATED), zip_of(oec_zip, zipfile.ZIP_STORED)]
    tars = [tar, tar_of(tarfile.PAX_FORMAT), gzip.compress(tar, mtime=0)]
    seeds = {
        "zip": zips,
        "tar": tars,
        "custom_dump": [custom()],
        "plain_dump": [PLAIN],
        "backup": [*zips, custom(), PLAIN, gzip.compress(PLAIN, mtime=0)],
    }
    for target, inputs in seeds.items():
        folder = os.path.join(HERE, "corpus", target)
        os.makedirs(folder, exist_ok=True)
        for index, content in enumerate(inputs):
            with open(os.path.join(folder, f"seed-{index}"), "wb") as out:
                out.write(content)


if __name__ == "__main__":
    main()
