//! `COPY … TO`: a query whose rows become files for others.

use super::{Planned, Planner, Query};
use crate::{Result, sql};
use drumline_lake::{Encoding, Existing, WriteTarget};
use std::collections::BTreeMap;

/// A query whose rows go to a folder.
#[derive(Debug, Clone)]
pub struct Copy {
    /// The folder, as it was written.
    pub location: String,
    /// What its files are.
    pub encoding: Encoding,
    /// `PARTITIONED BY`: columns of the query.
    pub partition_by: Vec<String>,
    /// What it does about files that are there.
    pub existing: Existing,
    /// Size, compression and order of files, as a table's properties.
    pub properties: BTreeMap<String, String>,
    /// The rows.
    pub input: Query,
}

impl Copy {
    /// The query that stages the rows as files of a target; its own rows are those files.
    pub fn into_query(self, target: WriteTarget) -> Result<Query> {
        let plan = crate::lake_write::LakeWrite::plan(self.input.plan, target)?;
        Ok(Query {
            plan,
            settings: self.input.settings,
        })
    }
}

impl Planner<'_> {
    pub(super) async fn copy(&self, copy: &sql::Copy) -> Result<Planned> {
        let plan = self.logical(&copy.source).await?;
        let schema = plan.schema();
        self.check_columns(schema.as_arrow())?;
        let mut partition_by = Vec::with_capacity(copy.partition_by.len());
        for name in &copy.partition_by {
            let fields = schema.fields().iter();
            let mut found = fields.filter(|field| field.name().eq_ignore_ascii_case(name));
            match found.next() {
                Some(field) => partition_by.push(field.name().clone()),
                None => {
                    return Err(sql::Error::Unknown {
                        kind: "column",
                        position: Some(self.statement.position),
                        candidates: sql::candidates(
                            name,
                            schema.fields().iter().map(|field| field.name().as_str()),
                        ),
                        name: name.clone(),
                    }
                    .into());
                }
            }
        }
        let mut encoding = self.encoding(copy)?;
        let mut existing = Existing::default();
        let mut properties = BTreeMap::new();
        for (name, value) in &copy.options {
            let text = value.to_lowercase();
            match (name.trim_start_matches("format."), &mut encoding) {
                ("header" | "has_header", Encoding::Csv { header }) => {
                    *header = self.yes_or_no(name, &text)?;
                }
                ("existing", _) => {
                    existing = match text.as_str() {
                        "refuse" => Existing::Refuse,
                        "keep" => Existing::Keep,
                        "replace" => Existing::Replace,
                        _ => return Err(self.option(name, value, "refuse, keep or replace")),
                    };
                }
                ("compression", Encoding::Parquet) | ("target_file_size" | "sort_by", _) => {
                    properties.insert(name.clone(), value.clone());
                }
                _ => {
                    return Err(self.invalid(
                        format!("COPY to these files has no option '{name}'"),
                        Some("it takes existing, target_file_size and sort_by; header for CSV, compression for Parquet"),
                    ));
                }
            }
        }
        Ok(Planned::Copy(Copy {
            location: copy.location.clone(),
            encoding,
            partition_by,
            existing,
            properties,
            input: self.query(plan),
        }))
    }

    /// `STORED AS`, or what the location's name says.
    fn encoding(&self, copy: &sql::Copy) -> Result<Encoding> {
        let by_name = copy.location.trim_end_matches('/').rsplit_once('.');
        let stored_as = copy.stored_as.as_deref().or(by_name.map(|(_, end)| end));
        match stored_as.map(str::to_lowercase).as_deref() {
            Some("parquet") => Ok(Encoding::Parquet),
            Some("csv") => Ok(Encoding::Csv { header: true }),
            Some("json" | "ndjson" | "jsonl") => Ok(Encoding::Json),
            _ => Err(self.invalid(
                "COPY does not say what its files are",
                Some("STORED AS PARQUET, STORED AS CSV or STORED AS JSON"),
            )),
        }
    }

    fn yes_or_no(&self, name: &str, value: &str) -> Result<bool> {
        match value {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.option(name, value, "true or false")),
        }
    }

    fn option(&self, name: &str, value: &str, accepted: &str) -> crate::Error {
        self.invalid(
            format!("option '{name}' is '{value}': it takes {accepted}"),
            None,
        )
    }
}
