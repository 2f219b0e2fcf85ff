//! drumline-engine
