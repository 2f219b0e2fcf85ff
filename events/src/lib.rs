//! drumline-events
