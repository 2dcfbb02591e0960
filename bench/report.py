"""From samples to the table: medians, ratios, targets.

It must never drop a sample: the JSON has all of them, the table says their spread.
"""

import statistics

# The smallest a database has to be for a target to be judged, in bytes.
JUDGED_FROM = 1_000_000_000


class Samples:
    """Values by name, in the order measured; details beside them."""

    def __init__(self):
        self.values, self.details = {}, {}

    def add(self, name, value, **details):
        self.values.setdefault(name, []).append(round(value, 4))
        if details:
            self.details.setdefault(name, []).append(details)

    def median(self, name):
        return statistics.median(self.values[name]) if name in self.values else None

    def cell(self, name, unit):
        """A median with its spread, for people."""
        if name not in self.values:
            return "-"
        values, show = self.values[name], "{:.0f}" if unit == "ms" else "{:.1f}"
        text = show.format(self.median(name))
        if len(values) > 1:
            text += f" ({show.format(min(values))}-{show.format(max(values))})"
        return f"{text} {unit}"


# What is compared: label, ours, against, its name for people, unit, target for the ratio (None: for
# information only). An `against` that is a number is a limit in that unit.
ROWS = (
    ("load dump.sql", "ours load plain", "psql -f", "psql -f, ANALYZE", "s", 0.55),
    ("load dump.custom", "ours load custom", "pg_restore -j2", "pg_restore -j2, ANALYZE", "s", 0.75),
    ("load dump.custom", "ours load custom", "pg_restore -j1", "pg_restore -j1, ANALYZE", "s", None),
    ("whole restore, same ZIP", "ours whole source", "procedure", "source document's procedure", "s", 0.5),
    ("whole restore, Odoo's ZIP", "ours whole odoo", "procedure", "source document's procedure", "s", None),
    ("downtime", "ours downtime large", "procedure downtime", "source document's procedure", "s", None),
    ("downtime", "ours downtime large", 10.0, "limit", "s", 1.0),
    ("downtime", "ours downtime large", "ours downtime small", "ours, small database", "s", 1.3),
    ("p95 /web/login while loading", "ours busy login", "idle login", "idle", "ms", 2.0),
    ("p95 API write while loading", "ours busy write", "idle write", "idle", "ms", 2.0),
    ("backup to S3", "ours backup", "odoo db dump", "odoo db dump, upload", "s", 0.7),
    ("backup to S3", "ours backup", "pg_dump and tar", "pg_dump -Fc, tar -czf, upload", "s", 0.8),
    ("a mover's memory, 10 GB restored", "ours big restore memory", 256.0, "limit", "MiB", 1.0),
    ("a mover's memory, 10 GB backed up", "ours big backup memory", 256.0, "limit", "MiB", 1.0),
    *((f"{label} ({kind})", f"{kind} {name}", limit, "limit", unit, 1.0)
      for kind in ("sqlite", "postgres")
      for label, name, limit, unit in (
          ("lists of a full platform, p99 of 50 clients", "lists", 50.0, "ms"),
          ("single objects of it, p99 of 50 clients", "gets", 50.0, "ms"),
          ("until 1,000 followers have an event", "told", 1.0, "s"),
          ("idle memory of undoo serve", "idle memory", 100.0, "MiB"))),
    ("time for a task, claimed and finished", "postgres task", 2.0, "limit", "ms", 1.0),
)
# Of the peers alone, for what they cost a live system.
PEER_ROWS = (
    ("p95 /web/login beside pg_restore -j2", "pg_restore busy login", "idle login", "idle", "ms", None),
    ("p95 API write beside pg_restore -j2", "pg_restore busy write", "idle write", "idle", "ms", None),
)


def compare(samples, judge):
    """The rows as values: label, both sides, ratio, target, verdict."""
    rows = []
    for label, ours, against, name, unit, target in ROWS + PEER_ROWS:
        limit = isinstance(against, float)
        mine, other = samples.median(ours), against if limit else samples.median(against)
        ratio = mine / other if mine is not None and other else None
        verdict = ""
        if target is not None:
            verdict = "not measured" if ratio is None else "not judged" if not judge else "pass" if ratio <= target else "FAIL"
        rows.append({
            "what": label, "ours": samples.cell(ours, unit),
            "against": f"{name}: {against:.0f} {unit}" if limit else f"{name}: {samples.cell(against, unit)}",
            "ratio": None if ratio is None else round(ratio, 3), "target": target, "verdict": verdict})
    return rows


def table(rows):
    """The rows for a terminal; valid Markdown too."""
    lines = [["what", "measured", "against", "ratio", "target", ""]]
    for row in rows:
        lines.append([row["what"], row["ours"], row["against"], "-" if row["ratio"] is None else f"{row['ratio']:.2f}",
                      "" if row["target"] is None else f"<= {row['target']:g}", row["verdict"]])
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines)
