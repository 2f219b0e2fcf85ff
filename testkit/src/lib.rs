//! drumline-testkit
