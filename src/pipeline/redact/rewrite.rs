//! Writes a record with its findings replaced.

use super::finding::{EntityKind, Finding};

/// Appends `input` to `out`, each finding replaced by what `replace` writes.
pub(super) fn rewrite(
    input: &[u8],
    findings: &[Finding],
    out: &mut Vec<u8>,
    mut replace: impl FnMut(&Finding, &mut Vec<u8>),
) {
    let mut copied = 0;
    for finding in findings {
        out.extend_from_slice(&input[copied..finding.start]);
        out.extend_from_slice(&finding.quote);
        replace(finding, out);
        out.extend_from_slice(&finding.quote);
        copied = finding.end;
    }
    out.extend_from_slice(&input[copied..]);
}

/// The typed placeholder of `kind`.
pub(super) fn placeholder(kind: EntityKind) -> &'static [u8] {
    match kind {
        EntityKind::Email => b"[EMAIL]",
        EntityKind::Phone => b"[PHONE]",
        EntityKind::Custom(_) | EntityKind::Opaque => b"[REDACTED]",
    }
}
