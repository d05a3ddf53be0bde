//! What stands around a candidate: the name of its field, the words near it.

mod around;
mod field;
mod lexicon;
mod prose;
mod words;

pub(super) use around::{
    column_field, headed_field, header_of, is_beside_person, local_field, local_name,
};
pub(super) use field::{FieldClass, class_of_key};
pub(super) use prose::{Cue, cue_of};
pub(super) use words::{cue_before, cue_behind, is_asked};
