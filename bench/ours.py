"""The project's own side of every comparison: the one file that knows the command's arguments.

What is measured is what a person gets who types the command: proof, verification and ANALYZE are in it.
It must never pass an option that a careful person would not use for the same end.
"""

import json
import os
import pathlib
import subprocess
import tempfile
import threading
import time

from host import PATIENCE, PROJECT, Failed, say

# Every restore is of the kind that it is measured against: the same instance at an earlier time.
RESTORE = ("--json", "--yes", "--intent", "recover")
# A dump alone has no files, and nobody is to see the database: only the load counts.
LOAD = ("--json", "--yes", "--intent", "recover", "--database-only")


def program():
    """The command, or None where it is not built."""
    named = os.environ.get("UNDOO")
    path = pathlib.Path(named or PROJECT / "target/x86_64-unknown-linux-gnu/release/undoo")
    if path.is_file():
        return path
    if named:
        raise Failed("UNDOO", f"there is no {path}", "build it, or unset UNDOO to use the release build")
    return None


def find(value, name):
    """The first value of that name, at any depth."""
    if isinstance(value, dict):
        if value.get(name) is not None:
            return value[name]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            found = find(each, name)
            if found is not None:
                return found
    return None


def command(*arguments, environment=None):
    """Runs it; answers the seconds it took, of each phase too, and its last line."""
    arguments = [str(each) for each in (program(), *arguments)]
    say(" ".join(arguments))
    began = time.monotonic()
    phases, last = [], {}
    with tempfile.TemporaryFile("w+") as errors, subprocess.Popen(
            arguments, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
        watch = threading.Timer(PATIENCE, process.kill)
        watch.start()
        for line in process.stdout:
            now = time.monotonic() - began
            try:
                last = json.loads(line)
            except ValueError:
                continue
            if last.get("answer") == "phase":
                phases.append((last["phase"], now))
        process.wait()
        watch.cancel()
        errors.seek(0)
        error = errors.read()
    seconds = time.monotonic() - began
    if process.returncode != 0:
        cause = " / ".join(filter(None, [last.get("message"), last.get("remedy"), error.strip()[-500:]]))
        codes = ", ".join(each["code"] for each in last.get("findings") or [])
        raise Failed(" ".join(arguments), f"exit {process.returncode}: {cause} {codes}", "run that command by hand")
    ends = [at for _, at in phases[1:]] + [seconds]
    steps = {}
    for (phase, at), end in zip(phases, ends):
        steps[phase] = round(steps.get(phase, 0) + end - at, 3)
    return seconds, steps, last


def load(instance, dump, database):
    """Loads a plain or custom dump into a new database; answers seconds from the first statement to the
    end of ANALYZE, as the command itself reports them, and the whole command's beside it."""
    wall, steps, last = command("restore", dump, "--into", f"docker:{instance.odoo}", "--database", database, *LOAD)
    loaded = find(last, "loaded")
    if not loaded:
        raise Failed("undoo restore", "its last line has no `loaded`", "adapt bench/ours.py")
    return {"seconds": loaded["data_seconds"] + loaded["post_data_seconds"], "command_seconds": wall, "steps": steps}


def restore(instance, address, environment):
    """A whole restore into a running instance; answers the seconds of the command."""
    wall, steps, last = command("restore", address, "--into", f"docker:{instance.odoo}", *RESTORE, environment=environment)
    return {"seconds": wall, "steps": steps, "own_downtime_seconds": (find(last, "downtime_ms") or 0) / 1000}
