//! From what was written to what runs: [`raw`] mirrors the files, [`load`] merges the layers and
//! keeps each value's place, [`Settings`] is checked and ready.

pub mod load;
pub mod raw;
