//! The room `scrub`.
