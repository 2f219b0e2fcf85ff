//! Where made events go.
