//! External tables: folders of Parquet files that others fill.

use crate::{Result, sql};
use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::common::DataFusionError;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl,
};
use datafusion::prelude::SessionContext;
use drumline_lake::TableName;
use std::sync::Arc;
use url::Url;

/// The files that are there now. Folders named `column=value` become columns of text.
pub(super) async fn provider(
    base: &SessionContext,
    name: &TableName,
    folder: &Url,
) -> Result<Arc<dyn TableProvider>> {
    let state = base.state();
    let path = ListingTableUrl::parse(folder)?;
    let options =
        ListingOptions::new(Arc::new(ParquetFormat::default())).with_file_extension(".parquet");
    let partitions = options.infer_partitions(&state, &path).await?;
    let partitions = partitions
        .into_iter()
        .map(|column| (column, DataType::Utf8))
        .collect();
    let options = options.with_table_partition_cols(partitions);
    let schema =
        options
            .infer_schema(&state, &path)
            .await
            .map_err(|error| match error.find_root() {
                // The only thing it refuses to plan: a folder without files.
                DataFusionError::Plan(_) => sql::Error::Invalid {
                    reason: format!("external table `{name}` has no Parquet files under {folder}"),
                    position: None,
                    hint: Some("its columns are read from its files: put one there".to_owned()),
                }
                .into(),
                _ => crate::Error::from(error),
            })?;
    let config = ListingTableConfig::new(path)
        .with_listing_options(options)
        .with_schema(schema);
    Ok(Arc::new(ListingTable::try_new(config)?))
}
