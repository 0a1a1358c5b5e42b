"""delta-rs at a table: `delta_rs.py STEP TABLE [VERSION]` does a step and prints what it saw, as JSON."""

import json
import sys

from deltalake import DeltaTable, QueryBuilder


def seen(folder):
    table = DeltaTable(folder)
    sql = "select count(*) n, count(distinct trace_id) d, sum(flags) s from t"
    row = QueryBuilder().register("t", table).execute(sql).read_all()
    return {
        "version": table.version(),
        "files": len(table.file_uris()),
        "rows": [int(row[name][0].as_py()) for name in ("n", "d", "s")],
    }


def main():
    step, folder = sys.argv[1:3]
    table = DeltaTable(folder)
    if step == "optimize":
        table.optimize.compact()
    elif step == "vacuum":
        # What Prism keeps for readers of older versions goes at once.
        table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    elif step == "delete":
        table.delete("duration >= 0")
    elif step == "restore":
        table.restore(int(sys.argv[3]))
    print(json.dumps(seen(folder)))


main()
