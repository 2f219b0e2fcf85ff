//! Places in topics: where a stream begins or ends, in words and in files.

use datafusion::arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use drumline_proto::v1::{PartitionOffset, Position, StartFrom};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::value;

pub(super) const PLACES: &str = "\"earliest\", \"latest\", a moment such as \"2026-11-01T00:00:00Z\", \
                                 { timestamp = … }, { offsets = { 0 = 1200, 1 = 1100 } }";

/// Reads a place as it is given on a command line: `earliest`, `latest` or `now`, a moment, an offset for every
/// partition, or offsets of single partitions (`0:1200,1:1100`, `topic/0:1200`).
///
/// # Errors
/// What the text is not, in words.
pub fn position(text: &str) -> Result<Position, String> {
    let text = text.trim();
    match text {
        "earliest" => return Ok(at(StartFrom::Earliest)),
        "latest" | "now" => return Ok(at(StartFrom::Latest)),
        _ => {}
    }
    if let Ok(offset) = text.parse::<i64>() {
        return Ok(offsets(vec![said("", -1, offset)?]));
    }
    let each = text.split(',').map(|part| {
        let (partition, offset) = part.trim().rsplit_once(':')?;
        let (topic, partition) = partition.rsplit_once('/').unwrap_or(("", partition));
        Some((topic, partition.parse().ok()?, offset.parse().ok()?))
    });
    if let Some(each) = each.collect::<Option<Vec<(&str, i32, i64)>>>() {
        let each = each
            .into_iter()
            .map(|(topic, partition, offset)| said(topic, partition, offset));
        return Ok(offsets(each.collect::<Result<_, _>>()?));
    }
    moment(text)
}

fn moment(text: &str) -> Result<Position, String> {
    let nanos = string_to_timestamp_nanos(text)
        .map_err(|_| format!("\"{text}\" is neither a place nor a moment"))?;
    Ok(Position {
        timestamp_millis: nanos.div_euclid(1_000_000),
        ..at(StartFrom::Timestamp)
    })
}

/// Reads the value of a key of a stream file.
pub(super) fn of_file(
    value: &Spanned<DeValue<'_>>,
    text: impl Fn(&Spanned<DeValue<'_>>) -> Result<String, String>,
) -> Result<Position, String> {
    match value.get_ref() {
        DeValue::String(_) => position(&text(value)?),
        DeValue::Datetime(at) => moment(&at.to_string()),
        DeValue::Table(table) => {
            let mut entries = table.iter();
            let (Some((key, value)), None) = (entries.next(), entries.next()) else {
                return Err("holds something else than one of timestamp and offsets".to_owned());
            };
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("timestamp", DeValue::Datetime(at)) => moment(&at.to_string()),
                ("timestamp", DeValue::String(_)) => moment(&text(value)?),
                ("offsets", DeValue::Table(table)) => Ok(offsets(of_topics(table)?)),
                ("offsets", _) => Ok(offsets(vec![said("", -1, number(value)?)?])),
                (other, _) => Err(format!("holds {other}, which is no place")),
            }
        }
        other => Err(format!("is {}", value::kind(other))),
    }
}

/// `{ 0 = 5 }`, or the same by topic.
fn of_topics(table: &DeTable<'_>) -> Result<Vec<PartitionOffset>, String> {
    let mut all = Vec::new();
    for (name, value) in table {
        let name = name.get_ref().as_ref();
        match value.get_ref() {
            DeValue::Table(partitions) => {
                for (partition, offset) in partitions {
                    let partition = partition.get_ref().as_ref();
                    all.push(said(name, partition_of(partition)?, number(offset)?)?);
                }
            }
            _ => all.push(said("", partition_of(name)?, number(value)?)?),
        }
    }
    Ok(all)
}

fn partition_of(text: &str) -> Result<i32, String> {
    let partition = text.parse().ok().filter(|partition| *partition >= 0);
    partition.ok_or_else(|| format!("{text} is no partition"))
}

fn number(value: &Spanned<DeValue<'_>>) -> Result<i64, String> {
    match value.get_ref() {
        DeValue::Integer(number) => number
            .as_str()
            .parse()
            .map_err(|_| format!("{} is no offset", number.as_str())),
        other => Err(format!("an offset is {}", value::kind(other))),
    }
}

fn said(topic: &str, partition: i32, offset: i64) -> Result<PartitionOffset, String> {
    if offset < 0 {
        return Err(format!("{offset} is no offset"));
    }
    Ok(PartitionOffset {
        topic: topic.to_owned(),
        partition,
        offset,
    })
}

fn offsets(offsets: Vec<PartitionOffset>) -> Position {
    Position {
        offsets,
        ..at(StartFrom::Offsets)
    }
}

fn at(from: StartFrom) -> Position {
    Position {
        from: from.into(),
        ..Position::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_in_words() {
        let of = |text: &str| position(text).unwrap();
        assert_eq!(of("earliest").from(), StartFrom::Earliest);
        assert_eq!(of("now"), of("latest"));
        assert_eq!(
            of("2026-11-01T00:00:00Z").timestamp_millis,
            1_793_491_200_000
        );
        assert_eq!(
            of("2026-11-01T01:00:00+01:00"),
            of("2026-11-01 00:00:00"),
            "without a zone it is UTC"
        );
        assert_eq!(of("12").offsets, [said("", -1, 12).unwrap()]);
        assert_eq!(
            of("0:5, a.b/1:7").offsets,
            [said("", 0, 5).unwrap(), said("a.b", 1, 7).unwrap()]
        );
        for wrong in ["yesterday", "-3", "0:-3", ""] {
            assert!(position(wrong).is_err(), "{wrong}");
        }
    }
}
