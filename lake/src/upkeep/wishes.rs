//! What a table's properties ask of upkeep, and what there is to do about it in one version. Pure.
//!
//! | property | asks for |
//! |---|---|
//! | `auto_compact`, `delta.autoOptimize.autoCompact` | small files of a partition to be put together, from `auto_compact_files` of them on |
//! | `retention`, `retention_column` | rows to go that are older |
//! | `auto_vacuum` | files to go that no version of the last so many days names |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Datelike, DurationRound, TimeDelta, Timelike, Utc};
use datafusion::arrow::datatypes::{DataType, Schema};

use super::Compaction;
use crate::{DataFile, Error, Format, Result, TableSnapshot};

const AUTO_COMPACT: [&str; 2] = ["auto_compact", "delta.autoOptimize.autoCompact"];
const AUTO_COMPACT_FILES: &str = "auto_compact_files";
const RETENTION: &str = "retention";
const RETENTION_COLUMN: &str = "retention_column";
const AUTO_VACUUM: &str = "auto_vacuum";

/// As many as Delta's other writers wait for.
const COMPACT_FILES: usize = 50;

/// What is kept where a table asks to be vacuumed and does not say more; nothing less is accepted.
const VACUUM_KEEPS: Duration = Duration::from_secs(7 * 24 * 3600);
const VACUUM_KEEPS_LEAST: Duration = Duration::from_secs(24 * 3600);

/// What whole numbers are to be named after.
const UNITS: [&str; 4] = ["year", "month", "day", "hour"];

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a table asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Small files of a partition that are put together, at least so many.
    pub compact: Option<usize>,
    /// Which rows go.
    pub retention: Option<Retention>,
    /// What `VACUUM` keeps.
    pub vacuum: Option<Duration>,
}

/// Rows that go once they are old.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// What is younger stays.
    pub keep: Duration,
    /// A date, a timestamp or a text that begins like one; or whole numbers for year, month, day and hour, as many
    /// as there are.
    pub columns: Vec<String>,
}

/// Rows of a version that are too old.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// The day or hour before which rows go.
    pub before: DateTime<Utc>,
    /// Where whole partitions go: their values.
    pub partitions: Option<BTreeSet<Vec<Option<String>>>>,
}

impl Wishes {
    /// What some properties ask for.
    ///
    /// # Errors
    /// A value that cannot be understood, by name.
    pub fn of(table: &str, properties: &BTreeMap<String, String>) -> Result<Self> {
        let wrong = |property: &str, accepted: &'static str| Error::Property {
            table: table.to_owned(),
            property: property.to_owned(),
            value: properties.get(property).cloned().unwrap_or_default(),
            accepted,
        };
        let mut wishes = Self::default();
        for property in AUTO_COMPACT {
            let wants = match properties.get(property).map(String::as_str) {
                None | Some("false") => false,
                Some("true" | "auto") => true,
                Some(_) => return Err(wrong(property, "'true' or 'false'")),
            };
            if wants {
                wishes.compact = Some(COMPACT_FILES);
            }
        }
        if let Some(files) = properties.get(AUTO_COMPACT_FILES) {
            let files = files.parse().ok().filter(|files| *files >= 2);
            let files = files.ok_or_else(|| wrong(AUTO_COMPACT_FILES, "a number from 2 on"))?;
            wishes.compact = wishes.compact.map(|_| files);
        }
        let times = "a time, such as '90 days', '12 weeks' or '36 hours'";
        if let Some(keep) = properties.get(RETENTION) {
            let keep = time(keep).ok_or_else(|| wrong(RETENTION, times))?;
            let named = properties.get(RETENTION_COLUMN).map(String::as_str);
            let columns: Vec<String> = named
                .unwrap_or_default()
                .split(',')
                .map(|column| column.trim().to_owned())
                .filter(|column| !column.is_empty())
                .collect();
            if columns.is_empty() || columns.len() > 4 {
                return Err(wrong(
                    RETENTION_COLUMN,
                    "the column that tells a row's time, or those for year, month, day and hour",
                ));
            }
            wishes.retention = Some(Retention { keep, columns });
        }
        wishes.vacuum = match properties.get(AUTO_VACUUM).map(String::as_str) {
            None | Some("false") => None,
            Some("true") => Some(VACUUM_KEEPS),
            Some(text) => {
                let keep = time(text).filter(|keep| *keep >= VACUUM_KEEPS_LEAST);
                Some(keep.ok_or_else(|| {
                    wrong(
                        AUTO_VACUUM,
                        "'true', or a time from '1 day' on that is kept",
                    )
                })?)
            }
        };
        Ok(wishes)
    }

    /// The same, for a table of these columns.
    ///
    /// # Errors
    /// The time of its rows is in no column that tells it.
    pub fn checked(
        table: &str,
        properties: &BTreeMap<String, String>,
        schema: &Schema,
        partition_columns: &[String],
        format: Format,
    ) -> Result<Self> {
        let wishes = Self::of(table, properties)?;
        if let Some(retention) = &wishes.retention {
            retention.check(table, schema, partition_columns, format)?;
        }
        Ok(wishes)
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Retention {
    fn check(
        &self,
        table: &str,
        schema: &Schema,
        partition_columns: &[String],
        format: Format,
    ) -> Result<()> {
        let wrong = |accepted: &'static str| Error::Property {
            table: table.to_owned(),
            property: RETENTION_COLUMN.to_owned(),
            value: self.columns.join(", "),
            accepted,
        };
        for (column, unit) in self.columns.iter().zip(UNITS) {
            let Ok(field) = schema.field_with_name(column) else {
                return Err(wrong("columns of the table"));
            };
            let kind = field.data_type();
            let is_time = matches!(
                kind,
                DataType::Date32 | DataType::Timestamp(_, _) | DataType::Utf8
            );
            // A number that is something else must never be taken for a year.
            let is_unit = kind.is_integer() && column.to_lowercase().contains(unit);
            if !(is_unit || is_time && self.columns.len() == 1) {
                return Err(wrong(
                    "one date, timestamp or text such as '2026-11-21', or whole numbers named year, month, day, hour",
                ));
            }
        }
        let is_in_folders = self.is_in_folders(partition_columns);
        match format == Format::Parquet && !is_in_folders {
            true => Err(wrong(
                "partition columns: rows of a plain Parquet table go by whole partitions",
            )),
            false => Ok(()),
        }
    }

    fn is_in_folders(&self, partition_columns: &[String]) -> bool {
        self.columns
            .iter()
            .all(|column| partition_columns.contains(column))
    }

    /// Whole days, so that a day's rows go together; whole hours where little is kept and columns tell hours.
    fn before(&self, now: DateTime<Utc>, kind: &DataType) -> DateTime<Utc> {
        let keep = TimeDelta::from_std(self.keep).unwrap_or(TimeDelta::MAX);
        let before = now.checked_sub_signed(keep).unwrap_or(DateTime::UNIX_EPOCH);
        let tells_hours = matches!(kind, DataType::Timestamp(_, _)) || self.columns.len() == 4;
        let unit = match tells_hours && self.keep < 2 * DAY {
            true => TimeDelta::hours(1),
            false => TimeDelta::days(1),
        };
        before.duration_trunc(unit).unwrap_or(before)
    }

    /// The numbers for year, month, day and hour of a time, as many as there are columns.
    pub fn numbers(&self, time: DateTime<Utc>) -> Vec<i64> {
        let all = [
            i64::from(time.year()),
            i64::from(time.month()),
            i64::from(time.day()),
            i64::from(time.hour()),
        ];
        all.into_iter().take(self.columns.len()).collect()
    }

    /// Whether a partition holds only what is older, by the texts that name it; `None` where they tell nothing.
    fn is_old(
        &self,
        values: &[Option<&str>],
        kind: &DataType,
        before: DateTime<Utc>,
    ) -> Option<bool> {
        if kind.is_integer() {
            let numbers: Option<Vec<i64>> = values
                .iter()
                .map(|value| value.and_then(|value| value.parse().ok()))
                .collect();
            return Some(numbers? < self.numbers(before));
        }
        let [Some(value)] = values else { return None };
        // Dates and timestamps in texts sort as they follow each other.
        let begins = before.format("%Y-%m-%dT%H:%M:%S").to_string();
        let value = value.replace(' ', "T");
        let same = value.len().min(begins.len());
        Some(value.get(..same)? < begins.get(..same)?)
    }
}

impl TableSnapshot {
    /// Partitions that have at least so many small files which become fewer when they are put together: those with
    /// the most first.
    ///
    /// # Errors
    /// The table's properties ask for what nobody understands.
    pub fn to_compact(&self, least: usize) -> Result<Vec<Vec<Option<String>>>> {
        let all = (0..self.files.len()).collect();
        let small = Compaction::of_small_files(self, &all)?;
        let mut by_partition: BTreeMap<&[Option<String>], usize> = BTreeMap::new();
        for file in small
            .files
            .iter()
            .filter_map(|place| self.files.get(*place))
        {
            *by_partition.entry(&file.partition_values).or_default() += 1;
        }
        let mut found: Vec<_> = by_partition
            .into_iter()
            .filter(|(_, files)| *files >= least)
            .collect();
        found.sort_by_key(|(_, files)| std::cmp::Reverse(*files));
        Ok(found
            .into_iter()
            .map(|(values, _)| values.to_vec())
            .collect())
    }

    /// Rows that are too old, as far as partitions and the bounds of files tell.
    pub fn expired(&self, retention: &Retention, now: DateTime<Utc>) -> Option<Expired> {
        let first = retention.columns.first()?;
        let kind = self.schema.field_with_name(first).ok()?.data_type();
        let before = retention.before(now, kind);
        if retention.is_in_folders(&self.partition_columns) {
            let place = |column| self.partition_columns.iter().position(|one| one == column);
            let places: Vec<usize> = retention.columns.iter().filter_map(place).collect();
            let is_old = |file: &DataFile| {
                let values: Vec<Option<&str>> = places
                    .iter()
                    .map(|place| file.partition_values.get(*place)?.as_deref())
                    .collect();
                retention.is_old(&values, kind, before) == Some(true)
            };
            let old = self.files.iter().filter(|file| is_old(file));
            let partitions: BTreeSet<_> = old.map(|file| file.partition_values.clone()).collect();
            return (!partitions.is_empty()).then_some(Expired {
                before,
                partitions: Some(partitions),
            });
        }
        let may_be_old = |file: &DataFile| {
            let least: Option<Vec<String>> = retention
                .columns
                .iter()
                .map(|column| least(file, column))
                .collect();
            let Some(least) = least else {
                // It does not tell: only its rows do.
                return file.rows > 0;
            };
            let texts: Vec<Option<&str>> = least.iter().map(|text| Some(text.as_str())).collect();
            // Of several columns each has a bound of its own; no row lies before all of them together.
            retention.is_old(&texts, kind, before) != Some(false)
        };
        let mut files = self.files.iter();
        files.any(|file| may_be_old(file)).then_some(Expired {
            before,
            partitions: None,
        })
    }
}

/// The least value of a column in a file, as text.
fn least(file: &DataFile, column: &str) -> Option<String> {
    let least = file.statistics.as_ref()?.get("minValues")?.get(column)?;
    match least {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// `90 days`, `12 weeks`, `36 hours`; Delta's `interval 90 days` too.
fn time(text: &str) -> Option<Duration> {
    let text = text.trim().to_lowercase();
    let text = text.strip_prefix("interval ").unwrap_or(&text).trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let hours: u64 = match unit.trim() {
        "hour" | "hours" | "h" => 1,
        "day" | "days" | "d" => 24,
        "week" | "weeks" => 7 * 24,
        _ => return None,
    };
    let hours = number.parse::<u64>().ok()?.checked_mul(hours)?;
    // A thousand years are for ever.
    (1..=24 * 365_250)
        .contains(&hours)
        .then(|| Duration::from_secs(hours * 3600))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::datatypes::{Field, TimeUnit};

    use super::*;
    use crate::TableName;

    fn wishes(properties: &[(&str, &str)]) -> Result<Wishes> {
        let properties = properties
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Wishes::of("t", &properties.collect())
    }

    fn now() -> DateTime<Utc> {
        "2026-11-21T17:30:00Z".parse().unwrap()
    }

    #[test]
    fn properties_say_what_is_wanted() {
        assert!(wishes(&[("auto_compact", "false")]).unwrap().is_empty());
        let found = wishes(&[
            ("delta.autoOptimize.autoCompact", "true"),
            ("auto_compact_files", "8"),
            ("retention", "interval 90 days"),
            ("retention_column", "at"),
            ("auto_vacuum", "2 weeks"),
        ]);
        let wanted = Wishes {
            compact: Some(8),
            retention: Some(Retention {
                keep: 90 * DAY,
                columns: vec!["at".to_owned()],
            }),
            vacuum: Some(14 * DAY),
        };
        assert_eq!(found.unwrap(), wanted);
        for (property, value) in [
            ("auto_compact", "yes"),
            ("retention", "90"),
            ("retention", "0 days"),
            ("retention", "99999999999 weeks"),
            ("auto_vacuum", "3 hours"),
        ] {
            let error = wishes(&[(property, value), ("retention_column", "at")]).unwrap_err();
            assert!(error.to_string().contains(property), "{error}");
        }
        let error = wishes(&[("retention", "1 day")]).unwrap_err().to_string();
        assert!(error.contains("retention_column"), "{error}");
    }

    fn snapshot(fields: Vec<Field>, partitions: &[&str], files: Vec<DataFile>) -> TableSnapshot {
        TableSnapshot {
            name: TableName::bare("t"),
            location: "memory:///t/".parse().unwrap(),
            format: Format::Delta,
            properties: BTreeMap::new(),
            version: 1,
            schema: Arc::new(Schema::new(fields)),
            partition_columns: partitions.iter().map(|name| (*name).to_owned()).collect(),
            files: files.into_iter().map(Arc::new).collect(),
            offsets: BTreeMap::new(),
            topic_ids: BTreeMap::new(),
        }
    }

    fn retention(keep: Duration, columns: &[&str]) -> Retention {
        Retention {
            keep,
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn partitions_that_fall_out_are_named() {
        let file = |values: [&str; 3]| {
            let values = values.map(|value| (!value.is_empty()).then(|| value.to_owned()));
            DataFile::new(format!("{values:?}"), 1, 1, values.to_vec(), None)
        };
        let numbers = ["year", "month", "day"].map(|name| Field::new(name, DataType::Int32, true));
        let days = [
            ["2026", "11", "19"],
            ["2026", "9", "30"],
            ["2025", "12", "31"],
            ["", "1", "1"],
        ];
        let found = snapshot(
            numbers.to_vec(),
            &["year", "month", "day"],
            days.map(file).into(),
        );
        let expired = found.expired(&retention(30 * DAY, &["year", "month", "day"]), now());
        let partitions = expired.unwrap().partitions.unwrap();
        let partitions: Vec<String> = partitions
            .iter()
            .map(|values| {
                values
                    .iter()
                    .flatten()
                    .cloned()
                    .collect::<Vec<_>>()
                    .join("-")
            })
            .collect();
        assert_eq!(partitions, ["2025-12-31", "2026-9-30"]);
        let kept = retention(3650 * DAY, &["year", "month", "day"]);
        assert_eq!(found.expired(&kept, now()), None);
    }

    #[test]
    fn bounds_tell_whether_rows_may_be_too_old() {
        let utc = Some(Arc::from("UTC"));
        let at = Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, utc), true);
        let file = |least: Option<&str>| {
            let statistics = least.map(|least| serde_json::json!({"minValues": {"at": least}}));
            DataFile::new("a".to_owned(), 1, 1, Vec::new(), statistics)
        };
        let week = retention(7 * DAY, &["at"]);
        let before: DateTime<Utc> = "2026-11-14T00:00:00Z".parse().unwrap();
        for (least, is_old) in [
            (Some("2026-11-14T00:00:00.000Z"), false),
            (Some("2026-11-13T23:59:59.999Z"), true),
            (Some("2026-11-20T00:00:00.000Z"), false),
            (None, true),
        ] {
            let found = snapshot(vec![at.clone()], &[], vec![file(least)]).expired(&week, now());
            let expected = is_old.then_some(Expired {
                before,
                partitions: None,
            });
            assert_eq!(found, expected, "{least:?}");
        }
        let short = retention(36 * Duration::from_secs(3600), &["at"]);
        for (kind, before) in [
            (at.data_type(), "2026-11-20T05:00:00Z"),
            (&DataType::Date32, "2026-11-20T00:00:00Z"),
        ] {
            let before: DateTime<Utc> = before.parse().unwrap();
            assert_eq!(short.before(now(), kind), before);
        }
    }

    #[test]
    fn a_column_that_tells_no_time_is_refused() {
        let schema = Schema::new(vec![
            Field::new("at", DataType::Date32, true),
            Field::new("level", DataType::Float64, true),
            Field::new("user_id", DataType::Int64, true),
            Field::new("year", DataType::Int32, true),
        ]);
        let check = |column: &str, format| {
            let properties = [("retention", "1 day"), ("retention_column", column)];
            let properties = properties.map(|(key, value)| (key.to_owned(), value.to_owned()));
            Wishes::checked("t", &properties.into(), &schema, &[], format)
        };
        assert!(check("at", Format::Delta).is_ok());
        assert!(check("year", Format::Delta).is_ok());
        for (column, format) in [
            ("level", Format::Delta),
            ("user_id", Format::Delta),
            ("at, year", Format::Delta),
            ("nothing", Format::Delta),
            ("at", Format::Parquet),
        ] {
            let error = check(column, format).unwrap_err().to_string();
            assert!(error.contains("retention_column"), "{error}");
        }
    }
}
