//! drumline-worker
