"""Loading a dump into a fresh database as people do it, with PostgreSQL's own programs.

Each runs inside the database container, from a file that is there already, in a server of default
settings, and ends with ANALYZE, since ours does. They must never be handicapped: no verbose output, no
pipe through a client outside.
"""

import time

from host import Failed, docker

# What is loaded, and the command; {file} and {database} are put in. Odoo and click-odoo run `psql -q -f`.
COMMANDS = {
    "psql -f": ("dump.sql", "psql -q -U odoo -d {database} -f {file} -o /dev/null"),
    "pg_restore -j1": ("dump.custom", "pg_restore -U odoo --no-owner -d {database} {file}"),
    "pg_restore -j2": ("dump.custom", "pg_restore -U odoo --no-owner -j 2 -d {database} {file}"),
}
IN_CONTAINER = "/tmp/bench"


def put(instance, dataset):
    """Copies the dumps into the database container, once and unmeasured."""
    docker("exec", "-u", "postgres", instance.db, "mkdir", "-p", IN_CONTAINER)
    for file in ("dump.sql", "dump.custom"):
        docker("cp", "-q", dataset.path(file), f"{instance.db}:{IN_CONTAINER}/{file}")


def load(name, instance, database):
    """Loads into a database made from template0 as Odoo makes it; answers the seconds, creation not counted."""
    file, command = COMMANDS[name]
    instance.drop(database)
    instance.sql(f"CREATE DATABASE \"{database}\" OWNER odoo ENCODING 'unicode' LC_COLLATE 'C' TEMPLATE template0", "postgres")
    command = command.format(database=database, file=f"{IN_CONTAINER}/{file}")
    began = time.monotonic()
    messages = docker("exec", "-u", "postgres", instance.db, "sh", "-c", f"{command} 2>&1")
    instance.sql("ANALYZE", database)
    seconds = time.monotonic() - began
    errors = [line for line in messages.splitlines() if "ERROR" in line or "FATAL" in line]
    if errors:
        raise Failed(f"{name} of {file}", errors[0], "a load with errors cannot be measured: look at what the dump holds")
    return seconds
