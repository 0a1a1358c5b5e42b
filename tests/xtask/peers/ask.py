"""Other engines over the Parquet files of a cold store: processor and wall time of each query, and its answer, as lines of JSON.

ask.py FOLDER QUERIES RUNS ENGINE: one thread. Each query is compiled and run as its users would, again and again.
"""

import glob
import json
import os
import statistics
import sys
import time


def files(folder):
    """The files that the Delta log has, of a table that only grew."""
    return sorted(glob.glob(f"{folder}/cold/objects/cold/acme/spans/**/*.parquet", recursive=True))


def duckdb_engine(paths):
    import duckdb

    connection = duckdb.connect(config={"threads": 1})
    connection.execute("SET parquet_metadata_cache = true")
    table = f"read_parquet({paths})"
    return lambda sql: connection.execute(sql.format(t=table)).fetchall()


def chdb_engine(paths):
    from chdb import session

    # Only what is below the working folder of the first query is opened.
    os.chdir("/")
    connection = session.Session()
    names = "{" + ",".join(paths) + "}" if len(paths) > 1 else paths[0]
    table = f"file('{names}', Parquet)"

    def ask(sql):
        text = str(connection.query(sql.format(t=table) + " settings max_threads = 1", "JSONCompactEachRow"))
        return [json.loads(line) for line in text.splitlines()]

    return ask


def datafusion_engine(paths):
    import datafusion

    config = datafusion.SessionConfig().with_target_partitions(1)
    config = config.set("datafusion.execution.parquet.pushdown_filters", "true")
    context = datafusion.SessionContext(config)
    context.register_parquet("spans", os.path.commonpath([os.path.dirname(path) for path in paths]))

    def ask(sql):
        batches = context.sql(sql.format(t="spans")).collect()
        return [list(row.values()) for batch in batches for row in batch.to_pylist()]

    return ask


def plain(value):
    return value.hex() if isinstance(value, (bytes, bytearray)) else value


def measure(ask, sql, runs):
    batches = min(10, runs)
    each = -(-runs // batches)
    cpu, wall = [], []
    for _ in range(batches):
        from_cpu, from_wall = time.process_time(), time.perf_counter()
        for _ in range(each):
            ask(sql)
        cpu.append((time.process_time() - from_cpu) / each)
        wall.append((time.perf_counter() - from_wall) / each)
    return statistics.median_high(cpu) * 1e3, statistics.median_high(wall) * 1e3


def main():
    folder, asked, runs, engine = sys.argv[1], json.load(open(sys.argv[2])), int(sys.argv[3]), sys.argv[4]
    ask = {"duckdb": duckdb_engine, "chdb": chdb_engine, "datafusion": datafusion_engine}[engine](files(folder))
    for query in asked:
        line = {"name": query["name"], "engine": engine, "runs": runs}
        try:
            sql = query.get(engine) or query["sql"]
            rows = [[plain(cell) for cell in row] for row in ask(sql)]
            line["rows"] = [[len(rows)]] if query["name"] == "trace by id" else rows
            # Once, and not measured: what the others answer from sketches.
            if engine == "duckdb" and "exact" in query:
                line["exact"] = [[plain(cell) for cell in row] for row in ask(query["exact"])]
            line["cpu_ms"], line["wall_ms"] = measure(ask, sql, runs)
        except Exception as error:  # Told beside the query that met it.
            line["error"] = f"{type(error).__name__}: {error}"
        print(json.dumps(line), flush=True)


main()
