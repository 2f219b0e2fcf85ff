"""Random statements, and what DuckDB answers to each.

Argument: the seed. Prints a JSON list of steps, each with `sql`, the `bytes_per_task` to run it with (null: the default)
and, where it asks for any, `rows`, `ordered` or not; `refused` says why DuckDB does not take it.

Statements are of the part of SQL in which all engines are meant to agree: no quotients of integers, no order of nulls
left open, no numbers for rows that tie, no sums in which the order of adding shows.
"""

import datetime
import decimal
import json
import random
import sys

import duckdb

# All tables have these, so that joins have columns of one name on both sides.
COLUMNS = ("id", "k", "v", "s", "d")

# Beside one another, these order rows whole, but for rows that are equal.
WHOLE = "id DESC NULLS LAST, k NULLS FIRST, v NULLS FIRST, s NULLS FIRST, d NULLS FIRST"

# Small enough for an answer to be compared as a whole.
MOST_ROWS = 20_000

BYTES_PER_TASK = (None, None, 1, 500, 3_000, 40_000)


class Statements:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.connection = duckdb.connect(config={"threads": 1})
        self.connection.execute("SET enable_progress_bar = false")
        self.steps = []
        self.aliases = 0
        self.is_ordered = False
        names = (f"s{seed}_{name}" for name in ("target", "few", "many", "none"))
        self.target, self.few, self.many, self.none = names

    # What is chosen. A choice that chooses further is a function, so that only what is taken is made.

    def one(self, *choices):
        chosen = self.random.choice(choices)
        return chosen() if callable(chosen) else chosen

    def number(self, low, high):
        return self.random.randint(low, high)

    def chance(self, share):
        return self.random.random() < share

    def alias(self):
        self.aliases += 1
        return f"q{self.aliases}"

    # Expressions over a relation's columns.

    def scalar(self, a):
        return self.one(
            f"{a}.id",
            f"{a}.k",
            f"{a}.v",
            f"{a}.id + {a}.k",
            f"{a}.id % {self.number(2, 9)}",
            f"{a}.v * 2 - {a}.id",
            f"coalesce({a}.k, {self.number(-1, 3)})",
            f"CASE WHEN {a}.k = 1 THEN {a}.id WHEN {a}.k = 2 THEN -{a}.id END",
            f"nullif({a}.k, {self.number(0, 2)})",
            f"abs({a}.v)",
            f"length({a}.s)",
        )

    def text(self, a):
        return self.one(
            f"{a}.s",
            f"upper({a}.s)",
            f"coalesce({a}.s, '?')",
            f"{a}.s || '-' || {a}.s",
            f"substr({a}.s, 2, 1)",
            f"CAST({a}.d AS VARCHAR)",
        )

    def plain_condition(self, a):
        return self.one(
            f"{a}.id = {self.number(1, 10)}",
            f"{a}.id > {self.number(1, 60)}",
            f"{a}.k <> {self.number(0, 2)}",
            f"{a}.k IS NULL",
            f"{a}.v IS NOT NULL",
            f"{a}.s LIKE 's%'",
            f"{a}.s IN ('s1', 's3', 'x')",
            f"{a}.s NOT IN ('s1', 's3')",
            f"{a}.k IN (1, NULL)",
            f"{a}.k NOT IN (1, NULL)",
            f"{a}.v BETWEEN {self.number(-2, 3)} AND {self.number(3, 40)}",
            f"{a}.k IS DISTINCT FROM {self.number(0, 2)}",
            f"{a}.k IS NOT DISTINCT FROM NULL",
            f"{a}.d >= DATE '2024-02-29'",
            "1 = 0",
        )

    def condition(self, a, depth=1):
        if depth <= 0 or self.chance(0.4):
            return self.plain_condition(a)
        b = self.alias()
        inner = self.relation(depth - 1)
        return self.one(
            lambda: f"NOT ({self.plain_condition(a)})",
            lambda: f"({self.condition(a, depth - 1)} OR {self.plain_condition(a)})",
            lambda: f"({self.condition(a, depth - 1)} AND {self.plain_condition(a)})",
            f"{a}.id IN (SELECT {b}.id FROM {inner} {b})",
            f"{a}.k NOT IN (SELECT {b}.k FROM {inner} {b})",
            f"{a}.id NOT IN (SELECT {b}.id FROM {inner} {b} WHERE {b}.id IS NOT NULL)",
            f"EXISTS (SELECT 1 FROM {inner} {b} WHERE {b}.id = {a}.id)",
            f"EXISTS (SELECT 1 FROM {inner} {b} WHERE {b}.k = {a}.id AND {b}.id <> {a}.k)",
            f"NOT EXISTS (SELECT 1 FROM {inner} {b} WHERE {b}.id = {a}.id AND {b}.k = {a}.k)",
            f"{a}.v > (SELECT avg({b}.v) FROM {inner} {b})",
            f"{a}.v >= (SELECT max({b}.v) FROM {inner} {b} WHERE {b}.k = {a}.k)",
            f"{a}.id < (SELECT count(*) FROM {inner} {b} WHERE {b}.k = {a}.k)",
        )

    def on(self, a, b):
        return self.one(
            f"{a}.id = {b}.id",
            f"{a}.id = {b}.id",
            f"{a}.id = {b}.id AND {a}.k = {b}.k",
            f"{a}.id = {b}.id AND {a}.v < {b}.v + 1",
            f"{a}.id = {b}.id AND {b}.s <> 's2'",
            f"{a}.id = {b}.id + 1",
            f"{a}.id IS NOT DISTINCT FROM {b}.id AND {a}.s IS NOT DISTINCT FROM {b}.s",
        )

    def join(self):
        return self.one("JOIN", "JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN")

    # Relations: each has the five columns.

    def table(self):
        return self.one(self.target, self.target, self.few, self.many, self.many, self.none)

    def relation(self, depth):
        if depth <= 0 or self.chance(0.15):
            return self.table()
        a, b = self.alias(), self.alias()
        below = lambda: self.relation(depth - 1)
        return self.one(
            lambda: f"(SELECT * FROM {below()} {a} WHERE {self.condition(a, depth - 1)})",
            lambda: f"(SELECT * FROM {below()} {self.one('UNION ALL', 'UNION', 'INTERSECT', 'EXCEPT')} "
            f"SELECT * FROM {below()})",
            lambda: f"(SELECT * FROM {below()} {a} UNION ALL SELECT DISTINCT k, id, v, s, d FROM {below()} {b})",
            lambda: f"(SELECT DISTINCT {a}.id, {a}.k, {a}.v, {a}.s, {a}.d FROM {below()} {a})",
            lambda: f"(SELECT max({a}.id) AS id, {a}.k, sum({a}.v) AS v, min({a}.s) AS s, max({a}.d) AS d "
            f"FROM {below()} {a} GROUP BY {a}.k)",
            lambda: f"(SELECT {a}.id, min({a}.k) AS k, sum({a}.v) AS v, max({a}.s) AS s, min({a}.d) AS d "
            f"FROM {below()} {a} GROUP BY {a}.id)",
            lambda: f"(SELECT {a}.id, {b}.k, {a}.v, {b}.s, {a}.d FROM {below()} {a} {self.join()} {below()} {b} "
            f"ON {self.on(a, b)})",
            lambda: f"(SELECT id, k, v, s, d FROM (SELECT *, row_number() OVER (PARTITION BY {self.one('k', 's', 'd')} "
            f"ORDER BY {WHOLE}) AS n FROM {below()} {a}) {b} WHERE n <= {self.number(1, 2)})",
            lambda: f"(SELECT * FROM {below()} {a} ORDER BY {WHOLE} LIMIT {self.number(0, 12)}"
            f"{self.one('', ' OFFSET 2')})",
            lambda: f"(SELECT CAST({self.number(1, 8)} AS BIGINT) AS id, CAST(1 AS BIGINT) AS k, "
            f"CAST(9.5 AS DOUBLE) AS v, 'q' AS s, DATE '2024-03-01' AS d "
            f"UNION ALL SELECT {self.number(20, 80)}, 2, 8.5, 'w', NULL)",
        )

    # Queries.

    def aggregate(self, a):
        return self.one(
            "count(*)",
            lambda: f"count({self.scalar(a)})",
            lambda: f"count(DISTINCT {self.one(self.scalar(a), self.text(a))})",
            lambda: f"sum({self.scalar(a)})",
            f"sum(DISTINCT {a}.k)",
            lambda: f"avg({self.scalar(a)})",
            lambda: f"min({self.one(self.scalar(a), self.text(a), f'{a}.d')})",
            lambda: f"max({self.one(self.scalar(a), self.text(a), f'{a}.d')})",
            lambda: f"sum({a}.v) FILTER (WHERE {self.plain_condition(a)})",
            lambda: f"count(*) FILTER (WHERE {self.plain_condition(a)})",
            f"bool_or({a}.k = 1)",
            f"bool_and({a}.k = 1)",
        )

    def grouped(self):
        a = self.alias()
        key = lambda: self.one(f"{a}.k", f"{a}.s", f"{a}.d", f"{a}.id % 5", self.text(a))
        keys = list(dict.fromkeys(key() for _ in range(self.number(0, 2))))
        values = [self.aggregate(a) for _ in range(self.number(1, 3))]
        if self.chance(0.2):
            # One alone: DataFusion refuses two of other orders.
            values.append(f"string_agg(DISTINCT {a}.s, ',' ORDER BY {a}.s)")
        having = f" HAVING count(*) > {self.number(0, 2)}" if self.chance(0.2) else ""
        group = ""
        if keys:
            sets = ", ".join(keys)
            group = self.one(sets, sets, sets, f"ROLLUP ({sets})", f"CUBE ({sets})", f"GROUPING SETS (({sets}), ())")
            group = f" GROUP BY {group}"
        source = f"{self.relation(2)} {a} WHERE {self.condition(a)}"
        return f"SELECT {named(keys + values)} FROM {source}{group}{having}"

    def joined(self):
        a, b, c = self.alias(), self.alias(), self.alias()
        values = [self.scalar(a), self.scalar(b), self.text(a), f"{b}.d"]
        source = f"{self.relation(2)} {a} {self.join()} {self.relation(2)} {b} ON {self.on(a, b)}"
        if self.chance(0.3):
            values.append(self.scalar(c))
            source += f" {self.join()} {self.relation(1)} {c} ON {self.on(b, c)}"
        source += self.one(
            "",
            lambda: f" WHERE {self.condition(a)}",
            lambda: f" WHERE {self.condition(b)}",
            lambda: f" WHERE {self.plain_condition(a)} OR {self.plain_condition(b)}",
        )
        if self.chance(0.3):
            values = [f"{a}.k", self.aggregate(a), self.aggregate(b)]
            return f"SELECT {named(values)} FROM {source} GROUP BY {a}.k"
        return f"SELECT {named(values)} FROM {source}"

    def windowed(self):
        a = self.alias()
        part = self.one("", f"PARTITION BY {a}.k ", f"PARTITION BY {a}.s, {a}.k ", f"PARTITION BY {a}.d ")
        whole = ", ".join(f"{a}.{key}" for key in WHOLE.split(", "))
        window = lambda: self.one(
            f"row_number() OVER ({part}ORDER BY {whole})",
            f"rank() OVER ({part}ORDER BY {a}.k NULLS FIRST)",
            f"dense_rank() OVER ({part}ORDER BY {a}.s NULLS LAST)",
            f"lag({a}.v) OVER ({part}ORDER BY {whole})",
            f"lead({a}.id, 2, -1) OVER ({part}ORDER BY {whole})",
            f"sum({a}.v) OVER ({part}ORDER BY {whole} ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)",
            f"sum({a}.id) OVER ({part}ORDER BY {a}.k NULLS FIRST)",
            f"count(*) OVER ({part})",
            f"max({a}.v) OVER ({part})",
            f"avg({a}.v) OVER ({part})",
            f"first_value({a}.s) OVER ({part}ORDER BY {whole})",
            f"last_value({a}.id) OVER ({part}ORDER BY {whole} ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)",
            f"ntile(3) OVER ({part}ORDER BY {whole})",
        )
        values = [f"{a}.id", f"{a}.k", *(window() for _ in range(self.number(1, 3)))]
        return f"SELECT {named(values)} FROM {self.relation(2)} {a} WHERE {self.condition(a)}"

    def chosen(self):
        a, b = self.alias(), self.alias()
        last = self.one(
            lambda: self.plain_condition(a),
            lambda: f"(SELECT count(*) FROM {self.relation(1)} {b} WHERE {b}.id = {a}.id)",
            lambda: f"(SELECT sum({b}.v) FROM {self.relation(1)} {b} WHERE {b}.k = {a}.k)",
            lambda: f"(SELECT max({b}.s) FROM {self.relation(1)} {b})",
            f"{a}.d + 1",
        )
        values = named([self.scalar(a), self.text(a), last])
        return f"SELECT {self.one('', 'DISTINCT ')}{values} FROM {self.relation(2)} {a} WHERE {self.condition(a, 2)}"

    def sets(self):
        operator = self.one("UNION", "UNION ALL", "INTERSECT", "INTERSECT ALL", "EXCEPT", "EXCEPT ALL")
        columns = self.one("id, k", "k, s", "s", "k", "v, d")
        a, b = self.alias(), self.alias()
        return f"SELECT {columns} FROM {self.relation(2)} {a} {operator} SELECT {columns} FROM {self.relation(2)} {b}"

    def common(self):
        a, b, c = self.alias(), self.alias(), self.alias()
        if self.chance(0.3):
            return (
                f"WITH {c} AS (SELECT k, count(*) AS n, sum(v) AS v FROM {self.relation(2)} {a} GROUP BY k) "
                f"SELECT {b}.k, {b}.n, {b}.v FROM {c} {b} WHERE {b}.v >= (SELECT min(v) FROM {c})"
            )
        values = named([self.aggregate("x"), self.aggregate("y")])
        return f"WITH {c} AS (SELECT * FROM {self.relation(2)} {a}) SELECT {values} FROM {c} x {self.join()} {c} y ON {self.on('x', 'y')}"

    def first(self):
        """Rows up to a limit. Those that tie are equal in all that is shown."""
        a, b = self.alias(), self.alias()
        source = f"{self.relation(2)} {a}"
        columns = [f"{a}.{column}" for column in COLUMNS]
        if self.chance(0.5):
            source += f" {self.join()} {self.relation(1)} {b} ON {self.on(a, b)}"
            columns += [f"{b}.{column}" for column in COLUMNS]
        columns = self.random.sample(columns, self.number(2, 5))
        order = (f"{column} {self.one('ASC', 'DESC')} NULLS {self.one('FIRST', 'LAST')}" for column in columns)
        self.is_ordered = True
        limit = self.one("", f" LIMIT {self.number(0, 20)}", f" LIMIT {self.number(1, 9)} OFFSET {self.number(0, 5)}")
        return f"SELECT {named(columns)} FROM {source} ORDER BY {', '.join(order)}{limit}"

    def query(self):
        self.is_ordered = False
        return self.one(
            *[self.grouped, self.joined, self.first] * 2, self.windowed, self.chosen, self.sets, self.common
        )

    # Writes to the target.

    def write(self):
        t, q = self.target, self.alias()
        once = lambda: (
            f"(SELECT id, min(k) AS k, sum(v) AS v, max(s) AS s, min(d) AS d FROM {self.relation(2)} {q} GROUP BY id)"
        )
        return self.one(
            lambda: f"DELETE FROM {t} WHERE {self.condition(t, 2)}",
            lambda: f"UPDATE {t} SET v = v + 1, s = 'u' WHERE {self.condition(t, 2)}",
            lambda: f"UPDATE {t} SET v = q.v, s = q.s FROM {once()} q WHERE {t}.id = q.id",
            lambda: f"INSERT INTO {t} SELECT id, k, v, s, d FROM {self.relation(2)} q "
            f"WHERE id NOT IN (SELECT id FROM {t} WHERE id IS NOT NULL)",
            *[lambda: f"MERGE INTO {t} AS t USING {once()} AS q ON t.id = q.id {self.clauses()}"] * 3,
        )

    def clauses(self):
        clauses = self.random.sample(
            [
                "WHEN MATCHED AND q.k = 1 THEN DELETE",
                "WHEN MATCHED AND q.k = 2 THEN UPDATE SET v = q.v",
                "WHEN NOT MATCHED AND q.id > 3 THEN INSERT (id, k, v, s, d) VALUES (q.id, q.k, q.v, q.s, q.d)",
                "WHEN NOT MATCHED BY SOURCE AND t.k = 0 THEN DELETE",
                "WHEN NOT MATCHED BY SOURCE AND t.k = 1 THEN UPDATE SET s = 'gone'",
            ],
            self.number(1, 4),
        )
        if self.chance(0.5):
            # One without a condition stands alone: engines differ in whether others may follow it.
            clauses = [clause for clause in clauses if not clause.startswith("WHEN MATCHED")]
            clauses.append("WHEN MATCHED THEN UPDATE SET v = q.v, s = q.s")
        return " ".join(clauses)

    # Steps.

    def step(self, sql, **more):
        self.steps.append({"sql": sql, "bytes_per_task": self.random.choice(BYTES_PER_TASK), **more})

    def run(self, ours, theirs=None):
        """A statement that answers nothing. Says whether DuckDB takes it."""
        try:
            self.connection.execute(theirs or ours)
        except duckdb.Error as error:
            self.step(ours, refused=str(error))
            return False
        self.step(ours)
        return True

    def read(self, sql):
        try:
            found = self.connection.execute(sql)
            names = [column[0] for column in found.description]
            rows = found.fetchmany(MOST_ROWS + 1)
        except duckdb.Error as error:
            self.step(sql, refused=str(error))
            return
        if len(rows) <= MOST_ROWS:
            rows = [dict(zip(names, map(plain, row))) for row in rows]
            self.step(sql, rows=rows, ordered=self.is_ordered)

    def create(self, name, rows, is_partitioned=False):
        values = (
            "SELECT CAST(x AS BIGINT) AS id, CAST(x % 3 AS BIGINT) AS k, CAST(x AS DOUBLE) / 4 AS v, "
            "'s' || CAST(x % 7 AS VARCHAR) AS s, DATE '2024-02-25' + CAST(x % 11 AS INTEGER) AS d "
            f"FROM generate_series(1, {rows}) AS g(x)"
        )
        partitions = " PARTITIONED BY (k)" if is_partitioned else ""
        self.run(f"CREATE TABLE {name}{partitions} AS {values}", f"CREATE TABLE {name} AS {values}")
        if self.chance(0.6):
            self.run(
                f"INSERT INTO {name} VALUES (NULL, NULL, NULL, NULL, NULL), ({rows + 1}, 1, -1.5, 'x', "
                f"DATE '1969-12-31'), ({rows + 2}, NULL, 0.0, '', NULL)"
            )

    def all(self, steps=12):
        self.create(self.target, self.one(1, 2, 5, 40), self.chance(0.4))
        self.create(self.few, self.one(1, 4, 50), self.chance(0.2))
        # Now and then more than a batch: what is learnt from the first rows is asked of the next.
        self.create(self.many, self.one(3, 300, 3_000, 3_000, 30_000), self.chance(0.2))
        self.run(f"CREATE TABLE {self.none} (id BIGINT, k BIGINT, v DOUBLE, s VARCHAR, d DATE)")
        for _ in range(steps):
            if self.chance(0.7):
                self.read(self.query())
            elif self.run(self.write()):
                self.is_ordered = False
                self.read(f"SELECT id, k, v, s, d FROM {self.target}")
        for name in (self.target, self.few, self.many, self.none):
            self.run(f"DROP TABLE {name}")
        return self.steps


def named(values):
    return ", ".join(f"{value} AS c{at}" for at, value in enumerate(values))


def plain(value):
    """As JSON has it, and as Drumline writes it there."""
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    return value


json.dump(Statements(int(sys.argv[1])).all(), sys.stdout)
