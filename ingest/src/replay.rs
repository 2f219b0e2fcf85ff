//! Dead letters decoded again, with a stream's present definition: those that pass become staged rows of their tables,
//! the others stay dead with their new reasons. Nothing is committed here, so it may be repeated.
//!
//! A letter that a table has already (its rows were committed, and the letter was not taken away yet) is left out for
//! that table. Where a topic has several tables, a reason says which of them refused the record; the others have it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::DFSchema;
use datafusion::physical_expr::PhysicalExpr;
use drumline_lake::{FileRows, StagedFile, WriteTarget, Writer};
use drumline_proto::v1;

use crate::assignment::{Section, section, target};
use crate::decode::{self, Decoder, Letters, Record, headers, letters};
use crate::host::Options;
use crate::places::Places;
use crate::roll::Target;
use crate::{Error, Result, schema};

/// How long a letter may wait for its schema, and how often is looked.
const SCHEMA_WITHIN: Duration = Duration::from_secs(30);
const WAIT_STEP: Duration = Duration::from_millis(20);

/// Topic, partition, offset.
type Position = (String, i32, i64);

pub(crate) async fn replay(options: &Options, order: v1::ReplayLetters) -> v1::LettersReplayed {
    let id = order.id;
    let answer = match Replay::new(options, &order).await {
        Ok(replay) => replay.run(&order).await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(answer) => v1::LettersReplayed { id, ..answer },
        Err(error) => v1::LettersReplayed {
            id,
            failure: Some(error.failure()),
            ..v1::LettersReplayed::default()
        },
    }
}

struct Replay<'a> {
    options: &'a Options,
    condition: Arc<dyn PhysicalExpr>,
    /// Each `[[topic]]` with what its tables get.
    opened: Vec<Opened>,
    section_of: HashMap<String, usize>,
    /// Letters that a table has already.
    done: HashMap<String, HashSet<Position>>,
    left: u64,
    letters: Output,
    answer: v1::LettersReplayed,
    removed: Vec<Position>,
}

struct Opened {
    section: Section,
    places: Places,
    outputs: Vec<Output>,
}

/// What one table gets.
struct Output {
    table: String,
    target: WriteTarget,
    writer: Option<Writer>,
    letters: Vec<Position>,
    rows: u64,
}

/// A batch of the dead letters' table, column by column.
struct Columns {
    topics: arrow::array::StringArray,
    partitions: arrow::array::Int32Array,
    offsets: arrow::array::Int64Array,
    timestamps: arrow::array::TimestampMicrosecondArray,
    keys: arrow::array::BinaryArray,
    values: arrow::array::BinaryArray,
    headers: arrow::array::ListArray,
    reasons: arrow::array::StringArray,
}

impl<'a> Replay<'a> {
    async fn new(options: &'a Options, order: &v1::ReplayLetters) -> Result<Self> {
        let definition = order.definition.clone().unwrap_or_default();
        let registry = decode::registry(definition.registry.as_ref())?;
        let mut opened = Vec::new();
        let mut section_of = HashMap::new();
        for (index, topic) in definition.topics.iter().enumerate() {
            let places = Places::new(topic.names().map(str::to_owned));
            for name in topic.names() {
                section_of.insert(name.to_owned(), index);
            }
            let target = |table: &str| target(&order.tables, table, &[]);
            let place = (&definition, order.lake.as_str());
            let section =
                section(options, place, registry.as_ref(), index, target, &places).await?;
            let routes = section.routes.iter();
            opened.push(Opened {
                outputs: routes
                    .map(|route| Output::new(route.target.clone()))
                    .collect(),
                section,
                places,
            });
        }
        let letters = target(&order.tables, &definition.dead_letters, &[])?;
        let done = order.done.iter().map(|table| {
            let letters = table.letters.iter().flat_map(|range| {
                let at = |offset| (range.topic.clone(), range.partition, offset);
                (range.from..range.to).map(at).collect::<Vec<_>>()
            });
            (table.table.clone(), letters.collect())
        });
        Ok(Self {
            options,
            condition: condition(options, &order.condition)?,
            opened,
            section_of,
            done: done.collect(),
            left: match order.limit {
                0 => u64::MAX,
                limit => limit,
            },
            letters: Output::new(letters),
            answer: v1::LettersReplayed::default(),
            removed: Vec::new(),
        })
    }

    async fn run(mut self, order: &v1::ReplayLetters) -> Result<v1::LettersReplayed> {
        for file in &order.files {
            let Some(chosen) = self.choose(order, file).await? else {
                continue;
            };
            self.answer.read.push(file.clone());
            let mut chosen = chosen.into_iter();
            for batch in open(self.options, &self.letters.table, order, file).await? {
                let batch = batch.map_err(|source| staging(&self.letters.table, source))?;
                let marks: Vec<bool> = chosen.by_ref().take(batch.num_rows()).collect();
                self.decode(&batch, &marks).await?;
            }
        }
        self.finish().await
    }

    /// Which rows of a file are decoded: those that were asked for, and those that a table has already. None where that is
    /// no row: the file stays.
    async fn choose(&mut self, order: &v1::ReplayLetters, file: &str) -> Result<Option<Vec<bool>>> {
        let mut chosen = Vec::new();
        let rows = open(self.options, &self.letters.table, order, file).await?;
        for batch in rows {
            let batch = normal(&batch.map_err(|source| staging(&self.letters.table, source))?)?;
            let columns = Columns::of(&batch)?;
            let wanted = self
                .condition
                .evaluate(&batch)
                .and_then(|wanted| wanted.into_array(batch.num_rows()))
                .map_err(|error| refused(&error.to_string()))?;
            let wanted = wanted.as_boolean();
            for row in 0..batch.num_rows() {
                let position = columns.position(row);
                let is_ours = self.section_of.contains_key(&position.0);
                let is_done = self.done.values().any(|done| done.contains(&position));
                let is_wanted = wanted.is_valid(row) && wanted.value(row) && self.left > 0;
                if is_ours && is_wanted && !is_done {
                    self.left -= 1;
                }
                chosen.push(is_ours && (is_done || is_wanted));
            }
        }
        Ok(chosen.contains(&true).then_some(chosen))
    }

    /// Decodes the marked rows of a batch; the others stay dead as they are.
    async fn decode(&mut self, batch: &RecordBatch, marks: &[bool]) -> Result<()> {
        let batch = &normal(batch)?;
        let others: BooleanArray = marks.iter().map(|mark| Some(!mark)).collect();
        let others = filter_record_batch(batch, &others).map_err(|error| bug(&error))?;
        let others = letters::fitted(others, &self.letters.target)?;
        self.letters.write(self.options, &others).await?;

        // Letters of one `[[topic]]` that go to the same tables are decoded together.
        let columns = Columns::of(batch)?;
        let mut groups: BTreeMap<(usize, BTreeSet<usize>), Vec<usize>> = BTreeMap::new();
        for (row, _) in marks.iter().enumerate().filter(|(_, mark)| **mark) {
            let position = columns.position(row);
            let Some(section) = self.section_of.get(&position.0).copied() else {
                continue;
            };
            self.answer.letters += 1;
            let routes = self.routes(section, &position, columns.reasons.value(row));
            match routes.is_empty() {
                true => self.passed(position),
                false => groups.entry((section, routes)).or_default().push(row),
            }
        }
        for ((section, routes), rows) in groups {
            self.decode_group(&columns, section, &routes, &rows).await?;
        }
        Ok(())
    }

    /// The tables of a topic that have to get a letter's record still.
    fn routes(&self, section: usize, position: &Position, reason: &str) -> BTreeSet<usize> {
        let outputs = &self.opened[section].outputs;
        let refused_by = reason
            .strip_prefix("table ")
            .and_then(|rest| rest.split_once(": "))
            .map(|(table, _)| table)
            .filter(|table| outputs.len() > 1 && outputs.iter().any(|own| own.table == *table));
        let is_open = |output: &Output| {
            let done = self.done.get(&output.table);
            refused_by.is_none_or(|table| output.table == table)
                && done.is_none_or(|done| !done.contains(position))
        };
        let open = outputs
            .iter()
            .enumerate()
            .filter(|(_, output)| is_open(output));
        open.map(|(route, _)| route).collect()
    }

    async fn decode_group(
        &mut self,
        columns: &Columns,
        section: usize,
        routes: &BTreeSet<usize>,
        rows: &[usize],
    ) -> Result<()> {
        let Opened {
            section,
            places,
            outputs,
        } = &mut self.opened[section];
        let (mut row_of, mut buffer) = (HashMap::new(), Vec::new());
        for row in rows {
            let position = columns.position(*row);
            let (topic, partition, offset) = &position;
            let Some(place) = places.place(topic, *partition) else {
                continue;
            };
            let record = columns.record(*row, place, &mut buffer);
            wait(&mut section.decoder, record, &position).await?;
            row_of.insert((place, *offset), *row);
            section.decoder.push(record);
        }
        let batch = section.decoder.finish()?;
        let mut dead = Letters::new(places.clone());
        let mut failed: HashSet<usize> = HashSet::new();
        let several = outputs.len() > 1;
        // Nobody could decode it: every table that waits for it has a letter of its own, if there are several.
        for letter in 0..batch.dead.len() {
            let row = batch
                .dead
                .position(letter)
                .and_then(|at| row_of.get(&at).copied());
            let (Some(row), Some(reason)) = (row, batch.dead.reason(letter)) else {
                continue;
            };
            failed.insert(row);
            let is_split = several && routes.len() < outputs.len();
            let (place, _) = batch.dead.position(letter).unwrap_or_default();
            match is_split {
                false => dead.push(columns.record(row, place, &mut buffer), reason),
                true => {
                    for route in routes {
                        let reason = format!("table {}: {reason}", outputs[*route].table);
                        dead.push(columns.record(row, place, &mut buffer), &reason);
                    }
                }
            }
        }
        for route in routes.iter().filter(|_| batch.rows.num_rows() > 0) {
            let (output, route) = (&mut outputs[*route], &section.routes[*route]);
            let transformed =
                route
                    .transform
                    .apply(&batch.rows, &batch.origins, &route.table_schema)?;
            let mut refused = HashSet::new();
            for (at, reason) in &transformed.refused {
                let Some(record) = batch.origins.record(*at) else {
                    continue;
                };
                refused.insert(*at);
                failed.extend(row_of.get(&(record.partition, record.offset)));
                match several {
                    true => dead.push(record, &format!("table {}: {reason}", output.table)),
                    false => dead.push(record, reason),
                }
            }
            for at in (0..batch.rows.num_rows()).filter(|at| !refused.contains(at)) {
                if let Some((place, offset)) = batch.origins.position(at) {
                    let topic = places.topic(place).to_owned();
                    output
                        .letters
                        .push((topic, places.partition(place), offset));
                }
            }
            output.write(self.options, &transformed.rows).await?;
        }
        for row in rows.iter().filter(|row| !failed.contains(*row)) {
            let position = columns.position(*row);
            self.answer.passed += 1;
            self.removed.push(position);
        }
        for (reason, count) in dead.reasons() {
            *self.answer.reasons.entry(reason).or_default() += count;
        }
        if dead.len() > 0 {
            let rows = dead.finish(chrono::Utc::now().timestamp_micros())?;
            let rows = letters::fitted(rows, &self.letters.target)?;
            self.letters.write(self.options, &rows).await?;
        }
        Ok(())
    }

    fn passed(&mut self, position: Position) {
        self.answer.passed += 1;
        self.removed.push(position);
    }

    async fn finish(mut self) -> Result<v1::LettersReplayed> {
        let json = |files: Vec<StagedFile>| {
            serde_json::to_vec(&files).map_err(|error| Error::Bug {
                context: format!("staged files: {error}"),
            })
        };
        for opened in self.opened {
            for output in opened.outputs {
                if output.letters.is_empty() {
                    continue;
                }
                let (table, rows, letters) =
                    (output.table.clone(), output.rows, ranges(&output.letters));
                self.answer.tables.push(v1::OfferedTable {
                    table,
                    ranges: letters,
                    files_json: json(output.finish().await?)?,
                    rows,
                    ..v1::OfferedTable::default()
                });
            }
        }
        self.answer.removed = ranges(&self.removed);
        self.answer.letters_json = json(self.letters.finish().await?)?;
        Ok(self.answer)
    }
}

async fn open(
    options: &Options,
    table: &str,
    order: &v1::ReplayLetters,
    file: &str,
) -> Result<FileRows> {
    FileRows::open(&options.stores, table, &order.location, file)
        .await
        .map_err(|source| staging(table, source))
}

fn staging(table: &str, source: drumline_lake::Error) -> Error {
    Error::Stage {
        table: table.to_owned(),
        source: Box::new(source),
    }
}

impl Output {
    fn new(target: Target) -> Self {
        Self {
            table: target.table,
            target: target.write,
            writer: None,
            letters: Vec::new(),
            rows: 0,
        }
    }

    async fn write(&mut self, options: &Options, rows: &RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let failed = |source| Error::Stage {
            table: self.table.clone(),
            source: Box::new(source),
        };
        if self.writer.is_none() {
            self.writer = Some(Writer::new(&options.stores, &self.target).map_err(failed)?);
        }
        self.rows += rows.num_rows() as u64;
        match &mut self.writer {
            Some(writer) => writer.write(rows).await.map_err(failed),
            None => Ok(()),
        }
    }

    async fn finish(self) -> Result<Vec<StagedFile>> {
        let Some(writer) = self.writer else {
            return Ok(Vec::new());
        };
        writer.finish().await.map_err(|source| Error::Stage {
            table: self.table,
            source: Box::new(source),
        })
    }
}

impl Columns {
    fn of(batch: &RecordBatch) -> Result<Self> {
        let column = |name: &str| {
            let column = batch.column_by_name(name);
            column.ok_or_else(|| bug(&format!("there is no column {name}")))
        };
        Ok(Self {
            topics: column("_topic")?.as_string().clone(),
            partitions: column("_partition")?.as_primitive::<Int32Type>().clone(),
            offsets: column("_offset")?.as_primitive::<Int64Type>().clone(),
            timestamps: column("_timestamp")?
                .as_primitive::<TimestampMicrosecondType>()
                .clone(),
            keys: column("key")?.as_binary().clone(),
            values: column("value")?.as_binary().clone(),
            headers: column("headers")?.as_list().clone(),
            reasons: column("reason")?.as_string().clone(),
        })
    }

    fn position(&self, row: usize) -> Position {
        (
            self.topics.value(row).to_owned(),
            self.partitions.value(row),
            self.offsets.value(row),
        )
    }

    /// The record of a letter, its headers kept in `buffer`.
    fn record<'a>(&'a self, row: usize, place: i32, buffer: &'a mut Vec<u8>) -> Record<'a> {
        let at = self.timestamps.is_valid(row);
        Record {
            partition: place,
            offset: self.offsets.value(row),
            timestamp: at.then(|| self.timestamps.value(row).div_euclid(1000)),
            key: self.keys.is_valid(row).then(|| self.keys.value(row)),
            value: self.values.is_valid(row).then(|| self.values.value(row)),
            headers: headers::read(&self.headers, row, buffer),
        }
    }
}

/// Stands still until the decoder can take the record; a registry that is away for long ends the replay.
async fn wait(decoder: &mut Decoder, record: Record<'_>, position: &Position) -> Result<()> {
    let begun = Instant::now();
    while let Some(reason) = decoder.waits(record) {
        if begun.elapsed() >= SCHEMA_WITHIN {
            let (topic, partition, offset) = position.clone();
            return Err(Error::Waiting {
                topic,
                partition,
                offset,
                reason,
            });
        }
        tokio::time::sleep(WAIT_STEP).await;
    }
    Ok(())
}

/// A batch with the columns of dead letters, in their order and types; null where they were written without.
fn normal(batch: &RecordBatch) -> Result<RecordBatch> {
    let schema = schema::dead_letters();
    let columns = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) => cast(column, field.data_type()).map_err(|error| bug(&error)),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    RecordBatch::try_new(schema, columns).map_err(|error| bug(&error))
}

/// SQL over the columns of dead letters.
fn condition(options: &Options, sql: &str) -> Result<Arc<dyn PhysicalExpr>> {
    let session = (options.session)().map_err(|error| bug(&error))?;
    let schema = DFSchema::try_from(schema::dead_letters()).map_err(|error| bug(&error))?;
    let sql = match sql.trim() {
        "" => "true",
        sql => sql,
    };
    let planned = session
        .parse_sql_expr(sql, &schema)
        .and_then(|expression| session.create_physical_expr(expression, &schema));
    let planned = planned.map_err(|error| refused(&error.to_string()))?;
    match planned.data_type(schema.as_arrow()) {
        Ok(DataType::Boolean) => Ok(planned),
        Ok(other) => Err(refused(&format!("`{sql}` is {other}, not true or false"))),
        Err(error) => Err(refused(&error.to_string())),
    }
}

fn refused(reason: &str) -> Error {
    Error::Definition {
        key: "where".to_owned(),
        reason: reason.to_owned(),
    }
}

fn bug(error: &dyn std::fmt::Display) -> Error {
    Error::Bug {
        context: format!("dead letters: {error}"),
    }
}

/// Positions as ranges, in order.
fn ranges(positions: &[Position]) -> Vec<v1::OffsetRange> {
    let positions: BTreeSet<&Position> = positions.iter().collect();
    let mut ranges: Vec<v1::OffsetRange> = Vec::new();
    for (topic, partition, offset) in positions {
        match ranges.last_mut() {
            Some(last)
                if last.topic == *topic && last.partition == *partition && last.to == *offset =>
            {
                last.to += 1;
            }
            _ => ranges.push(v1::OffsetRange {
                topic: topic.clone(),
                partition: *partition,
                from: *offset,
                to: offset + 1,
                ..Default::default()
            }),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_beside_each_other_are_one_range() {
        let at = |partition, offset| ("t".to_owned(), partition, offset);
        let found = ranges(&[at(0, 7), at(1, 8), at(0, 5), at(0, 6), at(0, 9)]);
        let found: Vec<_> = found
            .iter()
            .map(|range| (range.partition, range.from, range.to))
            .collect();
        assert_eq!(found, [(0, 5, 8), (0, 9, 10), (1, 8, 9)]);
    }
}
