"""The source document's whole restore, as the script `procedure` does it, against a running instance."""

import os
import subprocess
import time

from host import PROJECT, Failed


def restore(instance, url, source_database, environment):
    """Answers the seconds from the first command to a healthy Odoo, and those of each step."""
    arguments = [PROJECT / "bench/peers/procedure", url, instance.db, instance.odoo, instance.database, source_database,
                 instance.url]
    began = time.monotonic()
    done = subprocess.run(arguments, env=os.environ | environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    seconds = time.monotonic() - began
    if done.returncode != 0:
        raise Failed("bench/peers/procedure", done.stderr.strip()[-500:] or f"exit {done.returncode}", "run it by hand")
    steps = {line.split()[1]: float(line.split()[2]) for line in done.stdout.splitlines() if line.startswith("step ")}
    return {"seconds": seconds, "steps": steps}
