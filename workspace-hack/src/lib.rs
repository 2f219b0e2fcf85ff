//! Empty: only its dependency features matter, see `Cargo.toml`.
