"""TPC-DS by DuckDB.

data SCALE FOLDER  writes a folder of Parquet files for each table
queries            prints [number, text] pairs as JSON
"""

import glob
import json
import os
import sys

import duckdb
import duckdb_extension_tpcds

# Large tables get several files, so that scans can be shared out.
FILES = 8
SMALL = 50_000

home = os.path.dirname(duckdb_extension_tpcds.__file__)
connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
for extension in glob.glob(os.path.join(home, "extensions", "*", "*.duckdb_extension")):
    connection.load_extension(extension)


def data(scale, folder):
    connection.execute(f"CALL dsdgen(sf = {float(scale)})")
    tables = connection.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall()
    for (table,) in tables:
        (rows,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        os.makedirs(os.path.join(folder, table))
        files = FILES if rows > SMALL else 1
        for part in range(files):
            path = os.path.join(folder, table, f"{part:02}.parquet")
            connection.execute(
                f"COPY (SELECT * FROM {table} WHERE rowid % {files} = {part})"
                f" TO '{path}' (FORMAT parquet, COMPRESSION zstd)"
            )


def queries():
    rows = connection.execute("SELECT query_nr, query FROM tpcds_queries() ORDER BY 1").fetchall()
    print(json.dumps(rows))


if sys.argv[1] == "data":
    data(*sys.argv[2:])
else:
    queries()
