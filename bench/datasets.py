"""What the measured databases are made of: the one place for their sizes.

`generate` makes them and `run` reads them; both by `Dataset.folder`, whose name holds a hash of
its figures here and of rows.sql, so that figures of two different databases are never compared.
"""

import dataclasses
import functools
import json
import pathlib

from host import FOLDER, docker, recipe

# Ten apps, as a trading company has them; the second set is that of dev/demo-instance, whose template
# a test machine has already.
TEN_APPS = "sale_management,crm,contacts,account,stock,purchase,project,mrp,hr_holidays,calendar"
THREE_APPS = "sale,crm,contacts"


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A database to make: clones of each row that is there, rows to add, files to add."""

    name: str
    modules: str
    least_bytes: int  # of pg_database_size, checked once it is made
    rows: dict  # the variables of rows.sql
    files: int
    file_bytes: int  # of all of them

    @functools.cached_property
    def folder(self):
        images = docker("image", "inspect", "-f", "{{.Id}}", "odoo:19.0", "postgres:15")
        rows = (pathlib.Path(__file__).parent / "rows.sql").read_text()
        return FOLDER / f"{self.name}-{recipe(images, self, rows)}"

    def path(self, file):
        """A file of it: odoo.zip, source.zip, dump.sql, dump.custom or facts.json."""
        return self.folder / file

    def facts(self):
        """Sizes, rows and versions of what was made."""
        return json.loads(self.path("facts.json").read_text())


NOTHING = dict(partners=0, sales=0, invoices=0, tasks=0, leads=0, moves=0, messages=0, trackings=0)
LARGE = Dataset("large", TEN_APPS, 1_030_000_000,
                dict(partners=400, sales=500, invoices=300, tasks=150, leads=100, moves=150, messages=1_300_000,
                     trackings=500_000), 4000, 700_000_000)
SMALL = Dataset("small", TEN_APPS, 40_000_000, NOTHING | dict(messages=2_000, trackings=1_000), 100, 10_000_000)
QUICK = Dataset("quick", THREE_APPS, 40_000_000, NOTHING | dict(messages=5_000, trackings=2_000), 200, 20_000_000)
ALL = {dataset.name: dataset for dataset in (LARGE, SMALL, QUICK)}
