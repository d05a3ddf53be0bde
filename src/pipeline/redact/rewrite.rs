//! Writes a record with its findings replaced, and finds the way back from what was written.

use super::finding::Finding;

/// Where one replacement stands in the output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edit {
    written: (usize, usize),
    replaced: (usize, usize),
}

impl Edit {
    /// Where the replacement stands in the output.
    pub(super) fn written(&self) -> std::ops::Range<usize> {
        self.written.0..self.written.1
    }
}

/// Appends `input` to `out`, each finding (sorted, not overlapping) replaced by what `replace`
/// writes; notes where in `edits`. Ends at the first error.
pub(super) fn rewrite<E>(
    input: &[u8],
    findings: &[Finding],
    out: &mut Vec<u8>,
    edits: &mut Vec<Edit>,
    mut replace: impl FnMut(&Finding, &mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    edits.clear();
    let mut copied = 0;
    for finding in findings {
        out.extend_from_slice(&input[copied..finding.start]);
        let start = out.len();
        replace(finding, out)?;
        let replaced = (finding.start, finding.end);
        edits.push(Edit { written: (start, out.len()), replaced });
        copied = finding.end;
    }
    out.extend_from_slice(&input[copied..]);
    Ok(())
}

/// The span of the input that `start..end` of the output came from; a replacement that it touches
/// counts whole.
pub(super) fn input_span(edits: &[Edit], start: usize, end: usize) -> (usize, usize) {
    (input_offset(edits, start, false), input_offset(edits, end, true))
}

fn input_offset(edits: &[Edit], offset: usize, is_end: bool) -> usize {
    // Edits that end at or before the offset only shift it.
    let before = edits.partition_point(|edit| {
        if is_end { edit.written.1 < offset } else { edit.written.1 <= offset }
    });
    match edits.get(before) {
        Some(edit) if is_end && edit.written.0 < offset => return edit.replaced.1,
        Some(edit) if !is_end && edit.written.0 <= offset => return edit.replaced.0,
        _ => {}
    }
    match before.checked_sub(1).map(|last| edits[last]) {
        Some(edit) => edit.replaced.1 + (offset - edit.written.1),
        None => offset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::redact::finding::{EntityKind, Position};

    #[test]
    fn spans_of_the_output_lead_back() {
        let finding = |start, end| Finding {
            kind: EntityKind::Phone,
            start,
            end,
            value: Vec::new(),
            position: Position::default(),
            quote: Vec::new(),
            rules: 0,
            score: 0,
        };
        let findings = [finding(2, 4), finding(6, 7)];
        let (mut out, mut edits) = (Vec::new(), Vec::new());
        let done: Result<(), ()> =
            rewrite(b"01234567", &findings, &mut out, &mut edits, |_, out| {
                out.extend_from_slice(b"[xx]");
                Ok(())
            });
        assert_eq!(done, Ok(()));
        assert_eq!(out, b"01[xx]45[xx]7");
        assert_eq!(input_span(&edits, 0, 2), (0, 2));
        assert_eq!(input_span(&edits, 6, 8), (4, 6));
        assert_eq!(input_span(&edits, 12, 13), (7, 8));
        assert_eq!(input_span(&edits, 4, 7), (2, 5));
        assert_eq!(input_span(&edits, 1, 3), (1, 4));
    }
}
