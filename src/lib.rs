//! nanorelay.
