"""Other engines' answers: reads questions (JSON) from standard input, prints an answer of each engine to each."""

import json
import math
import os
import sys

import chdb
import duckdb
import duckdb_extension_delta


def duckdb_answers():
    folder = os.path.join(os.path.dirname(duckdb_extension_delta.__file__), "extensions", "v" + duckdb.__version__)
    connection = duckdb.connect(config={"threads": 1})
    connection.execute(f"LOAD '{folder}/delta.duckdb_extension'")

    return lambda table, sql: connection.execute(sql.format(t=f"delta_scan('{table}')")).fetchall()


def chdb_answers():
    # Only what is below the working folder of the first query is opened.
    os.chdir("/")

    def answer(table, sql):
        sql = sql.format(t=f"deltaLakeLocal('{table}')")
        text = str(chdb.query(sql + " settings max_threads = 1", "JSONCompactEachRow"))
        return [json.loads(line) for line in text.splitlines()]

    return answer


def plain(cell):
    """Numbers that JSON does not have as Prism writes them."""
    if isinstance(cell, float) and not math.isfinite(cell):
        return "NaN" if math.isnan(cell) else "Infinity" if cell > 0 else "-Infinity"
    return cell


def main():
    engines = {"duckdb": duckdb_answers(), "chdb": chdb_answers()}
    for question in json.load(sys.stdin):
        answers = {}
        for name in question["engines"]:
            try:
                answers[name] = [[plain(cell) for cell in row] for row in engines[name](question["table"], question["sql"])]
            except Exception as error:  # Told beside the question that met it.
                answers[name] = f"{type(error).__name__}: {error}"
        print(json.dumps(answers, default=float), flush=True)


main()
