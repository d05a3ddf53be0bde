//! The field table: which key path means what, in order of priority, compiled into a trie that is
//! walked one path segment at a time. Nested objects and dotted keys walk the same way, so
//! `{"service":{"name":..}}` and `{"service.name":..}` are one name.

use std::collections::BTreeMap;

use super::defaults::CONTAINERS;
use super::json::bytes_equal;
use super::kind::FieldKind;

/// Index of a name in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NameId(pub(super) u16);

/// One name of one kind.
#[derive(Clone, Debug)]
pub(super) struct Name {
    /// The key path, lower case or as configured.
    pub(super) path: Box<str>,
    pub(super) kind: FieldKind,
    /// 0 is looked at first.
    pub(super) order: u8,
    /// Means something at the top of a record only, not inside `attributes` and the like.
    pub(super) weak: bool,
    pub(super) unit: Unit,
}

/// What a number under a name is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Nothing in the name says so.
    Plain,
    /// OpenTelemetry severity numbers, 1 to 24.
    OtelSeverity,
    /// Syslog severity, 0 to 7.
    SyslogSeverity,
    /// Levels of Python's `logging`, 10 to 50.
    PythonLevel,
    /// Full severity words only: the name is used for other things too.
    SeverityWord,
    Seconds,
    Milliseconds,
    Nanoseconds,
}

impl Unit {
    fn of(kind: FieldKind, path: &str) -> Self {
        let path = path.to_ascii_lowercase().replace(['_', '-'], "");
        let last = path.rsplit('.').next().unwrap_or_default();
        match kind {
            FieldKind::Severity => match last {
                "severitynumber" => Self::OtelSeverity,
                "pri" => Self::SyslogSeverity,
                _ if path.starts_with("syslog.") => Self::SyslogSeverity,
                "levelno" => Self::PythonLevel,
                "status" => Self::SeverityWord,
                _ => Self::Plain,
            },
            FieldKind::Latency if path == "event.duration" || last.ends_with("ns") => {
                Self::Nanoseconds
            }
            FieldKind::Latency if last.ends_with("seconds") => Self::Seconds,
            FieldKind::Latency if last.ends_with("ms") || last == "responsetime" => {
                Self::Milliseconds
            }
            _ => Self::Plain,
        }
    }
}

/// How much the names below a transparent container count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// Like the top of the record.
    Record,
    /// Attributes beside the record: weak names mean nothing there.
    Attributes,
}

/// Where a walk stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    node: u16,
    /// Set where names of the top level are looked for as well.
    scope: Option<Scope>,
    /// Containers stepped through: fewer wins among equals.
    pub(super) depth: u8,
    /// Inside a container of attributes, where weak names mean nothing.
    pub(super) among_attributes: bool,
}

impl Position {
    pub(super) const TOP: Self =
        Self { node: ROOT, scope: Some(Scope::Record), depth: 0, among_attributes: false };
    /// Nothing below means anything.
    pub(super) const DEAD: Self =
        Self { node: NONE, scope: None, depth: 0, among_attributes: false };
}

const ROOT: u16 = 0;
const NONE: u16 = u16::MAX;

#[derive(Clone, Debug, Default)]
struct Node {
    names: Vec<NameId>,
    container: Option<Scope>,
    has_children: bool,
}

#[derive(Clone, Debug)]
struct Edge {
    parent: u16,
    child: u16,
    segment: Box<[u8]>,
    folded: Folded,
}

/// The upper half of a hash and the edge it belongs to.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tag: u32,
    edge: u16,
}

impl Bucket {
    const FREE: Self = Self { tag: 0, edge: NONE };
}

/// All names of one topic's rules, ready to be walked.
#[derive(Clone, Debug)]
pub(super) struct NameTable {
    names: Vec<Name>,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    /// Open addressing over `edges`.
    buckets: Vec<Bucket>,
}

impl NameTable {
    /// Compiles `names` (per kind, in order of priority).
    pub(super) fn new(names: &BTreeMap<FieldKind, Vec<NameSpec>>) -> Self {
        let mut builder = Builder::default();
        for (path, scope) in CONTAINERS {
            let node = builder.node_at(path);
            builder.nodes[node as usize].container = Some(*scope);
        }
        for (kind, specs) in names {
            for (order, spec) in specs.iter().enumerate() {
                let order = u8::try_from(order).unwrap_or(u8::MAX);
                builder.add(*kind, order, spec);
            }
        }
        builder.compile()
    }

    pub(super) fn name(&self, id: NameId) -> &Name {
        &self.names[usize::from(id.0)]
    }

    /// Whether anything below `position` can mean something: a longer name, or a typed value.
    pub(super) fn is_live(&self, position: Position) -> bool {
        position.scope.is_some()
            || self
                .nodes
                .get(usize::from(position.node))
                .is_some_and(|node| node.has_children || !node.names.is_empty())
    }

    /// The names that stand exactly at `position` and count there.
    pub(super) fn names_at(&self, position: Position) -> &[NameId] {
        self.nodes.get(usize::from(position.node)).map_or(&[], |node| &node.names)
    }

    /// Steps down by one key, which may be dotted.
    pub(super) fn step(&self, from: Position, key: &[u8]) -> Position {
        let mut position = from;
        let mut rest = key;
        while let Some(dot) = dot_in(rest) {
            position = self.step_segment(position, &rest[..dot]);
            if !self.is_live(position) {
                return Position::DEAD;
            }
            rest = &rest[dot + 1..];
        }
        self.step_segment(position, rest)
    }

    fn step_segment(&self, from: Position, segment: &[u8]) -> Position {
        let own = self.child(from.node, segment);
        let child = match (own, from.scope) {
            (NONE, Some(_)) if from.node != ROOT => self.child(ROOT, segment),
            _ => own,
        };
        let Some(node) = self.nodes.get(usize::from(child)) else {
            return if is_typed_value(segment) { from } else { Position::DEAD };
        };
        let scope = match (from.scope, node.container) {
            (Some(outer), Some(inner)) => Some(outer.max(inner)),
            _ => None,
        };
        Position {
            node: child,
            scope,
            depth: from.depth.saturating_add(u8::from(scope.is_some())),
            among_attributes: from.among_attributes || from.scope == Some(Scope::Attributes),
        }
    }

    fn child(&self, parent: u16, segment: &[u8]) -> u16 {
        if parent == NONE {
            return NONE;
        }
        let mask = self.buckets.len() - 1;
        let folded = Folded::new(segment);
        let (tag, mut at) = folded.hash(parent);
        loop {
            let bucket = self.buckets[at & mask];
            if bucket.edge == NONE {
                return NONE;
            }
            if bucket.tag == tag {
                let edge = &self.edges[usize::from(bucket.edge)];
                if edge.parent == parent && edge.is(folded, segment) {
                    return edge.child;
                }
            }
            at += 1;
        }
    }
}

/// A name as a rule writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NameSpec {
    pub(super) path: Box<str>,
    pub(super) weak: bool,
}

#[derive(Default)]
struct Builder {
    names: Vec<Name>,
    nodes: Vec<Node>,
    children: BTreeMap<(u16, Vec<u8>), u16>,
}

impl Builder {
    fn add(&mut self, kind: FieldKind, order: u8, spec: &NameSpec) {
        let id = NameId(u16::try_from(self.names.len()).expect("rules bound the number of names"));
        self.names.push(Name {
            path: spec.path.clone(),
            kind,
            order,
            weak: spec.weak,
            unit: Unit::of(kind, &spec.path),
        });
        for spelling in spellings(&spec.path) {
            let node = self.node_at(&spelling);
            let names = &mut self.nodes[node as usize].names;
            if !names.iter().any(|other| self.names[usize::from(other.0)].kind == kind) {
                names.push(id);
            }
        }
    }

    fn node_at(&mut self, path: &str) -> u16 {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut node = ROOT;
        for segment in path.split('.') {
            let key = (node, segment.to_ascii_lowercase().into_bytes());
            let next = u16::try_from(self.nodes.len()).expect("rules bound the number of names");
            let child = *self.children.entry(key).or_insert(next);
            if child == next {
                self.nodes.push(Node::default());
                self.nodes[usize::from(node)].has_children = true;
            }
            node = child;
        }
        node
    }

    fn compile(self) -> NameTable {
        let mut buckets = vec![Bucket::FREE; (self.children.len() * 2).next_power_of_two().max(2)];
        let mask = buckets.len() - 1;
        let mut edges = Vec::with_capacity(self.children.len());
        for ((parent, segment), child) in self.children {
            let folded = Folded::new(&segment);
            let (tag, mut at) = folded.hash(parent);
            while buckets[at & mask].edge != NONE {
                at += 1;
            }
            let edge = u16::try_from(edges.len()).expect("rules bound the number of names");
            buckets[at & mask] = Bucket { tag, edge };
            edges.push(Edge { parent, child, segment: segment.into_boxed_slice(), folded });
        }
        NameTable { names: self.names, nodes: self.nodes, edges, buckets }
    }
}

/// `tenant_id` is also written `tenantId` and `tenant-id`; letter case never matters.
fn spellings(path: &str) -> Vec<String> {
    let mut all = vec![path.to_owned()];
    if path.contains('_') && !path.starts_with('_') {
        all.push(path.replace('_', ""));
        all.push(path.replace('_', "-"));
    }
    all
}

/// OTLP wraps every value: `{"stringValue": ..}`. The wrapper is no step.
fn is_typed_value(segment: &[u8]) -> bool {
    matches!(
        segment,
        b"stringValue" | b"intValue" | b"doubleValue" | b"boolValue" | b"kvlistValue" | b"values"
    )
}

#[inline]
fn dot_in(key: &[u8]) -> Option<usize> {
    let mut chunks = key.chunks_exact(8);
    for (index, chunk) in chunks.by_ref().enumerate() {
        let found = bytes_equal(word(chunk), b'.');
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let tail = chunks.remainder();
    tail.iter().position(|byte| *byte == b'.').map(|at| key.len() - tail.len() + at)
}

fn word(chunk: &[u8]) -> u64 {
    u64::from_le_bytes(chunk.try_into().expect("chunks are eight bytes long"))
}

/// The first and the last eight bytes of a segment with letter case folded: all of it, up to 16
/// bytes. (Folding sets bit 5, which also folds `@` and a few others that no name tells apart.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Folded {
    first: u64,
    last: u64,
    len: usize,
}

impl Folded {
    const LOWER: u64 = 0x2020_2020_2020_2020;
    const WHOLE_BYTES_MAX: usize = 16;

    #[inline]
    fn new(segment: &[u8]) -> Self {
        let len = segment.len();
        let half = |bytes: &[u8]| {
            u64::from(u32::from_le_bytes(bytes.try_into().expect("the slice has four bytes")))
        };
        let (first, last) = match len {
            0 => (0, 0),
            1..=3 => {
                let [a, b, c] = [segment[0], segment[len / 2], segment[len - 1]];
                (u64::from(a) | u64::from(b) << 8 | u64::from(c) << 16, 0)
            }
            4..=7 => (half(&segment[..4]) | half(&segment[len - 4..]) << 32, 0),
            _ => (word(&segment[..8]), word(&segment[len - 8..])),
        };
        Self { first: first | Self::LOWER, last: last | Self::LOWER, len }
    }

    /// A tag and a place to begin.
    #[inline]
    fn hash(self, parent: u16) -> (u32, usize) {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let state = (self.first ^ u64::from(parent) ^ (self.len as u64) << 32).wrapping_mul(FACTOR);
        let state = (state ^ state >> 32 ^ self.last).wrapping_mul(FACTOR);
        let high = u32::try_from(state >> 32).expect("half of 64 bits");
        (high, usize::try_from(high >> 12).expect("20 bits fit"))
    }
}

impl Edge {
    #[inline]
    fn is(&self, folded: Folded, segment: &[u8]) -> bool {
        self.folded == folded
            && (folded.len <= Folded::WHOLE_BYTES_MAX || self.segment.eq_ignore_ascii_case(segment))
    }
}
