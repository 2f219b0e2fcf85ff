//! Columns of a stream's tables that get a wider type.
//!
//! A statement writes the table's files anew, while nobody reads the stream. What it takes over is every row
//! there is, and the table's offsets stay where they are.

use arrow::datatypes::{DataType, Schema};
use drumline_lake::Format;
use drumline_proto::v1::FailureKind;

use super::apply::{Applier, Refusal, refusal};
use super::service;
use super::targets::Target;

impl Applier {
    /// Gives columns the types that the targets want, where these hold everything that is there.
    pub(super) async fn widen(&self, targets: &[Target]) -> Result<(), Refusal> {
        for target in targets.iter().filter(|target| target.may_widen) {
            let held = self
                .tables
                .now(&target.text)
                .await
                .map_err(|error| Refusal {
                    key: target.key.clone(),
                    failure: service::failure_of(&error),
                })?;
            for (column, sql_type) in wider(held.format, &held.schema, &target.schema) {
                let (schema, table) = (quoted(&target.name.schema), quoted(&target.name.name));
                let column = quoted(&column);
                let text =
                    format!("ALTER TABLE {schema}.{table} ALTER COLUMN {column} TYPE {sql_type}");
                let name = format!("wider column of {}", target.text);
                if let Err(reason) = self.statements.run(name, text).await {
                    let message = format!(
                        "column {column} of table {} did not become {sql_type}: {}",
                        target.text, reason.0
                    );
                    let kind = FailureKind::User;
                    return Err(refusal(kind, target.key.clone(), message, ""));
                }
            }
        }
        Ok(())
    }
}

/// Columns of a table whose type is narrower than what is wanted, and what they become.
fn wider(format: Format, held: &Schema, wanted: &Schema) -> Vec<(String, &'static str)> {
    let fields = wanted.fields().iter();
    fields
        .filter_map(|field| {
            let own = held.field_with_name(field.name()).ok()?;
            drumline_lake::widens(format, own.data_type(), field.data_type())?;
            let sql_type = match field.data_type() {
                DataType::Int16 => "SMALLINT",
                DataType::Int32 => "INTEGER",
                DataType::Int64 => "BIGINT",
                DataType::Float64 => "DOUBLE",
                _ => return None,
            };
            Some((field.name().clone(), sql_type))
        })
        .collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn only_narrower_columns_are_changed() {
        let schema = |types: [DataType; 4]| {
            let names = ["a", "b", "c", "d"].into_iter().zip(types);
            Schema::new(
                names
                    .map(|(name, data_type)| Field::new(name, data_type, true))
                    .collect::<Vec<_>>(),
            )
        };
        use DataType::{Float64, Int16, Int32, Int64, Utf8};
        let held = schema([Int32, Int64, Int16, Utf8]);
        let wanted = schema([Int64, Int32, Float64, Int64]);
        assert_eq!(
            wider(Format::Delta, &held, &wanted),
            [("a".to_owned(), "BIGINT"), ("c".to_owned(), "DOUBLE")]
        );
    }
}
