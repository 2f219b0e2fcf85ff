"""Reads Parquet files under a folder as a reader that knows nothing of Drumline does.

Prints one JSON object: rows, files, the distinct non-null non-empty values of each column asked for,
rows that come twice by (_topic, _partition, _offset), and files that are not in a Hive folder.
"""

import json
import os
import re
import sys

import pyarrow.parquet as parquet

folder, columns = sys.argv[1], sys.argv[2:]
# No zero padding: month=1, day=2, hour=3.
HIVE = re.compile(r"month=(0|[1-9]\d*)/day=(0|[1-9]\d*)/hour=(0|[1-9]\d*)/[^/]+\.parquet$")
KEY = ["_topic", "_partition", "_offset"]
rows, files, twice, misplaced = 0, 0, 0, []
distinct = {column: set() for column in columns}
hours, seen = set(), set()
for parent, _, names in os.walk(folder):
    for name in sorted(names):
        path = os.path.join(parent, name)
        inside = os.path.relpath(path, folder)
        if not HIVE.match(inside):
            misplaced.append(inside)
            continue
        table = parquet.ParquetFile(path).read()
        files += 1
        rows += table.num_rows
        hours.add(os.path.dirname(inside))
        for column in columns:
            distinct[column].update(table[column].to_pylist())
        for key in zip(*(table[column].to_pylist() for column in KEY)):
            twice += key in seen
            seen.add(key)
print(
    json.dumps(
        {
            "rows": rows,
            "files": files,
            "hours": len(hours),
            "twice": twice,
            "misplaced": misplaced,
            "distinct": {column: len(values - {None, ""}) for column, values in distinct.items()},
        }
    )
)
