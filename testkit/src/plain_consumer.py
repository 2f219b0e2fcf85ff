"""Reads Beat~lytica's topics with a plain consumer, and compares each record with its row in the lake, field by field.

BROKERS LAKE TOPIC...  prints, for each topic, how many records and rows there are; ends with 1 at the first difference

Nothing is shared with Drumline: confluent-kafka reads, Python's own json decodes, pyarrow reads the bare files.
"""

import datetime
import json
import re
import sys
import time

import confluent_kafka as kafka
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

AT_ONCE = 20_000
SILENT = 60
HOURS = pa.schema([(name, pa.int32()) for name in ("month", "day", "hour")])
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)

ESCAPE = re.compile(
    r"\\(?:(?P<plain>['\"\\abfnrtv])|(?P<octal>[0-7]{1,3})|x(?P<x>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})|\n)"
)
PLAIN = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def unescaped(found):
    if found["plain"]:
        return PLAIN.get(found["plain"], found["plain"])
    if found["octal"]:
        return chr(int(found["octal"], 8))
    code = found["x"] or found["u"]
    return chr(int(code, 16)) if code else ""


def repaired(text):
    """Backslash escapes, then UTF-8 that was read as Latin-1, as often as it is, then quotes at the ends."""
    if text is None:
        return None
    if all(ord(char) < 256 for char in text):
        text = ESCAPE.sub(unescaped, text)
        while not text.isascii():
            try:
                text = text.encode("latin-1").decode("utf-8")
            except UnicodeError:
                break
    return text.strip('"')


def row(topic, message):
    event = json.loads(message.value())
    at = EPOCH + datetime.timedelta(milliseconds=event["ts"])
    event.update(ts=at, year=at.year, month=at.month, day=at.day, hour=at.hour)
    for name in ("artist", "song"):
        if name in event:
            event[name] = repaired(event[name])
    event.update(_topic=topic, _partition=message.partition(), _offset=message.offset())
    return event


def records(brokers, topic, partition):
    """All records of a partition, in lists."""
    settings = {
        "bootstrap.servers": brokers,
        "group.id": "plain",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
    }
    consumer = kafka.Consumer(settings)
    at = kafka.TopicPartition(topic, partition, kafka.OFFSET_BEGINNING)
    consumer.assign([at])
    _, end = consumer.get_watermark_offsets(at, timeout=SILENT)
    reached, heard = 0, time.monotonic()
    while reached < end:
        # Comes back after a second with what there is.
        found = consumer.consume(AT_ONCE, timeout=1)
        for message in found:
            if message.error():
                raise kafka.KafkaException(message.error())
        if found:
            reached, heard = found[-1].offset() + 1, time.monotonic()
            yield found
        elif time.monotonic() - heard > SILENT:
            sys.exit(f"{topic}/{partition} gave {reached} of {end} records")
    consumer.close()


def differ(wanted, found, rows):
    for name in wanted.column_names:
        ours = found[name].combine_chunks()
        if ours.equals(wanted[name].combine_chunks()):
            continue
        for at, (left, right) in enumerate(zip(wanted[name].to_pylist(), ours.to_pylist())):
            if left != right:
                return f"{name} is {right!r}, not {left!r}: {json.dumps(rows[at], default=str)}"
        return f"{name} differs in type: {ours.type}"
    return None


def check(brokers, lake, topic, partition):
    table = ds.dataset(f"{lake}/{topic}", format="parquet", partitioning=ds.partitioning(HOURS, flavor="hive"))
    found = table.to_table(filter=pc.field("_partition") == partition).sort_by("_offset")
    count = 0
    for messages in records(brokers, topic, partition):
        rows = [row(topic, message) for message in messages]
        names = set().union(*rows)
        if not names <= set(found.column_names):
            sys.exit(f"{topic}: no column for {sorted(names - set(found.column_names))}")
        fields = [field for field in found.schema if field.name in names]
        part = found.slice(count, len(rows))
        if part.num_rows != len(rows):
            sys.exit(f"{topic}/{partition}: {found.num_rows} rows, but {count + len(rows)} records and more")
        wrong = differ(pa.Table.from_pylist(rows, schema=pa.schema(fields)), part, rows)
        if wrong:
            sys.exit(f"{topic}/{partition}: {wrong}")
        for name in set(found.column_names) - names - {"_timestamp", "_key", "_headers"}:
            if part[name].null_count != part.num_rows:
                sys.exit(f"{topic}/{partition}: {name} holds values that no record has")
        count += len(rows)
    if count != found.num_rows:
        sys.exit(f"{topic}/{partition}: {found.num_rows} rows of {count} records")
    return count


def main(brokers, lake, *topics):
    known = kafka.Consumer({"bootstrap.servers": brokers, "group.id": "plain"}).list_topics(timeout=SILENT).topics
    found = {topic: sum(check(brokers, lake, topic, at) for at in sorted(known[topic].partitions)) for topic in topics}
    print(json.dumps(found))


main(*sys.argv[1:])
