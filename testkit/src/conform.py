"""Gives the files of the conformance suite (`engine/tests/conformance/*.slt`) to DuckDB.

check FILE...   fails, naming each record, where DuckDB answers otherwise than the file says
write FILE...   writes DuckDB's answers into the files, for whoever adds records

Records marked `onlyif drumline` are passed over: there we answer as PostgreSQL does, or refuse.
"""

import decimal
import re
import sys

import duckdb
import pyarrow as pa


def text(value):
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if value != value:
            return "NaN"
        return repr(value).replace("e+", "e")
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return "[" + ", ".join(map(text, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {text(item)}" for key, item in value.items()) + "}"
    return str(value)


def column(values):
    """A column's values as the files have them."""
    kind = values.type
    if not pa.types.is_timestamp(kind):
        return [text(value) for value in values.to_pylist()]
    zone = "" if kind.tz is None else "+00:00"
    plain = values.cast(pa.int64()).cast(pa.timestamp(kind.unit)).to_pylist()
    return [text(value) if value is None else moment(value) + zone for value in plain]


def moment(value):
    fraction = f".{value.microsecond:06}" if value.microsecond else ""
    # The files have as many groups of three digits as are needed.
    fraction = re.sub(r"000$", "", fraction)
    return f"{value.year:04}-{value:%m-%d %H:%M:%S}{fraction}"


def rows(connection, sql):
    table = pa.table(connection.execute(sql).to_arrow_table())
    columns = [column(values) for values in table.columns]
    return ["|".join(row) for row in zip(*columns)]


def changed(connection, sql):
    found = connection.execute(sql).fetchall()
    return found[0][0] if found and isinstance(found[0][0], int) else None


class Records:
    """A file's lines, record by record."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.lines = file.read().split("\n")

    def __iter__(self):
        """Yields first and last line, what is expected, the statement, and where its answer begins."""
        at, ours = 0, True
        while at < len(self.lines):
            line = self.lines[at]
            if not line or line.startswith("#"):
                at += 1
            elif line.startswith("onlyif "):
                ours = line == "onlyif duckdb"
                at += 1
            else:
                end = at
                while end < len(self.lines) and self.lines[end]:
                    end += 1
                body = self.lines[at + 1 : end]
                bar = body.index("----") if line.startswith("query") and "----" in body else None
                if ours:
                    yield at, end, line.split(" "), "\n".join(body[:bar]), bar
                at, ours = end, True


def run(path, write):
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("ATTACH ':memory:' AS lake")
    connection.execute('CREATE SCHEMA lake."default"')
    connection.execute('USE lake."default"')
    records = Records(path)
    wrong, new = [], {}
    for at, end, expected, sql, bar in records:
        where = f"{path}:{at + 1}: {sql}"
        kind, *rest = expected
        try:
            if kind == "query":
                found = rows(connection, sql)
                if "ordered" not in rest:
                    found.sort()
                answer = records.lines[at + 2 + bar : end] if bar is not None else None
                if answer is not None and "ordered" not in rest:
                    answer.sort()
                if found != answer:
                    wrong.append(f"{where}\n  {found}\n  instead of\n  {answer}")
                    query = records.lines[at : (end if bar is None else at + 1 + bar)]
                    new[at] = (end, [*query, "----", *found])
            elif rest[0] == "count":
                found = changed(connection, sql)
                if str(found) != "".join(rest[1:]):
                    wrong.append(f"{where}\n  {found} rows instead of {rest[1:]}")
                    new[at] = (end, [f"statement count {found}", *records.lines[at + 1 : end]])
            else:
                connection.execute(sql)
                if rest[0] == "error":
                    wrong.append(f"{where}\n  it is not refused")
        except duckdb.Error as error:
            if rest[:1] != ["error"]:
                wrong.append(f"{where}\n  {error}")
    if write:
        for at in sorted(new, reverse=True):
            end, lines = new[at]
            records.lines[at:end] = lines
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(records.lines))
    return wrong


def main(what, *paths):
    wrong = [one for path in paths for one in run(path, what == "write")]
    sys.exit("\n".join([f"{len(wrong)} differ", *wrong]) if wrong else 0)


main(*sys.argv[1:])
