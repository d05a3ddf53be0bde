//! Writes a record with its findings replaced.

use super::finding::Finding;
use super::keyring::MissingEpoch;

/// Appends `input` to `out`, each finding replaced by what `replace` writes.
pub(super) fn rewrite(
    input: &[u8],
    findings: &[Finding],
    out: &mut Vec<u8>,
    mut replace: impl FnMut(&Finding, &mut Vec<u8>) -> Result<(), MissingEpoch>,
) -> Result<(), MissingEpoch> {
    let mut copied = 0;
    for finding in findings {
        out.extend_from_slice(&input[copied..finding.start]);
        replace(finding, out)?;
        copied = finding.end;
    }
    out.extend_from_slice(&input[copied..]);
    Ok(())
}
