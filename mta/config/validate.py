"""Nodes of mta.yaml against the schema → values with their places, and every problem at once.

What comes out holds every key of the schema: as typed, or its default.

Invariants, each a property in tests/config/test_validate.py
    L1   A tree in is a complete tree out, or BadFile with each problem's place.
    L2   A default is read as if it had been typed.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from mta.config.kinds import Key, Kind, ListOf, MapOf, OneOf, Options, program_kind
from mta.config.scalars import option_name
from mta.config.text import BadFile, Problem
from mta.config.words import WORDS
from mta.config.yaml_nodes import Node
from mta.values import frozen

__all__ = ["At", "validate"]

_KINDS = {"text": "one value", "list": "a list", "map": "a mapping", "nothing": "nothing"}


@frozen
class At:
    """A value and where it stands; a default stands where its mapping begins.

    ``value`` is a scalar's value, a tuple of At, or a dict of At by key; None
    for a key that is absent and has no default.
    """

    value: Any
    line: int
    column: int

    def __getitem__(self, key: str) -> At:
        return self.value[key]  # type: ignore[no-any-return]

    def plain(self) -> Any:
        """Return the value of a list of scalars, or of a scalar, without the places."""
        if type(self.value) is not tuple:
            return self.value
        return tuple([v.value if type(v) is At else v for v in self.value])


def validate(node: Node, kind: Kind) -> At:
    """Return ``node`` read as ``kind``; BadFile with everything that is wrong."""
    walk = _Walk()
    value = walk.read(node, kind, "mta.yaml")
    if walk.problems:
        raise BadFile(walk.problems)
    return value


class _Walk:
    """One walk down nodes and schema side by side; ``what`` names the value for a person."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def _complain(self, node: Node, text: str) -> At:
        self.problems.append(Problem(node.line, node.column, text))
        return At(None, node.line, node.column)

    def _expected(self, node: Node, what: str, wanted: str) -> At:
        if node.kind == "nothing":
            return self._complain(node, f"{what} has no value: leave the key out for the default")
        return self._complain(node, f"{what} must be {wanted}, not {_KINDS[node.kind]}")

    def read(self, node: Node, kind: Kind, what: str) -> At:
        if isinstance(kind, str):
            return self._scalar(node, kind, what)
        if isinstance(kind, ListOf):
            return self._list(node, kind, what)
        if isinstance(kind, OneOf):
            by_shape = {"text": kind.scalar, "list": kind.listed, "map": kind.mapped}
            others = [k for k in (kind.scalar, kind.listed, kind.mapped) if k is not None]
            return self.read(node, by_shape.get(node.kind) or others[0], what)
        if isinstance(kind, Options):
            return self._options(node, what)
        return self._map(node, kind, what)

    def _scalar(self, node: Node, word_name: str, what: str) -> At:
        if node.kind != "text":
            return self._expected(node, what, "one value")
        word = WORDS[word_name]
        if word.bare and not node.plain:
            return self._complain(node, f"{what} is a number: write it without quotes")
        try:
            return At(word.read(node.value), node.line, node.column)
        except ValueError as error:
            return self._complain(node, f"{what}: {node.value[:80]!r} {error}")

    def _list(self, node: Node, kind: ListOf, what: str) -> At:
        if node.kind == "text" and kind.lone:
            node = Node("list", (node,), node.line, node.column)
        if node.kind != "list":
            return self._expected(node, what, "a list")
        if len(node.value) < kind.least:
            return self._complain(node, f"{what} must name at least {kind.least}")
        of = f"an item of {what}"
        return At(tuple([self.read(n, kind.item, of) for n in node.value]), node.line, node.column)

    def _options(self, node: Node, what: str) -> At:
        if node.kind != "map":
            return self._expected(node, what, "a mapping")
        pairs: list[At] = []
        for key, value in node.value:
            try:
                option_name(key.value)
            except ValueError as error:
                self._complain(key, f"{what}: {key.value[:80]!r} {error}")
            got = self._list(value, ListOf("text", lone=True), f"{key.value[:80]!r} in {what}")
            pairs += [At((key.value, v.value), v.line, v.column) for v in got.value or ()]
        return At(tuple(pairs), node.line, node.column)

    def _map(self, node: Node, kind: MapOf, what: str) -> At:
        if node.kind != "map":
            return self._expected(node, what, "a mapping")
        given = {key.value: (key, value) for key, value in node.value}
        program = self._program(given) if kind.by_program else ""
        known = {k.name: k for k in kind.keys}
        for name, (key, _) in given.items():
            self._check_key(key, known.get(name), program, list(known), what)
        values = {}
        for key_ in kind.keys:
            if key_.name in given:
                values[key_.name] = self.read(given[key_.name][1], key_.kind, key_.name)
            else:
                values[key_.name] = self._absent(node, key_, program, what)
        return At(values, node.line, node.column)

    def _program(self, given: dict[str, tuple[Node, Node]]) -> str:
        """The kind of program that a channel's keys are judged by; "" if it is no good."""
        node = given["program"][1] if "program" in given else None
        if node is None or node.kind != "text":
            return ""
        try:
            return program_kind(WORDS["program"].read(node.value))
        except ValueError:
            return ""

    def _check_key(
        self, node: Node, key: Key | None, program: str, known: list[str], what: str
    ) -> None:
        if key is None:
            near = get_close_matches(node.value, known, 1, 0.6)
            hint = f"; is it {near[0]!r}?" if near else ""
            self._complain(node, f"unknown key {node.value[:80]!r} in {what}{hint}")
        elif program and not key.belongs(program):
            whose = " and ".join(key.programs)
            mine = "a program given by its path" if program == "path" else f"program {program}"
            self._complain(node, f"{key.name!r} does not belong to {mine}, but to {whose}")

    def _absent(self, node: Node, key: Key, program: str, what: str) -> At:
        if key.required and (not key.programs or program in key.programs):
            of = f"program {program}" if key.programs else what
            return self._complain(node, f"{of} needs the key {key.name!r}")
        default = key.default_for(program)
        inner = key.kind.mapped if isinstance(key.kind, OneOf) else key.kind
        if isinstance(inner, MapOf) and default is None:
            return self._map(Node("map", (), node.line, node.column), inner, key.name)
        if default is None:
            return At(None, node.line, node.column)
        if isinstance(default, str):
            typed = Node("text", default, node.line, node.column)
        else:
            texts = tuple([Node("text", t, node.line, node.column) for t in default])
            typed = Node("list", texts, node.line, node.column)
        return self.read(typed, key.kind, key.name)
