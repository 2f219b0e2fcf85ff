//! drumline-ingest
