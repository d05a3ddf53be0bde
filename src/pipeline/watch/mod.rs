//! The room `watch`.
