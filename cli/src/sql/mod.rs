//! The interactive prompt of `drumline sql`.

mod buffer;
pub(crate) mod interactive;
