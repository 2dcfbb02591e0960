"""The source document's whole restore, as the script `procedure` does it, against a running instance."""

import subprocess
import time

from host import PROJECT, run


def restore(instance, url, source_database, environment):
    """Answers the seconds from the first command to a healthy Odoo, and those of each step."""
    arguments = [PROJECT / "bench/peers/procedure", url, instance.db, instance.odoo, instance.database, source_database,
                 instance.url]
    began = time.monotonic()
    said = run(*arguments, env=environment, stdin=subprocess.DEVNULL)
    seconds = time.monotonic() - began
    steps = {line.split()[1]: float(line.split()[2]) for line in said.splitlines() if line.startswith("step ")}
    return {"seconds": seconds, "steps": steps}
