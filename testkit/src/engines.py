"""Reads and writes a Delta table with engines that know nothing of Drumline.

read FOLDER     prints, for each engine, the table's rows sorted by `n`, every value as text
make FOLDER     makes a table of every type with deltalake, partitioned, in two commits
append FOLDER   appends a row to it
origins-delta FOLDER, origins-folder FOLDER
                print `_partition`, `_offset` and `n` of every row, by the log or of every file in a plain folder
rows            prints the rows that `make` writes, in the same way
"""

import datetime
import decimal
import glob
import json
import math
import os
import sys

import pyarrow as pa

ZONED, PLAIN = pa.timestamp("us", tz="UTC"), pa.timestamp("us")
SCHEMA = pa.schema(
    [
        ("n", pa.int64()),
        ("part", pa.string()),
        ("money", pa.decimal128(38, 2)),
        ("zoned", ZONED),
        ("plain", PLAIN),
        ("day", pa.date32()),
        ("x", pa.float64()),
        ("raw", pa.binary()),
        ("tags", pa.list_(pa.int64())),
        ("pair", pa.struct([("a", pa.int64()), ("b", pa.string())])),
        ("yes", pa.bool_()),
    ]
)


def at(text, zoned):
    value = datetime.datetime.fromisoformat(text)
    return value.replace(tzinfo=datetime.timezone.utc) if zoned else value


def row(n, part, money, time, x, raw, tags, pair, yes):
    return {
        "n": n,
        "part": part,
        "money": None if money is None else decimal.Decimal(money),
        "zoned": None if time is None else at(time, True),
        "plain": None if time is None else at(time, False),
        "day": None if time is None else at(time, False).date(),
        "x": x,
        "raw": raw,
        "tags": tags,
        "pair": pair,
        "yes": yes,
    }


FIRST = [
    row(1, "a b/c=d%e", "-0.01", "0001-01-01T00:00:00", math.nan, b"\x00\xff", [1, None], {"a": 1, "b": "é"}, True),
    row(2, "Beyoncé ♪", "9" * 36 + ".99", "9999-12-31T23:59:59.999999", -0.0, b"", [], {"a": None, "b": ""}, False),
]
SECOND = [
    row(3, None, None, None, None, None, None, None, None),
    row(4, "a b/c=d%e", "0.00", "1969-12-31T23:59:59.999999", math.inf, b"x", [3], {"a": 4, "b": None}, None),
]
THIRD = [row(5, "new", "5.00", "2018-11-01T12:00:00.000001", 5e-324, b"\n", [5, 6], {"a": 7, "b": "z"}, True)]


def text(value):
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, datetime.datetime):
        zoned = value.tzinfo is not None
        value = value.astimezone(datetime.timezone.utc) if zoned else value
        # Years before 1000 too: strftime does not pad them everywhere.
        return f"{value.year:04}-{value.strftime('%m-%d %H:%M:%S.%f')}{'Z' if zoned else ''}"
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [text(item) for item in value]
    if isinstance(value, dict):
        return {key: text(item) for key, item in value.items()}
    return f"{type(value)} {value}"


def rows(table):
    found = [{key: text(value) for key, value in row.items()} for row in table.to_pylist()]
    return sorted(found, key=lambda row: row["n"])


def read(folder):
    import deltalake
    import duckdb
    import duckdb_extension_delta
    import polars

    home = os.path.dirname(duckdb_extension_delta.__file__)
    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    for extension in glob.glob(os.path.join(home, "extensions", "*", "*.duckdb_extension")):
        connection.load_extension(extension)
    connection.execute("SET TimeZone = 'UTC'")
    scanned = connection.execute("SELECT * FROM delta_scan(?)", [folder])
    return {
        "deltalake": rows(pa.table(deltalake.DeltaTable(folder).to_pyarrow_table())),
        "polars": rows(polars.read_delta(folder).to_arrow()),
        "duckdb": rows(pa.table(scanned.to_arrow_table())),
    }


def write(folder, values):
    import deltalake

    table = pa.Table.from_pylist(values, schema=SCHEMA)
    deltalake.write_deltalake(folder, table, mode="append", partition_by=["part"])


def origins(table):
    n = table["n"].to_pylist() if "n" in table.column_names else [None] * table.num_rows
    return [list(row) for row in zip(table["_partition"].to_pylist(), table["_offset"].to_pylist(), n)]


def origins_in_log(folder):
    import deltalake

    return origins(pa.table(deltalake.DeltaTable(folder).to_pyarrow_table()))


def origins_in_folder(folder):
    import pyarrow.parquet as parquet

    found = []
    for parent, _, names in os.walk(folder):
        for name in names:
            found += origins(parquet.ParquetFile(os.path.join(parent, name)).read())
    return found


def main(what, folder=""):
    if what == "read":
        print(json.dumps(read(folder)))
    elif what == "origins-delta":
        print(json.dumps(origins_in_log(folder)))
    elif what == "origins-folder":
        print(json.dumps(origins_in_folder(folder)))
    elif what == "make":
        write(folder, FIRST)
        write(folder, SECOND)
    elif what == "append":
        write(folder, THIRD)
    elif what == "rows":
        print(json.dumps(rows(pa.Table.from_pylist(FIRST + SECOND, schema=SCHEMA))))


# Standard output is the answer's alone: DuckDB draws a bar there when a statement takes two seconds.
sys.stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)
main(*sys.argv[1:])
# All is said and written. Threads of the engines that still run when Python ends now and then abort the process.
sys.stdout.flush()
os._exit(0)
