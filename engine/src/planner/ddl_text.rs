//! The statement that would make a table or view again.

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::sql::sqlparser::keywords::{
    ALL_KEYWORDS, ALL_KEYWORDS_INDEX, RESERVED_FOR_COLUMN_ALIAS, RESERVED_FOR_IDENTIFIER,
    RESERVED_FOR_TABLE_ALIAS,
};
use drumline_lake::{Object, TableName, TableSnapshot};
use std::collections::BTreeMap;

/// `CREATE VIEW`.
pub(super) fn view(name: &TableName, object: &Object) -> String {
    let mut statement = format!("CREATE VIEW {}", table_name(name));
    push_comment(&mut statement, object);
    push_pairs(&mut statement, "TBLPROPERTIES", &object.properties);
    let sql = object.view_sql.as_deref().unwrap_or_default();
    format!("{statement}\nAS {sql}")
}

/// `CREATE TABLE`.
pub(super) fn table(name: &TableName, object: &Object, snapshot: &TableSnapshot) -> String {
    let mut statement = format!("CREATE TABLE {}", table_name(name));
    statement.push_str(&columns(&snapshot.schema, &object.column_comments));
    push_line(
        &mut statement,
        format!("STORED AS {}", object.files_word().to_uppercase()),
    );
    push_partitions(&mut statement, &snapshot.partition_columns);
    push_line(
        &mut statement,
        format!("LOCATION {}", quoted(object.location.as_str())),
    );
    push_comment(&mut statement, object);
    let properties = snapshot.shown_properties();
    push_pairs(&mut statement, "TBLPROPERTIES", &properties);
    statement
}

/// `CREATE EXTERNAL TABLE`.
pub(super) fn external(name: &TableName, object: &Object) -> String {
    let mut statement = format!("CREATE EXTERNAL TABLE {}", table_name(name));
    let (declared, partitions, options) = match &object.external {
        Some(external) => (
            external.columns.as_slice(),
            external.partition_columns.as_slice(),
            external.options.clone(),
        ),
        None => (&[][..], &[][..], BTreeMap::new()),
    };
    if !declared.is_empty() {
        let columns = declared
            .iter()
            .map(|(column, kind)| column_line(column, kind, object.column_comments.get(column)));
        statement.push_str(&in_parentheses(columns.collect()));
    }
    push_line(
        &mut statement,
        format!("STORED AS {}", object.files_word().to_uppercase()),
    );
    push_partitions(&mut statement, partitions);
    push_line(
        &mut statement,
        format!("LOCATION {}", quoted(object.location.as_str())),
    );
    push_pairs(&mut statement, "OPTIONS", &options);
    push_comment(&mut statement, object);
    push_pairs(&mut statement, "TBLPROPERTIES", &object.properties);
    statement
}

fn columns(schema: &SchemaRef, comments: &BTreeMap<String, String>) -> String {
    let columns = schema.fields().iter().map(|field| {
        let kind = match field.is_nullable() {
            true => sql_type(field.data_type()),
            false => format!("{} NOT NULL", sql_type(field.data_type())),
        };
        column_line(field.name(), &kind, comments.get(field.name()))
    });
    in_parentheses(columns.collect())
}

fn column_line(name: &str, kind: &str, comment: Option<&String>) -> String {
    match comment {
        Some(comment) => format!("  {} {kind} COMMENT {}", ident(name), quoted(comment)),
        None => format!("  {} {kind}", ident(name)),
    }
}

fn in_parentheses(columns: Vec<String>) -> String {
    format!(" (\n{}\n)", columns.join(",\n"))
}

fn push_line(statement: &mut String, line: String) {
    statement.push('\n');
    statement.push_str(&line);
}

fn push_partitions(statement: &mut String, partitions: &[String]) {
    if !partitions.is_empty() {
        let names: Vec<String> = partitions.iter().map(|name| ident(name)).collect();
        push_line(statement, format!("PARTITIONED BY ({})", names.join(", ")));
    }
}

fn push_comment(statement: &mut String, object: &Object) {
    if let Some(comment) = &object.comment {
        push_line(statement, format!("COMMENT {}", quoted(comment)));
    }
}

fn push_pairs(statement: &mut String, what: &str, pairs: &BTreeMap<String, String>) {
    if !pairs.is_empty() {
        let pairs: Vec<String> = pairs
            .iter()
            .map(|(name, value)| format!("{} = {}", quoted(name), quoted(value)))
            .collect();
        push_line(statement, format!("{what} ({})", pairs.join(", ")));
    }
}

fn table_name(name: &TableName) -> String {
    format!("{}.{}", ident(&name.schema), ident(&name.name))
}

/// In quotes where it would be read as something else without.
fn ident(name: &str) -> String {
    let mut chars = name.chars();
    let is_plain = chars
        .next()
        .is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let upper = name.to_uppercase();
    let keyword = ALL_KEYWORDS
        .iter()
        .position(|keyword| *keyword == upper)
        .and_then(|at| ALL_KEYWORDS_INDEX.get(at));
    let is_reserved = keyword.is_some_and(|keyword| {
        RESERVED_FOR_COLUMN_ALIAS.contains(keyword)
            || RESERVED_FOR_TABLE_ALIAS.contains(keyword)
            || RESERVED_FOR_IDENTIFIER.contains(keyword)
            || upper == "DEFAULT"
    });
    match is_plain && !is_reserved {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A type as SQL writes it.
pub(super) fn sql_type(kind: &DataType) -> String {
    match kind {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Float32 => "REAL".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => "VARCHAR".to_owned(),
        DataType::Binary | DataType::BinaryView | DataType::LargeBinary => "BYTEA".to_owned(),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP WITH TIME ZONE".to_owned(),
        DataType::Timestamp(_, None) => "TIMESTAMP".to_owned(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::List(element) => format!("{}[]", sql_type(element.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|field| format!("{} {}", ident(field.name()), sql_type(field.data_type())))
                .collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
        other => other.to_string(),
    }
}
