//! The hash chain: every entry holds the RFC 6962 leaf hash of the one before it. The chain fields
//! come first and have fixed width, so that they are read by position, without a JSON parser.

use std::ops::Range;
use std::sync::Arc;

use super::super::record::TopicPartition;
use super::entry::{Body, Kind, source_prefix};
use super::json::{push_fixed, push_hex, read_hex};
use super::merkle::{Hash, leaf_hash};

/// Bytes of the chain fields: from `{` to the quote that closes `prev`.
pub const CHAIN_FIELDS_BYTES: usize = 119;

/// What the first entry of a chain holds as `prev`.
pub const GENESIS_PREV: Hash = [0; 32];

/// The name of an operator's installation: 1 to 64 of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Deployment(Arc<str>);

impl Deployment {
    /// `None` when `text` is empty, too long or has other characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(allowed);
        fits.then(|| Self(Arc::from(text)))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of one chain: `<deployment>/audit/<topic>/<partition>/<incarnation>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    deployment: Deployment,
    source: TopicPartition,
    incarnation: u32,
    text: Arc<str>,
}

impl Origin {
    /// The chain of `source`; `incarnation` counts its restarts by an operator, from 0.
    #[must_use]
    pub fn new(deployment: &Deployment, source: &TopicPartition, incarnation: u32) -> Self {
        let text = format!(
            "{}/audit/{}/{}/{incarnation}",
            deployment.as_str(),
            source.topic,
            source.partition
        );
        Self {
            deployment: deployment.clone(),
            source: source.clone(),
            incarnation,
            text: Arc::from(text),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The deployment's name.
    #[must_use]
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// The source partition.
    #[must_use]
    pub fn source(&self) -> &TopicPartition {
        &self.source
    }

    /// How often the chain was restarted.
    #[must_use]
    pub fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// The same partition's next chain.
    #[must_use]
    pub fn next_incarnation(&self) -> Self {
        Self::new(&self.deployment, &self.source, self.incarnation.saturating_add(1))
    }
}

/// The newest entry of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// Its number in the chain, contiguous from 0.
    pub seq: u64,
    /// Its leaf hash.
    pub leaf: Hash,
}

/// Writes one chain.
#[derive(Clone, Debug)]
pub struct Chain {
    origin: Origin,
    source: Arc<[u8]>,
    head: Option<ChainHead>,
}

impl Chain {
    /// The chain `origin` behind its entry `head`; `None` before its genesis.
    #[must_use]
    pub fn new(origin: Origin, head: Option<ChainHead>) -> Self {
        let source = Arc::from(source_prefix(origin.source()));
        Self { origin, source, head }
    }

    /// The chain's name.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The newest entry.
    #[must_use]
    pub fn head(&self) -> Option<ChainHead> {
        self.head
    }

    /// Appends the next entry to `out`, advances the head and tells where the entry lies in `out`.
    pub fn append(&mut self, body: &impl Body, out: &mut Vec<u8>) -> Range<usize> {
        let start = self.begin(body.kind(), out);
        body.write(&self.source, out);
        self.finish(start, out)
    }

    /// Appends the chain fields of the next entry.
    pub(super) fn begin(&self, kind: Kind, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        let (seq, prev) = self.head.map_or((0, GENESIS_PREV), |head| (head.seq + 1, head.leaf));
        out.extend_from_slice(b"{\"v\":1,\"k\":\"");
        out.extend_from_slice(kind.code().as_bytes());
        out.extend_from_slice(b"\",\"seq\":\"");
        push_fixed(out, seq);
        out.extend_from_slice(b"\",\"prev\":\"");
        push_hex(out, &prev);
        out.push(b'"');
        start
    }

    /// Closes the entry that starts at `start` and makes it the head.
    pub(super) fn finish(&mut self, start: usize, out: &mut Vec<u8>) -> Range<usize> {
        out.push(b'}');
        let entry = out.get(start..).expect("begin gave the start");
        let seq = self.head.map_or(0, |head| head.seq + 1);
        self.head = Some(ChainHead { seq, leaf: leaf_hash(entry) });
        start..out.len()
    }
}

/// The chain fields of a stored entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainFields {
    /// Kind.
    pub kind: Kind,
    /// Number in the chain.
    pub seq: u64,
    /// Leaf hash of the entry before.
    pub prev: Hash,
}

/// Why bytes are no entry of format 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainFieldsError {
    /// The fixed parts are not where they must be.
    #[error("chain fields are malformed")]
    Malformed,
    /// Another format version.
    #[error("unknown format version")]
    UnknownVersion,
    /// Another kind.
    #[error("unknown kind of entry")]
    UnknownKind,
}

impl ChainFields {
    /// Reads them by position.
    ///
    /// # Errors
    /// Anything that is not exactly as [`Chain::append`] writes it.
    pub fn read(entry: &[u8]) -> Result<Self, ChainFieldsError> {
        use ChainFieldsError::{Malformed, UnknownKind, UnknownVersion};
        let rest = entry.strip_prefix(b"{\"v\":").ok_or(Malformed)?;
        let is_number = rest.first().is_some_and(u8::is_ascii_digit);
        let other = if is_number { UnknownVersion } else { Malformed };
        let rest = rest.strip_prefix(b"1,\"k\":\"").ok_or(other)?;
        let (code, rest) = rest.split_at_checked(3).ok_or(Malformed)?;
        let rest = rest.strip_prefix(b"\",\"seq\":\"").ok_or(Malformed)?;
        let (seq, rest) = rest.split_at_checked(20).ok_or(Malformed)?;
        let rest = rest.strip_prefix(b"\",\"prev\":\"").ok_or(Malformed)?;
        let (prev, rest) = rest.split_at_checked(64).ok_or(Malformed)?;
        if !rest.starts_with(b"\",") || entry.last() != Some(&b'}') {
            return Err(Malformed);
        }
        let kind = Kind::from_code(code).ok_or(UnknownKind)?;
        Ok(Self {
            kind,
            seq: read_fixed(seq).ok_or(Malformed)?,
            prev: read_hex(prev).ok_or(Malformed)?,
        })
    }
}

fn read_fixed(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, digit| {
        let value = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(value)
    })
}

#[cfg(test)]
mod tests {
    use super::super::entry::{Gap, GapReason};
    use super::*;

    fn chain() -> Chain {
        let deployment = Deployment::parse("salon").unwrap();
        Chain::new(Origin::new(&deployment, &TopicPartition::new("app.logs", 3), 0), None)
    }

    const GAP: Gap = Gap { from: 1, to: 2, reason: GapReason::Retention };

    #[test]
    fn entries_link_by_leaf_hash() {
        let (mut chain, mut out) = (chain(), Vec::new());
        assert_eq!(chain.origin().as_str(), "salon/audit/app.logs/3/0");
        let first = chain.append(&GAP, &mut out);
        let second = chain.append(&GAP, &mut out);
        let fields = ChainFields::read(&out[first.clone()]).unwrap();
        assert_eq!((fields.kind, fields.seq, fields.prev), (Kind::Gap, 0, GENESIS_PREV));
        let fields = ChainFields::read(&out[second.clone()]).unwrap();
        assert_eq!((fields.seq, fields.prev), (1, leaf_hash(&out[first])));
        assert_eq!(chain.head(), Some(ChainHead { seq: 1, leaf: leaf_hash(&out[second]) }));
        assert_eq!(out[CHAIN_FIELDS_BYTES], b',');
        assert_eq!(out[CHAIN_FIELDS_BYTES - 1], b'"');
    }

    #[test]
    fn only_exact_chain_fields_are_read() {
        let (mut chain, mut out) = (chain(), Vec::new());
        chain.append(&GAP, &mut out);
        let text = String::from_utf8(out).unwrap();
        let read = |text: String| ChainFields::read(text.as_bytes()).unwrap_err();
        assert_eq!(read(text.replace("\"v\":1", "\"v\":2")), ChainFieldsError::UnknownVersion);
        assert_eq!(read(text.replace("\"gap\"", "\"gup\"")), ChainFieldsError::UnknownKind);
        assert_eq!(read(text.replace("\"v\":1", "\"v\": 1")), ChainFieldsError::Malformed);
        assert_eq!(read(text[..text.len() - 1].to_owned()), ChainFieldsError::Malformed);
        assert_eq!(read(text.replace("\"prev\":\"0", "\"prev\":\"A")), ChainFieldsError::Malformed);
        assert_eq!(read(String::new()), ChainFieldsError::Malformed);
    }

    #[test]
    fn deployment_names_hold_no_slash() {
        assert!(Deployment::parse("a/b").is_none());
        assert!(Deployment::parse("").is_none());
        assert!(Deployment::parse(&"x".repeat(65)).is_none());
    }
}
