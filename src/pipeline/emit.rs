//! Wire names.
