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
    pub(super) is_configured: bool,
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
                "pri" | "priority" => Self::SyslogSeverity,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    #[inline]
    pub(super) const fn is_dead(self) -> bool {
        self.node == NONE
    }

    /// At the child `node`, which may be a container.
    fn down(self, node: u16, container: Option<Scope>) -> Self {
        let scope = self.scope.zip(container).map(|(outer, inner)| outer.max(inner));
        Self {
            node,
            scope,
            depth: self.depth.saturating_add(u8::from(scope.is_some())),
            among_attributes: self.among_attributes || self.scope == Some(Scope::Attributes),
        }
    }
}

const ROOT: u16 = 0;
const NONE: u16 = u16::MAX;

#[derive(Clone, Debug, Default)]
struct Node {
    names: Vec<NameId>,
    container: Option<Scope>,
    has_children: bool,
}

/// A piece of key paths and the nodes it leads to.
#[derive(Clone, Debug)]
struct Segment {
    text: Box<[u8]>,
    folded: Folded,
    /// Where it leads from the top of a record; dead if nowhere.
    from_top: Position,
    /// Parent and child anywhere else, by parent.
    below: Vec<(u16, u16)>,
}

impl Segment {
    fn child(&self, parent: u16) -> u16 {
        let found = self.below.binary_search_by_key(&parent, |(parent, _)| *parent);
        found.map_or(NONE, |at| self.below[at].1)
    }

    #[inline]
    fn is(&self, folded: Folded, text: &[u8]) -> bool {
        self.folded == folded && (folded.is_whole() || self.is_long(text))
    }

    #[cold]
    fn is_long(&self, text: &[u8]) -> bool {
        self.text.eq_ignore_ascii_case(text)
    }
}

/// A part of a hash and the segment it belongs to.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tag: u16,
    segment: u16,
}

impl Bucket {
    const FREE: Self = Self { tag: 0, segment: NONE };
}

/// All names of one topic's rules, ready to be walked.
#[derive(Clone, Debug)]
pub(super) struct NameTable {
    names: Vec<Name>,
    nodes: Vec<Node>,
    segments: Segments,
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
    #[inline]
    pub(super) fn names_at(&self, position: Position) -> &[NameId] {
        self.nodes.get(usize::from(position.node)).map_or(&[], |node| &node.names)
    }

    /// Steps down by one key, which may be dotted.
    pub(super) fn step(&self, from: Position, key: &[u8]) -> Position {
        self.step_folded(from, key, Folded::new(key))
    }

    /// Whether [`NameTable::step`] can lead anywhere. Most keys are in no name at all, which this
    /// tells for every parent.
    #[inline(always)]
    pub(super) fn may_hold(&self, folded: Folded) -> bool {
        self.segments.may_hold(folded) || folded.may_hold_dot()
    }

    #[inline(never)]
    pub(super) fn step_folded(&self, from: Position, key: &[u8], folded: Folded) -> Position {
        let segment = self.segments.find(folded, key);
        match segment {
            None if folded.may_hold_dot() => self.step_dotted(from, key),
            _ => self.step_segment(from, key, segment),
        }
    }

    #[cold]
    fn step_dotted(&self, from: Position, key: &[u8]) -> Position {
        let mut position = from;
        let mut rest = key;
        while let Some(dot) = memchr::memchr(b'.', rest) {
            let segment = &rest[..dot];
            let known = self.segments.find(Folded::new(segment), segment);
            position = self.step_segment(position, segment, known);
            if !self.is_live(position) {
                return Position::DEAD;
            }
            rest = &rest[dot + 1..];
        }
        self.step_segment(position, rest, self.segments.find(Folded::new(rest), rest))
    }

    #[inline(never)]
    fn step_segment(&self, from: Position, text: &[u8], segment: Option<&Segment>) -> Position {
        let Some(segment) = segment else { return Position::DEAD };
        if from.node == ROOT && !segment.from_top.is_dead() {
            return segment.from_top;
        }
        let child = match (segment.child(from.node), from.scope) {
            (NONE, Some(_)) => segment.from_top.node,
            (own, _) => own,
        };
        match self.nodes.get(usize::from(child)) {
            Some(node) => from.down(child, node.container),
            None if TYPED_VALUES.contains(&text) => from,
            None => Position::DEAD,
        }
    }
}

/// Every segment of every name, by open addressing.
#[derive(Clone, Debug)]
struct Segments {
    all: Vec<Segment>,
    /// A bit for the hash of each.
    filter: Box<[u64; 64]>,
    buckets: Vec<Bucket>,
}

impl Segments {
    /// The segments of `children`, which are in order of their parents.
    fn new(children: BTreeMap<(u16, Vec<u8>), u16>, nodes: &[Node]) -> Self {
        let count = children.len() + TYPED_VALUES.len();
        let buckets = vec![Bucket::FREE; (count * 2).next_power_of_two()];
        let mut segments = Self { all: Vec::new(), filter: Box::new([0; 64]), buckets };
        for ((parent, text), child) in children {
            let segment = segments.entry(&text);
            // Of texts that fold to the same, the first counts.
            if parent != ROOT && segment.child(parent) == NONE {
                segment.below.push((parent, child));
            } else if parent == ROOT && segment.from_top.is_dead() {
                segment.from_top = Position::TOP.down(child, nodes[usize::from(child)].container);
            }
        }
        for text in TYPED_VALUES {
            segments.entry(text);
        }
        segments
    }

    fn entry(&mut self, text: &[u8]) -> &mut Segment {
        let folded = Folded::new(text);
        let at = self.bucket_of(folded, text);
        if self.buckets[at].segment == NONE {
            let segment = u16::try_from(self.all.len()).expect("rules bound names and segments");
            self.buckets[at] = Bucket { tag: folded.hash().0, segment };
            let (word, bit) = folded.filter_bit();
            self.filter[word] |= bit;
            self.all.push(Segment {
                text: text.into(),
                folded,
                from_top: Position::DEAD,
                below: Vec::new(),
            });
        }
        &mut self.all[usize::from(self.buckets[at].segment)]
    }

    /// False only for what is no segment.
    #[inline]
    fn may_hold(&self, folded: Folded) -> bool {
        let (word, bit) = folded.filter_bit();
        self.filter[word] & bit != 0
    }

    #[inline]
    fn find(&self, folded: Folded, text: &[u8]) -> Option<&Segment> {
        self.all.get(usize::from(self.buckets[self.bucket_of(folded, text)].segment))
    }

    /// The bucket that holds `text`, or a free one if none does.
    #[inline(always)]
    fn bucket_of(&self, folded: Folded, text: &[u8]) -> usize {
        let mask = self.buckets.len() - 1;
        let (tag, mut at) = folded.hash();
        loop {
            at &= mask;
            let bucket = self.buckets[at];
            let Some(segment) = self.all.get(usize::from(bucket.segment)) else { return at };
            if bucket.tag == tag && segment.is(folded, text) {
                return at;
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
    /// The settings name it: it is not built in.
    pub(super) is_configured: bool,
}

#[derive(Default)]
struct Builder {
    names: Vec<Name>,
    nodes: Vec<Node>,
    children: BTreeMap<(u16, Vec<u8>), u16>,
}

impl Builder {
    fn add(&mut self, kind: FieldKind, order: u8, spec: &NameSpec) {
        let id = NameId(u16::try_from(self.names.len()).expect("rules bound names and segments"));
        self.names.push(Name {
            path: spec.path.clone(),
            kind,
            order,
            weak: spec.weak,
            is_configured: spec.is_configured,
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
            let next = u16::try_from(self.nodes.len()).expect("rules bound names and segments");
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
        let segments = Segments::new(self.children, &self.nodes);
        NameTable { names: self.names, nodes: self.nodes, segments }
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
const TYPED_VALUES: &[&[u8]] =
    &[b"stringValue", b"intValue", b"doubleValue", b"boolValue", b"kvlistValue", b"values"];

/// The first and the last eight bytes of a segment with letter case folded: all of it, up to 16
/// bytes. (Folding sets bit 5, which also folds `@` and a few others that no name tells apart.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Folded {
    first: u64,
    last: u64,
    len: usize,
}

impl Folded {
    const LOWER: u64 = 0x2020_2020_2020_2020;

    fn new(segment: &[u8]) -> Self {
        let mut short = [0; 8];
        let (first, last) = match (segment.first_chunk(), segment.last_chunk()) {
            (Some(first), Some(last)) => (*first, *last),
            _ => {
                short[..segment.len()].copy_from_slice(segment);
                (short, [0; 8])
            }
        };
        Self::of_words(u64::from_le_bytes(first), u64::from_le_bytes(last), segment.len())
    }

    /// That of up to 15 bytes in front of a quote, and how many they are: none when there is no
    /// quote among these, or a backslash in front of it.
    #[inline(always)]
    pub(super) fn before_quote(bytes: &[u8; 16]) -> Option<(Self, usize)> {
        let (words, _) = bytes.as_chunks::<8>();
        let [first, second] = [u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1])];
        let end = |word| bytes_equal(word, b'"') | bytes_equal(word, b'\\');
        let (found, second_found) = (end(first), end(second));
        let (words, len) = if found != 0 {
            let bits = found.trailing_zeros() & !7;
            ((first & !(u64::MAX << bits), 0), bits / 8)
        } else if second_found != 0 {
            let bits = second_found.trailing_zeros() & !7;
            ((first, first >> bits | second.unbounded_shl(64 - bits)), 8 + bits / 8)
        } else {
            return None;
        };
        let len = len as usize;
        (bytes[len] == b'"').then(|| (Self::of_words(words.0, words.1, len), len))
    }

    const fn of_words(first: u64, last: u64, len: usize) -> Self {
        Self { first: first | Self::LOWER, last: last | Self::LOWER, len }
    }

    /// False only where there is none.
    #[inline]
    fn may_hold_dot(self) -> bool {
        !self.is_whole() || bytes_equal(self.first, b'.') | bytes_equal(self.last, b'.') != 0
    }

    /// Whether that is all of the segment.
    const fn is_whole(self) -> bool {
        self.len <= 16
    }

    #[inline]
    const fn state(self) -> u64 {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        (self.first ^ self.last.rotate_left(29)).wrapping_mul(FACTOR)
    }

    /// A bit of 64 words.
    #[inline]
    fn filter_bit(self) -> (usize, u64) {
        let state = self.state();
        let word = usize::try_from(state >> 58).expect("6 bits fit");
        (word, 1 << (state >> 52 & 63))
    }

    /// A tag and a place to begin.
    #[inline]
    fn hash(self) -> (u16, usize) {
        let state = self.state();
        let tag = u16::try_from(state >> 16 & 0xffff).expect("masked to 16 bits");
        (tag, usize::try_from(state >> 32).expect("half of 64 bits"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::defaults;
    use super::*;

    fn table() -> NameTable {
        NameTable::new(&FieldKind::ALL.map(|kind| (kind, defaults::names_of(kind))).into())
    }

    /// A step without filter, hash or short cut.
    fn plain_step(table: &NameTable, from: Position, key: &str) -> Position {
        let mut segments = key.split('.').peekable();
        let mut position = from;
        while let Some(text) = segments.next() {
            let same = |one: &&Segment| one.text.eq_ignore_ascii_case(text.as_bytes());
            let segment = table.segments.all.iter().find(same);
            let of = |parent| match (segment, parent) {
                (None, _) => NONE,
                (Some(segment), ROOT) => segment.from_top.node,
                (Some(segment), parent) => {
                    let below = segment.below.iter().find(|(of, _)| *of == parent);
                    below.map_or(NONE, |(_, child)| *child)
                }
            };
            let own = of(position.node);
            let child = if own == NONE && position.scope.is_some() { of(ROOT) } else { own };
            position = match table.nodes.get(usize::from(child)) {
                Some(node) => position.down(child, node.container),
                None if TYPED_VALUES.contains(&text.as_bytes()) => position,
                None => Position::DEAD,
            };
            if segments.peek().is_some() && !table.is_live(position) {
                return Position::DEAD;
            }
        }
        position
    }

    fn check(table: &NameTable, from: Position, key: &str) {
        let expected = plain_step(table, from, key);
        assert_eq!(table.step(from, key.as_bytes()), expected, "{key}");
        let folded = Folded::new(key.as_bytes());
        assert!(expected.is_dead() || table.may_hold(folded), "{key}");
        let mut window = [b'x'; 16];
        if key.len() < window.len() {
            window[..key.len()].copy_from_slice(key.as_bytes());
            window[key.len()] = b'"';
            assert_eq!(Folded::before_quote(&window), Some((folded, key.len())), "{key}");
            window[key.len()] = b'\\';
        }
        assert_eq!(Folded::before_quote(&window), None, "{key}");
    }

    #[test]
    fn every_name_is_found_as_by_a_plain_search() {
        let table = table();
        let mut keys: Vec<String> = table.names.iter().flat_map(|n| spellings(&n.path)).collect();
        keys.extend(keys.clone().iter().map(|key| key.to_ascii_uppercase()));
        keys.extend(TYPED_VALUES.iter().map(|key| String::from_utf8_lossy(key).into_owned()));
        keys.extend(CONTAINERS.iter().map(|(path, _)| (*path).to_owned()));
        let firsts =
            ["attributes", "resource", "stringvalue", "event", "user", "kubernetes.labels"];
        let firsts = firsts.map(|first| table.step(Position::TOP, first.as_bytes()));
        for from in [Position::TOP, Position::DEAD].into_iter().chain(firsts) {
            for key in &keys {
                check(&table, from, key);
                check(&table, from, &format!("{key}x"));
            }
        }
    }

    proptest! {
        #[test]
        fn any_key_is_found_as_by_a_plain_search(
            key in "[a-zA-Z_.]{0,20}",
            first in 0usize..300,
            second in 0usize..300,
        ) {
            let table = table();
            check(&table, Position::TOP, &key);
            let text = |index: usize| {
                let segment = &table.segments.all[index % table.segments.all.len()];
                String::from_utf8_lossy(&segment.text).into_owned()
            };
            let from = table.step(Position::TOP, text(first).as_bytes());
            check(&table, from, &text(second));
            check(&table, Position::TOP, &format!("{}.{}", text(first), text(second)));
            check(&table, from, &format!("{}.{key}", text(second)));
        }
    }
}
