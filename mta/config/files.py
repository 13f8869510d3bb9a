"""The files that mta.yaml names: tables of hosts, the alias file, lists of users, DSNs' words.

Source   Aliases: the classic format, aliases(5) of sendmail and Postfix.

Invariants, each a property in tests/config/test_files.py
    F1   A name given twice is an error at the second, naming the first's line.
    F2   What is read holds no control character.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from mta.config.model import Alias, Row
from mta.config.places import hop, suffix_or_host
from mta.config.scalars import name
from mta.config.text import BadFile, Problem, position
from mta.dsn import wording

__all__ = ["read_aliases", "read_table", "read_template", "read_users"]

_WORD = re.compile(r"[^ \t]+")


class _Finder:
    """Collects rows and problems; refuses what is there twice."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._lines: dict[str, int] = {}

    def complain(self, line: int, column: int, text: str) -> None:
        self.problems.append(Problem(line, column, text))

    def read(self, reader: Callable[[str], str], text: str, line: int, column: int) -> str:
        """Return ``text`` as ``reader`` has it; "" after a complaint."""
        try:
            return reader(text)
        except ValueError as error:
            self.complain(line, column, f"{text[:80]!r} {error}")
            return ""

    def once(self, key: str, line: int, column: int) -> bool:
        """Whether ``key`` is here for the first time; a complaint if not."""
        if key in self._lines:
            first = self._lines[key]
            self.complain(line, column, f"{key[:80]!r} is here twice, first in line {first}")
            return False
        self._lines[key] = line
        return True

    def finish(self) -> None:
        if self.problems:
            raise BadFile(self.problems)


def _rows(text: str) -> Iterator[tuple[int, list[tuple[int, str]]]]:
    """Each line that says something: its number, and its words with their columns."""
    for number, line in enumerate(text.split("\n"), 1):
        said = line.partition("#")[0]
        words = [(m.start() + 1, m[0]) for m in _WORD.finditer(said)]
        if words:
            yield number, words


def read_table(text: str) -> tuple[Row, ...]:
    """Read ``host.example [next-hop] [tls=LEVEL]`` lines, ".example" for all below it."""
    finder = _Finder()
    next_hops: dict[str, str] = {}  # as typed → as read: a table names few, often
    rows = []
    for line, words in _rows(text):
        column, word = words[0]
        pattern = finder.read(suffix_or_host, word, line, column)
        typed = " ".join([text for _, text in words[1:]])
        if typed and typed not in next_hops:
            next_hops[typed] = finder.read(hop, typed, line, words[1][0])
        next_hop = next_hops.get(typed, "")
        if pattern and finder.once(pattern, line, column):
            rows.append((line, pattern, next_hop))
    finder.finish()
    return tuple(rows)


def read_users(text: str) -> tuple[str, ...]:
    """Read a user name a line, "#" for comments."""
    finder = _Finder()
    users = []
    for line, words in _rows(text):
        column, word = words[0]
        if len(words) > 1:
            finder.complain(line, words[1][0], "a line holds one user")
        user = finder.read(name, word, line, column)
        if user and finder.once(user, line, column):
            users.append(user)
    if not users:
        finder.complain(1, 1, "there is no user here")
    finder.finish()
    return tuple(users)


def read_template(text: str) -> tuple[tuple[str, str], ...]:
    """Read the sections of a site's words for DSNs; wording.py says what they are."""
    try:
        return tuple(wording.parse(text).items())
    except wording.TemplateError as error:
        raise BadFile([Problem(error.line, error.column, str(error))]) from None


def read_aliases(text: str) -> tuple[Alias, ...]:
    r"""Read ``name: target, target…`` entries; a line that begins with a space continues.

    A target is an address, "\user", "/file", "|command", ":include:/file",
    quoted whole if it holds a space or a comma.
    """
    finder = _Finder()
    lines = [("" if t.lstrip(" \t").startswith("#") else t) for t in text.split("\n")]
    clean = "\n".join(lines)
    aliases = []
    for line, start, end in _entries(lines):
        if clean[start] in " \t":
            indent = len(clean[start:end]) - len(clean[start:end].lstrip(" \t"))
            finder.complain(line, 1 + indent, "there is nothing that this line continues")
            continue
        key, after = _name(finder, clean, start, end)
        targets = _targets(finder, clean, after, end) if key else ()
        if key and finder.once(key, line, 1):
            aliases.append((key, targets, line))
    finder.finish()
    return tuple(aliases)


def _entries(lines: list[str]) -> Iterator[tuple[int, int, int]]:
    """Yield each entry, a line and those that continue it: its line, where it begins and ends."""
    offset, first, start, end = 0, 0, -1, 0
    for number, line in enumerate(lines, 1):
        if line.strip(" \t"):
            if start >= 0 and line[0] not in " \t":
                yield first, start, end
                start = -1
            if start < 0:
                first, start = number, offset
            end = offset + len(line)
        offset += len(line) + 1
    if start >= 0:
        yield first, start, end


_QUOTED = r'"(?:[^"\\\n]|\\.)*"'
_ALIAS = re.compile(rf"(?:({_QUOTED})|([^\s:\"@,|/]+))[ \t]*:")
_PART = re.compile(rf"(?:{_QUOTED}|[^\",])+")
_STRAY_SPACE = re.compile(rf"(?:{_QUOTED}|[^\s\"])+(\s)")


def _name(finder: _Finder, text: str, start: int, end: int) -> tuple[str, int]:
    """Read the alias's name and return it with the offset after the colon; "" if it is none."""
    match = _ALIAS.match(text, start, end)
    key = _unquote(match[1])[1:-1] if match and match[1] else match[2] if match else ""
    if match is None or not key or "@" in key:
        what = 'an entry is "name: target, target"; a name is a local part without its domain'
        finder.complain(*position(text, start), what)
        return "", end
    return key.lower(), match.end()


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _targets(finder: _Finder, text: str, start: int, end: int) -> tuple[str, ...]:
    """Read the targets between two offsets; complain at the place of a bad one."""
    targets = []
    offset = start
    while offset <= end:
        match = _PART.match(text, offset, end)
        raw = match[0] if match else ""
        after = offset + len(raw)
        if after < end and text[after] != ",":
            finder.complain(*position(text, after), "a quoted text must end on its line")
            break
        target = _target(finder, text, raw.strip(), offset + len(raw) - len(raw.lstrip()))
        targets += [target] if target else []
        offset = after + 1
    return tuple(targets)


def _target(finder: _Finder, text: str, raw: str, at: int) -> str:
    """Return one target as the router wants it: an action without its quotes, or an address."""
    if raw[-1:] == ">" and "<" in raw and raw[0] not in "|/:":
        raw = raw[raw.rindex("<") + 1 : -1]  # Some Name <address>
    if raw.startswith('|"') and raw.endswith('"') and re.fullmatch(_QUOTED, raw[1:]):
        return "|" + _unquote(raw[2:-1])
    if re.fullmatch(_QUOTED, raw):
        inside = _unquote(raw[1:-1])
        if inside.startswith(("|", "/", ":include:")):
            raw = inside
    elif stray := _STRAY_SPACE.match(raw):
        column = position(text, at + stray.start(1))
        what = "a space in a target: quote it, or put a comma or the comment elsewhere"
        finder.complain(*column, what)
        return ""
    if not raw or raw in ("|", "/", ":include:", '""', "\\"):
        finder.complain(*position(text, at), "a target is missing here")
        return ""
    if raw.startswith(":") and not raw.startswith(":include:"):
        finder.complain(
            *position(text, at), f"{raw[:80]!r} is not a target; there is :include:/path"
        )
        return ""
    return raw
