//! The eight tables as Parquet files, generated once per scale and kept.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use arrow::record_batch::RecordBatchReader;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator,
    PartSuppGenerator, RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow,
    SupplierArrow,
};

/// The tables, each a folder of Parquet files.
pub const TABLES: [&str; 8] = [
    "nation", "region", "supplier", "part", "partsupp", "customer", "orders", "lineitem",
];

/// Files of each large table, so that scans can be shared out.
const FILES: i32 = 8;

/// Generates the tables under `folder`, unless they are there already.
///
/// A whole folder is renamed into place last: a run that was cut off leaves nothing that looks done.
pub fn generate(scale: f64, folder: &Path) -> Result<()> {
    if folder.exists() {
        return Ok(());
    }
    let staging = folder.with_extension("partial");
    if staging.exists() {
        std::fs::remove_dir_all(&staging)?;
    }
    for table in TABLES {
        std::fs::create_dir_all(staging.join(table))?;
    }
    let path = |table: &str, part: i32| staging.join(table).join(format!("{part:02}.parquet"));
    write(
        &path("nation", 1),
        NationArrow::new(NationGenerator::new(scale, 1, 1)),
    )?;
    write(
        &path("region", 1),
        RegionArrow::new(RegionGenerator::new(scale, 1, 1)),
    )?;
    write(
        &path("supplier", 1),
        SupplierArrow::new(SupplierGenerator::new(scale, 1, 1)),
    )?;
    for part in 1..=FILES {
        let generator = PartGenerator::new(scale, part, FILES);
        write(&path("part", part), PartArrow::new(generator))?;
        let generator = PartSuppGenerator::new(scale, part, FILES);
        write(&path("partsupp", part), PartSuppArrow::new(generator))?;
        let generator = CustomerGenerator::new(scale, part, FILES);
        write(&path("customer", part), CustomerArrow::new(generator))?;
        let generator = OrderGenerator::new(scale, part, FILES);
        write(&path("orders", part), OrderArrow::new(generator))?;
        let generator = LineItemGenerator::new(scale, part, FILES);
        write(&path("lineitem", part), LineItemArrow::new(generator))?;
    }
    std::fs::rename(&staging, folder).context("cannot move the generated data into place")
}

fn write(path: &Path, batches: impl RecordBatchReader) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(Default::default()))
        .build();
    let mut writer = ArrowWriter::try_new(file, batches.schema(), Some(properties))?;
    for batch in batches {
        writer.write(&batch?)?;
    }
    writer.close()?;
    Ok(())
}
