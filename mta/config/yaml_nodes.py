"""The text of mta.yaml → plain nodes with line and column; YAML's surprises end here.

PyYAML is used up to its node graph and no further: every scalar stays the text
that was typed, so ``10:30``, ``0640`` and ``no`` mean what they say.  Anchors
and aliases work within a budget; merge keys, tags, duplicate keys and second
documents are errors.

Source   YAML 1.1 as PyYAML reads it.  The only module that imports PyYAML.
Units    Lines and columns count from 1; a column is a character.

Invariants, each a property in tests/config/test_yaml_nodes.py
    Y1   parse() returns a Node or raises BadFile, whatever the text.
    Y2   A key given twice in one mapping is always an error, at the second.
    Y3   A scalar's text is the text typed, whatever it looks like.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from mta.config.text import BadFile, Problem, position
from mta.values import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Node", "parse"]

MAX_NODES = 50_000  # with aliases followed: a "billion laughs" ends here
MAX_DEPTH = 30

_PREFIX = "tag:yaml.org,2002:"
_OWN_TAGS = {"!", _PREFIX + "str", _PREFIX + "map", _PREFIX + "seq"}
_NULLS = ("", "~", "null", "Null", "NULL")


@frozen
class Node:
    """A value as typed.

    ``kind`` is "text", "list", "map" or "nothing" (an empty value); ``value``
    is a str, a tuple of Nodes, or a tuple of (key Node, value Node).  ``plain``
    is False for quoted and block text.
    """

    kind: str
    value: Any
    line: int
    column: int
    plain: bool = True


def parse(text: str) -> Node:
    """Return the one document in ``text``; an empty one is an empty "map".

    Raises BadFile with every problem found.
    """
    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.reader.ReaderError as error:
        raise BadFile([Problem(*position(text, error.position), str(error.reason))]) from None
    except yaml.MarkedYAMLError as error:
        raise BadFile([_explain(error)]) from None
    except (RecursionError, ValueError, OverflowError):  # the latter: escapes beyond Unicode
        raise BadFile([Problem(1, 1, "this is not readable as YAML")]) from None
    if root is None:
        return Node("map", (), 1, 1)
    walk = _Walk()
    node = walk.convert(root, 0)
    if walk.problems:
        raise BadFile(walk.problems)
    return node


def _explain(error: yaml.MarkedYAMLError) -> Problem:
    """PyYAML's complaint as one line, at the place that it points to."""
    mark = error.problem_mark or error.context_mark
    reason = str(error.problem or error.context or "this is not YAML")
    if error.context and "single document" in error.context:
        reason = "a second document begins here: the file holds one"
    elif "'\\t'" in reason:
        reason = "a tab cannot indent YAML: use spaces"
    elif "but got '{'" in reason:
        reason = "a value with braces needs quotes here"
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    return Problem(line, column, reason)


class _Walk:
    """One walk from PyYAML's nodes to ours, within the budget."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._left = MAX_NODES

    def _complain(self, node: yaml.Node, text: str) -> None:
        mark = node.start_mark
        self.problems.append(Problem(mark.line + 1, mark.column + 1, text))

    def convert(self, node: yaml.Node, depth: int) -> Node:
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        self._left -= 1
        if self._left < 0 or depth > MAX_DEPTH:
            if self._left >= -1:
                self._complain(node, "nested too deep, or aliases make this too large")
            self._left = -1  # the rest is not walked, and this is said once
            return Node("nothing", "", line, column)
        if node.tag not in _OWN_TAGS:
            tag = node.tag.replace(_PREFIX, "!!")
            self._complain(node, f"the tag {tag} means nothing here: write the value alone")
        if isinstance(node, yaml.ScalarNode):
            plain = node.style is None
            kind = "nothing" if plain and node.value in _NULLS else "text"
            return Node(kind, node.value, line, column, plain)
        if isinstance(node, yaml.SequenceNode):
            items = tuple([self.convert(item, depth + 1) for item in node.value])
            return Node("list", items, line, column)
        return Node("map", tuple(self._pairs(node, depth)), line, column)

    def _pairs(self, node: yaml.Node, depth: int) -> Iterator[tuple[Node, Node]]:
        seen: dict[str, int] = {}
        for key, value in node.value:
            name = key.value
            if not isinstance(key, yaml.ScalarNode):
                self._complain(key, "a key must be a plain word")
            elif name == "<<":
                self._complain(key, "merge keys (<<) are not supported: write the keys out")
            elif name in seen:
                self._complain(key, f"the key {name!r} is here twice, first in line {seen[name]}")
            else:
                seen[name] = key.start_mark.line + 1
                yield self.convert(key, depth + 1), self.convert(value, depth + 1)
