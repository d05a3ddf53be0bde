#!/usr/bin/env python3
"""Writes src/pipeline/redact/plan/tables.rs from libphonenumber's metadata.

Source: the metadata of Google's libphonenumber (Apache-2.0) as shipped in the PyPI package
`phonenumbers`, pinned below. Run:

    pip install phonenumbers==9.0.43
    python3 tools/numbering_plan.py > src/pipeline/redact/plan/tables.rs

Every national number pattern is a regular expression over digits with a bounded length, so the
patterns of one calling code become one small acyclic automaton; equal states are shared between
all calling codes. The Rust side walks it: one table look-up per digit.
"""

import re
import sys
from re import _parser as sre

import phonenumbers
from phonenumbers import PhoneMetadata, phonenumberutil
from phonenumbers.phonenumbermatcher import _ALT_NUMBER_FORMATS

VERSION = "9.0.43"
# Order and numbers shared with plan/mod.rs: label & 3.
MOBILE, FIXED, FIXED_OR_MOBILE, OTHER = range(4)
OTHER_KINDS = ("premium_rate", "toll_free", "shared_cost", "voip", "personal_number", "pager", "uan", "voicemail")
TRUNK_PREFIXES_MAX = 40
NATIONAL_DIGITS_MAX = 17


class Nfa:
    """Thompson automaton over the digits; `edges[state]` is a list of (digit set, next)."""

    def __init__(self):
        self.edges, self.epsilon = [], []

    def state(self):
        self.edges.append([])
        self.epsilon.append([])
        return len(self.edges) - 1

    def add(self, pattern):
        start, end = self.state(), self.state()
        self._sequence(sre.parse(pattern), start, end)
        return start, end

    def _sequence(self, items, start, end):
        here = start
        for op, argument in items:
            there = self.state()
            self._item(str(op), argument, here, there)
            here = there
        self.epsilon[here].append(end)

    def _item(self, op, argument, start, end):
        if op == "LITERAL":
            self.edges[start].append(({argument - 48}, end))
        elif op == "IN":
            self.edges[start].append((digits_of(argument), end))
        elif op == "SUBPATTERN":
            self._sequence(argument[3], start, end)
        elif op == "BRANCH":
            for branch in argument[1]:
                self._sequence(branch, start, end)
        elif op in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, body = argument
            here = start
            for count in range(int(most)):
                if count >= least:
                    self.epsilon[here].append(end)
                there = self.state()
                self._sequence(body, here, there)
                here = there
            self.epsilon[here].append(end)
        elif op == "AT":
            self.epsilon[start].append(end)
        else:
            raise SystemExit(f"pattern operator {op} is not known")

    def closure(self, states):
        seen = set(states)
        todo = list(seen)
        while todo:
            for following in self.epsilon[todo.pop()]:
                if following not in seen:
                    seen.add(following)
                    todo.append(following)
        return frozenset(seen)

    def step(self, states, digit):
        return self.closure(
            following for state in states for digits, following in self.edges[state] if digit in digits
        )

    def language(self, start, end, most):
        """All words, or None when there are more than `most`."""
        words, todo = [], [("", self.closure([start]))]
        while todo:
            word, states = todo.pop()
            if end in states:
                words.append(word)
            if len(words) + len(todo) > most * 4 or len(words) > most:
                return None
            for digit in range(10):
                following = self.step(states, digit)
                if following:
                    todo.append((word + str(digit), following))
        return sorted(words)


def digits_of(items):
    digits = set()
    for op, argument in items:
        if str(op) == "LITERAL":
            digits.add(argument - 48)
        elif str(op) == "RANGE":
            digits.update(range(argument[0] - 48, argument[1] - 47))
        elif str(op) == "CATEGORY":
            digits.update(range(10))
        else:
            raise SystemExit(f"class operator {op} is not known")
    return digits


class Automaton:
    """All states of all calling codes; row 0 is the dead state."""

    def __init__(self):
        self.rows, self.index = [((0,) * 10, 0)], {((0,) * 10, 0): 0}

    def root(self, code, region_numbers):
        nfa, parts = Nfa(), []
        for region in phonenumberutil.COUNTRY_CODE_TO_REGION_CODE[code]:
            metadata = metadata_of(region, code)
            descs = {}
            for kind in ("general_desc", "fixed_line", "mobile", *OTHER_KINDS):
                desc = getattr(metadata, kind)
                if desc is None or not desc.national_number_pattern:
                    continue
                lengths = desc.possible_length or metadata.general_desc.possible_length
                if tuple(lengths) == (-1,):
                    continue
                descs[kind] = (*nfa.add(desc.national_number_pattern), frozenset(lengths))
            leading = nfa.add(f"(?:{metadata.leading_digits})" + r"\d{0,17}") if metadata.leading_digits else None
            parts.append((region_numbers[region], descs, leading))
        starts = [d[0] for _, descs, _ in parts for d in descs.values()]
        starts += [leading[0] for _, _, leading in parts if leading]
        self.nfa, self.parts, self.memo = nfa, parts, {}
        return self._minimal(nfa.closure(starts), 0)

    def _minimal(self, states, depth):
        if not states or depth > NATIONAL_DIGITS_MAX:
            return 0
        key = (states, depth)
        if key not in self.memo:
            following = tuple(self._minimal(self.nfa.step(states, digit), depth + 1) for digit in range(10))
            row = (following, self._label(states, depth))
            if row != self.rows[0] and row not in self.index:
                self.index[row] = len(self.rows)
                self.rows.append(row)
            self.memo[key] = self.index[row]
        return self.memo[key]

    def _label(self, states, depth):
        for number, descs, leading in self.parts:
            kind = number_type(descs, states, depth)
            if leading and leading[1] in states:
                return 0 if kind is None else 1 + number * 4 + kind
            if not leading and kind is not None:
                return 1 + number * 4 + kind
        return 0


def number_type(descs, states, depth):
    """getNumberTypeHelper of libphonenumber."""

    def fits(kind):
        return kind in descs and descs[kind][1] in states and depth in descs[kind][2]

    if not fits("general_desc"):
        return None
    if any(fits(kind) for kind in OTHER_KINDS):
        return OTHER
    if fits("fixed_line"):
        return FIXED_OR_MOBILE if fits("mobile") else FIXED
    return MOBILE if fits("mobile") else None


def metadata_of(region, code):
    if region == "001":
        return PhoneMetadata.metadata_for_nongeo_region(code)
    return PhoneMetadata.metadata_for_region(region)


def trunk_prefixes(metadata):
    """What is dialled before a national number at home, all words of the parsing rule where they are few."""
    pattern = metadata.national_prefix_for_parsing
    if not pattern:
        return [metadata.national_prefix] if metadata.national_prefix else []
    # Brazil: trunk prefix and carrier, then the number itself, which the rule only repeats.
    pattern = pattern.replace(r"(\d{10,11})", "")
    words = None
    if metadata.national_prefix_transform_rule is None or metadata.id == "BR":
        nfa = Nfa()
        words = nfa.language(*nfa.add(pattern), TRUNK_PREFIXES_MAX)
    if words is None:
        words = [metadata.national_prefix or ("0" if pattern.startswith("0") else None)]
    return [word for word in words if word]


def groupings(code, region):
    """Lengths of the digit groups of all formats, national, international and alternate."""
    metadata = metadata_of(region, code)
    formats = list(metadata.number_format) + list(metadata.intl_number_format)
    formats += list(_ALT_NUMBER_FORMATS.get(code, []))
    shapes = set()
    for form in formats:
        if not form.format or form.format == "NA":
            continue
        widths = [width(group) for group in re.findall(r"\(([^)]*)\)", form.pattern)]
        groups = []
        for run in re.findall(r"(?:\\\d|\d)+", form.format):
            parts = re.findall(r"\\(\d)|(\d)", run)
            least = sum(widths[int(group) - 1][0] if group else 1 for group, _ in parts)
            most = sum(widths[int(group) - 1][1] if group else 1 for group, _ in parts)
            groups.append((least, most))
        if 2 <= len(groups) <= 6:
            shapes.add(tuple(groups))
    return sorted(shapes)


def width(pattern):
    least = most = 0
    for part in re.findall(r"(?:\\d|\d|\[[^\]]*\])(?:\{(\d+)(?:,(\d+))?\})?", pattern):
        low = int(part[0] or 1)
        least, most = least + low, most + int(part[1] or part[0] or 1)
    return least, most


def mask(lengths):
    return sum(1 << length for length in lengths if length > 0)


def main():
    if phonenumbers.__version__ != VERSION:
        raise SystemExit(f"phonenumbers {VERSION} is needed, found {phonenumbers.__version__}")
    codes = sorted(phonenumberutil.COUNTRY_CODE_TO_REGION_CODE)
    regions = ["001", *sorted(phonenumbers.SUPPORTED_REGIONS)]
    numbers = {region: number for number, region in enumerate(regions)}
    automaton = Automaton()
    roots = [automaton.root(code, numbers) for code in codes]
    if len(automaton.rows) > 65535 or len(regions) > 256 or len(codes) > 254:
        raise SystemExit("the tables outgrow their index types")
    write(codes, regions, roots, automaton.rows)


def write(codes, regions, roots, rows):
    out = sys.stdout.write
    out(f"// Generated by tools/numbering_plan.py from libphonenumber's metadata {VERSION}; do not edit.\n")
    out("// python3 tools/numbering_plan.py > src/pipeline/redact/plan/tables.rs\n\n")
    out("use super::{CallingCodeRow, RegionRow};\n\n")
    out(f'pub(super) const SOURCE: &str = "libphonenumber {VERSION}";\n\n')
    out(f"pub(super) static REGIONS: [RegionRow; {len(regions)}] = [\n")
    region_codes = {region: code for code in codes for region in phonenumberutil.COUNTRY_CODE_TO_REGION_CODE[code]}
    for region in regions:
        if region == "001":
            out('    RegionRow { code: "001", calling_code_index: NO_CODE, lengths: 0, trunk_prefixes: &[] },\n')
            continue
        metadata = metadata_of(region, 0)
        prefixes = ", ".join(f'b"{word}"' for word in trunk_prefixes(metadata))
        out(
            f'    RegionRow {{ code: "{region}", calling_code_index: {codes.index(region_codes[region])}, '
            f"lengths: {mask(metadata.general_desc.possible_length):#x}, trunk_prefixes: &[{prefixes}] }},\n"
        )
    out("];\n\n")
    out(f"pub(super) static CALLING_CODES: [CallingCodeRow; {len(codes)}] = [\n")
    for code, root in zip(codes, roots):
        own = phonenumberutil.COUNTRY_CODE_TO_REGION_CODE[code]
        lengths = 0
        for region in own:
            lengths |= mask(metadata_of(region, code).general_desc.possible_length)
        shapes = ", ".join(
            "&[" + ", ".join(f"{low * 16 + high:#04x}" for low, high in shape) + "]" for shape in groupings(code, own[0])
        )
        out(
            f"    CallingCodeRow {{ calling_code: {code}, digits: {len(str(code))}, main_region: {regions.index(own[0])}, "
            f"root: {root}, lengths: {lengths:#x}, groupings: &[{shapes}] }},\n"
        )
    out("];\n\n")
    out("pub(super) const NO_CODE: u8 = 255;\n\n")
    out("// By the first three digits of an international number.\n")
    out("pub(super) static CODE_BY_PREFIX: [u8; 1000] = [\n")
    table = [255] * 1000
    for index, code in enumerate(codes):
        span = 10 ** (3 - len(str(code)))
        for slot in range(code * span, code * span + span):
            table[slot] = index
    for start in range(0, 1000, 20):
        out("    " + ", ".join(str(value) for value in table[start : start + 20]) + ",\n")
    out("];\n\n")
    out("// One row per state: the state after each digit, 0 where no number goes on.\n")
    out(f"pub(super) static NEXT: [[u16; 10]; {len(rows)}] = [\n")
    for following, _ in rows:
        out("    [" + ", ".join(map(str, following)) + "],\n")
    out("];\n\n")
    out("// One label per state: 0 where no number ends, else 1 + region * 4 + number type.\n")
    out(f"pub(super) static LABEL: [u16; {len(rows)}] = [\n")
    for start in range(0, len(rows), 20):
        out("    " + ", ".join(str(label) for _, label in rows[start : start + 20]) + ",\n")
    out("];\n")


if __name__ == "__main__":
    main()
