//! Partition columns that are worked out from a row: added to what a route's transform results in.
//!
//! A time with a zone becomes the local time there, so that a folder is named by the day that its people had.

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::prelude::SessionContext;
use drumline_proto::PartitionColumn;
use drumline_proto::v1::RouteDefinition;

use crate::lookup::Lookups;
use crate::transform::{Transform, is_utc};
use crate::{Error, Result};

/// Why a route's rows cannot be worked out: its transform, or what it is partitioned by.
pub(crate) enum Refused {
    Transform(Error),
    PartitionBy(Error),
}

impl Refused {
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Transform(error) | Self::PartitionBy(error) => error,
        }
    }
}

/// Plans a route: its transform, and its partition columns beside what that yields.
pub(crate) async fn plan(
    session: &SessionContext,
    topic: &str,
    route: &RouteDefinition,
    input: SchemaRef,
    lookups: &Lookups,
) -> Result<Transform, Refused> {
    let folders = route.partition_columns().into_iter();
    let folders = folders.map(|column| column.name).collect();
    let planned = planned(session, topic, route, input, lookups).await?;
    Ok(planned.into_folders(folders))
}

async fn planned(
    session: &SessionContext,
    topic: &str,
    route: &RouteDefinition,
    input: SchemaRef,
    lookups: &Lookups,
) -> Result<Transform, Refused> {
    let sql = route.transform.trim().trim_end_matches(';');
    let plain = Transform::plan_with(session, topic, sql, input.clone(), lookups)
        .await
        .map_err(Refused::Transform)?;
    let columns = route.partition_columns();
    let made: Vec<(&str, &str)> = columns.iter().filter_map(expression).collect();
    if made.is_empty() {
        return Ok(plain);
    }
    if let Some((name, _)) = made
        .iter()
        .find(|(name, _)| plain.schema().column_with_name(name).is_some())
    {
        return Err(refused(topic, format!("column {name} is there already")));
    }
    let rows = match sql {
        "" => "SELECT * FROM input",
        sql => sql,
    };
    let whole =
        |columns: &[String]| format!("SELECT *, {} FROM ({rows}) AS result", columns.join(", "));
    let texts: Vec<String> = made.iter().map(|(name, sql)| column(sql, name)).collect();
    let planned = run(session, topic, &whole(&texts), &input, lookups).await?;
    let mut zoned = false;
    let texts: Vec<String> = made
        .iter()
        .map(|(name, sql)| match is_zoned(planned.schema(), name) {
            true => {
                zoned = true;
                column(&format!("to_local_time({sql})"), name)
            }
            false => column(sql, name),
        })
        .collect();
    match zoned {
        true => run(session, topic, &whole(&texts), &input, lookups).await,
        false => Ok(planned),
    }
}

fn expression(column: &PartitionColumn) -> Option<(&str, &str)> {
    Some((column.name.as_str(), column.expression.as_deref()?))
}

fn column(sql: &str, name: &str) -> String {
    format!("{sql} AS \"{name}\"")
}

async fn run(
    session: &SessionContext,
    topic: &str,
    sql: &str,
    input: &SchemaRef,
    lookups: &Lookups,
) -> Result<Transform, Refused> {
    let planned = Transform::plan_with(session, topic, sql, input.clone(), lookups).await;
    planned.map_err(|error| match error {
        Error::Transform { reason, .. } => refused(topic, reason),
        other => Refused::PartitionBy(other),
    })
}

fn refused(topic: &str, reason: String) -> Refused {
    Refused::PartitionBy(Error::Definition {
        key: "partition_by".to_owned(),
        reason: format!("partition_by of topic {topic}: {reason}"),
    })
}

/// Whether a column holds times of another zone than UTC.
fn is_zoned(schema: &SchemaRef, name: &str) -> bool {
    match schema.field_with_name(name).map(|field| field.data_type()) {
        Ok(DataType::Timestamp(_, Some(zone))) => !is_utc(zone),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use arrow::util::pretty::pretty_format_batches;

    use super::*;
    use crate::decode::Decoder;
    use crate::schema::{self, Declared};

    fn route(transform: &str, partition_by: &[&str]) -> RouteDefinition {
        RouteDefinition {
            transform: transform.to_owned(),
            partition_by: partition_by.iter().map(|text| (*text).to_owned()).collect(),
            ..Default::default()
        }
    }

    fn fields() -> Vec<Declared> {
        vec![Declared {
            name: "ts".into(),
            sql_type: String::new(),
            data_type: DataType::Int64,
            required: false,
        }]
    }

    async fn planned(route: &RouteDefinition) -> Result<Transform, String> {
        let session = SessionContext::new();
        let planned = plan(
            &session,
            "t",
            route,
            schema::input(&fields()),
            &Lookups::new(),
        )
        .await;
        planned.map_err(|refused| refused.into_error().to_string())
    }

    /// What a record of this moment becomes.
    async fn row(route: &RouteDefinition, ts: i64) -> String {
        let transform = planned(route).await.unwrap();
        let mut decoder = Decoder::json("t", fields(), 1000);
        decoder.push_values(0, &[format!("{{\"ts\":{ts}}}")]);
        let batch = decoder.finish().unwrap();
        let table = schema::table(transform.schema(), false);
        let rows = transform
            .apply(&batch.rows, &batch.origins, &table)
            .unwrap();
        assert_eq!(rows.refused, []);
        let text = pretty_format_batches(&[rows.rows]).unwrap().to_string();
        let line = text.lines().nth(3).unwrap().replace(' ', "");
        line.trim_matches('|').to_owned()
    }

    #[tokio::test]
    async fn a_day_in_a_time_zone_is_the_day_that_people_there_have() {
        // 23:30 in Berlin on November 1st is 22:30 UTC; an hour later it is the 2nd there, and the 1st in UTC.
        let at = "SELECT arrow_cast(to_timestamp_millis(ts), 'Timestamp(Microsecond, Some(\"UTC\"))') AS at FROM input";
        let by = [
            "date_trunc('day', at AT TIME ZONE 'Europe/Berlin') AS day",
            "CAST(at AT TIME ZONE 'Europe/Berlin' AS DATE) AS date",
            "year(at)",
            "hour(at AT TIME ZONE 'Europe/Berlin')",
            "hour(at) AS utc",
        ];
        let route = route(at, &by);
        let late = 1_541_111_400_000;
        assert_eq!(
            row(&route, late).await,
            "2018-11-01T22:30:00Z|2018-11-01T00:00:00|2018-11-01|2018|23|22"
        );
        assert_eq!(
            row(&route, late + 3_600_000).await,
            "2018-11-01T23:30:00Z|2018-11-02T00:00:00|2018-11-02|2018|0|23"
        );
    }

    #[tokio::test]
    async fn a_value_that_is_too_long_for_a_folder_is_refused_alone() {
        let sql = "SELECT repeat('y', CAST(ts AS INT)) AS s FROM input";
        let transform = planned(&route(sql, &["s"])).await.unwrap();
        let mut decoder = Decoder::json("t", fields(), 1000);
        let values = [3, 254, 253, 9000].map(|ts| format!("{{\"ts\":{ts}}}"));
        decoder.push_values(0, &values);
        let batch = decoder.finish().unwrap();
        let table = schema::table(transform.schema(), false);
        let rows = transform.apply(&batch.rows, &batch.origins, &table);
        let rows = rows.unwrap();
        assert_eq!(rows.rows.num_rows(), 2);
        let refused: Vec<usize> = rows.refused.iter().map(|(row, _)| *row).collect();
        assert_eq!(refused, [1, 3]);
        assert!(
            rows.refused[0].1.contains("is a folder of the table"),
            "{:?}",
            rows.refused
        );
    }

    #[tokio::test]
    async fn rows_without_a_transform_get_columns_too() {
        let route = route("", &["ts % 10 AS digit"]);
        assert_eq!(row(&route, 17).await, "17|7");
    }

    #[tokio::test]
    async fn what_cannot_be_is_refused_with_its_reason() {
        let error = planned(&route("", &["year(tsx)"])).await.unwrap_err();
        assert!(
            error.contains("partition_by of topic t") && error.contains("tsx"),
            "{error}"
        );
        let error = planned(&route("", &["ts + 1 AS ts"])).await.unwrap_err();
        assert_eq!(error, "partition_by of topic t: column ts is there already");
        let error = planned(&route("", &["row_number() OVER (ORDER BY ts) AS n"]))
            .await
            .unwrap_err();
        assert!(error.contains("row by row"), "{error}");
        let day = "CAST(to_timestamp(ts) AT TIME ZONE 'Europe/Berlin' AS DATE) AS day";
        planned(&route("", &[day])).await.unwrap();
        let error = planned(&route("", &[&day.replace("Berlin", "Berln")]))
            .await
            .unwrap_err();
        assert!(error.contains("no time zone 'Europe/Berln'"), "{error}");
    }
}
