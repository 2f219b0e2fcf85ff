//! drumline-lake
