//! The numbers a node exports, in OpenMetrics text. One file, so that names stay consistent.
/// Everything measured.
#[derive(Clone, Default)]
pub struct Metrics {}
