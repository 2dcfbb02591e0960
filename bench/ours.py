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
# A dump alone has no files, as the command rightly finds; here only the load counts.
LOAD = ("--json", "--yes", "--intent", "recover", "--database-only", "--accept", "missing_files")


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
    """Runs it; answers the seconds it took, the phases with when each began (time.monotonic), its last line."""
    arguments = [str(each) for each in (program(), *arguments)]
    say(" ".join(arguments))
    began = time.monotonic()
    phases, last = [], {}
    with tempfile.TemporaryFile("w+") as errors, subprocess.Popen(
            arguments, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
        watch = threading.Timer(PATIENCE, process.kill)
        watch.daemon = True
        watch.start()
        for line in process.stdout:
            try:
                answer = json.loads(line)
            except ValueError:
                continue
            if not isinstance(answer, dict):
                continue
            last = answer
            if last.get("answer") == "phase":
                phases.append((last["phase"], time.monotonic()))
        process.wait()
        watch.cancel()
        errors.seek(0)
        error = errors.read()
    seconds = time.monotonic() - began
    if process.returncode != 0:
        cause = " / ".join(filter(None, [last.get("message"), last.get("remedy"), error.strip()[-500:]]))
        codes = ", ".join(each["code"] for each in last.get("findings") or [])
        raise Failed(" ".join(arguments), f"exit {process.returncode}: {cause} {codes}", "run that command by hand")
    return seconds, [("start", began)] + phases + [("end", began + seconds)], last


def steps(phases):
    """Seconds of each phase."""
    taken = {}
    for (phase, begin), (_, end) in zip(phases, phases[1:]):
        taken[phase] = round(taken.get(phase, 0) + end - begin, 3)
    return taken


def loading(phases):
    """When rows and indexes were loaded: from the first such phase to the end of the last."""
    spans = [(begin, end) for (phase, begin), (_, end) in zip(phases, phases[1:]) if phase in ("data", "post_data")]
    if not spans:
        raise Failed("undoo restore", "it told of no phase data or post_data", "adapt bench/ours.py")
    return min(spans)[0], max(spans)[1]


def load(instance, dump, database):
    """Loads a plain or custom dump into a new database; answers seconds from the first statement to the
    end of ANALYZE, as the command itself reports them, the whole command's, and when that loading was."""
    wall, phases, last = command("restore", dump, "--into", f"docker:{instance.odoo}", "--database", database, *LOAD)
    loaded = find(last, "loaded")
    if not loaded:
        raise Failed("undoo restore", "its last line has no `loaded`", "adapt bench/ours.py")
    return {"seconds": loaded["data_seconds"] + loaded["post_data_seconds"], "command_seconds": wall,
            "steps": steps(phases)}, loading(phases)


def restore(instance, address, environment):
    """A whole restore into a running instance; answers the seconds of the command."""
    wall, phases, last = command("restore", address, "--into", f"docker:{instance.odoo}", *RESTORE, environment=environment)
    return {"seconds": wall, "steps": steps(phases), "own_downtime_seconds": (find(last, "downtime_ms") or 0) / 1000}
