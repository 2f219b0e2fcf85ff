//! drumline-client
