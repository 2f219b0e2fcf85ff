//! drumline-benches
