//! The life of a message on a node: read → activate → handle → commit → deliver.

pub mod node;
pub mod settings;
pub mod view;
