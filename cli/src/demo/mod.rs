//! Parts of `drumline demo`: the folder it keeps, the events it sends, the questions it asks.

mod events;
mod folder;
mod questions;

pub(crate) use events::{Events, caught_up};
pub(crate) use folder::reset;
pub(crate) use questions::questions;
