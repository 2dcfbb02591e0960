"""A real S3 server (SeaweedFS) on this machine's loopback that holds the backups to restore.

It must never serve without a key, since people's storage does not, nor beyond this machine.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from host import FOLDER, PROJECT, Failed, run, say

BUCKET, HOST = "backups", "127.0.0.1"


def free_ports(count):
    """Ports that are free now; held together, so that they differ."""
    held = []
    for _ in range(count):
        held.append(socket.socket())
        held[-1].bind((HOST, 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


class Server:
    """`with Server() as s3:` runs one and ends it; `put` uploads a file and answers its key."""

    def __init__(self):
        self.key, self.secret = "bench", secrets.token_hex(16)
        self.process = self.folder = self.url = None

    def __enter__(self):
        weed = run(PROJECT / "dev/seaweedfs")
        FOLDER.mkdir(parents=True, exist_ok=True)
        self.folder = tempfile.mkdtemp(prefix="s3-", dir=FOLDER)
        try:
            self.start(weed)
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self, weed):
        with open(f"{self.folder}/s3.json", "w") as file:
            json.dump({"identities": [{"name": "bench", "actions": ["Admin"], "credentials": [
                {"accessKey": self.key, "secretKey": self.secret}]}]}, file)
        os.mkdir(f"{self.folder}/data")
        ports = free_ports(8)
        names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
                 "s3.port", "s3.port.grpc")
        self.url = f"http://{HOST}:{ports[6]}"
        self.process = subprocess.Popen(
            # It ends with us, however we end.
            ["setpriv", "--pdeathsig", "KILL", weed, "server", "-dir=data", f"-ip={HOST}", f"-ip.bind={HOST}",
             "-volume.max=0", "-filer", "-s3", "-s3.config=s3.json", "-s3.iam=false", "-s3.port.iceberg=0",
             "-s3.port.lance=0", "-master.volumeSizeLimitMB=1024", "-master.electionTimeout=1s",
             "-master.heartbeatInterval=100ms", *(f"-{name}={port}" for name, port in zip(names, ports))],
            cwd=self.folder, stdin=subprocess.DEVNULL, stdout=open(f"{self.folder}/log", "w"), stderr=subprocess.STDOUT)
        why = "it ended"
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/healthz", timeout=2).close()
                self.curl("-X", "PUT", f"{self.url}/{BUCKET}")
                # The first write is slow: it makes the volumes.
                self.curl("-T", __file__, f"{self.url}/{BUCKET}/warm")
                return
            except (urllib.error.URLError, OSError, Failed) as error:
                why = error
                time.sleep(0.3)
        with open(f"{self.folder}/log", errors="replace") as log:
            words = log.read().splitlines()[-1:] or ["it said nothing"]
        raise Failed("SeaweedFS", f"{why}; its last words: {words[0]}", "run it by hand as bench/s3.py does")

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def curl(self, *arguments):
        """curl with a signature, as people use it without a client of Amazon's; the key is in no argument."""
        return run("curl", "-sSf", "-K", "-", *arguments,
                   input=f'aws-sigv4 = "aws:amz:us-east-1:s3"\nuser = "{self.key}:{self.secret}"\n')

    def put(self, path, key):
        """Uploads a file; answers its key."""
        say(f"uploading {path.name} ({path.stat().st_size / 1e6:.0f} MB) as {key}")
        self.curl("-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD", "-T", path, f"{self.url}/{BUCKET}/{key}")
        return key

    def remove(self, key):
        """Removes an object, if it is there."""
        self.curl("-X", "DELETE", f"{self.url}/{BUCKET}/{key}")

    def environment(self):
        """What a client needs to reach it."""
        return os.environ | {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret,
                             "AWS_ENDPOINT_URL": self.url, "AWS_REGION": "us-east-1"}
