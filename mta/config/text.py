"""The octets of a configuration file → text, and the problems found in it with their places.

A file that is not UTF-8, or that holds control characters, is refused at the
octet where that begins, before anything tries to make sense of it.

Units    Lines and columns count from 1; a column is a character.

Invariants, each a property in tests/config/test_text.py
    X1   decode() returns text or raises BadFile, whatever the octets.
    X2   position() is the line and column at which an editor shows the offset.
"""

from __future__ import annotations

from mta.errors import ConfigError
from mta.values import frozen

__all__ = ["BadFile", "Problem", "decode", "position", "read_octets"]

# Line ends to YAML 1.1 and to str.splitlines, to no editor: positions would lie.
_FOREIGN_ENDS = {"\x85", "\u2028", "\u2029"}
_CONTROLS = {chr(c) for c in (*range(32), *range(127, 160))} - {"\t", "\n", "\r"} | _FOREIGN_ENDS


@frozen
class Problem:
    """What is wrong, and where."""

    line: int
    column: int
    text: str


class BadFile(Exception):
    """A file cannot be used; ``problems`` say why, in the order of the file."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems, key=lambda p: (p.line, p.column))
        super().__init__("; ".join(p.text for p in self.problems))

    def spell(self, path: str) -> str:
        """Return one ``path:line:column: text`` a line."""
        return "\n".join(f"{path}:{p.line}:{p.column}: {p.text}" for p in self.problems)


def position(text: str, offset: int) -> tuple[int, int]:
    """Return the line and column of ``offset`` in ``text``."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def decode(octets: bytes) -> str:
    """Return the text of a configuration file, without a byte order mark, with LF line ends."""
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError as error:
        before = octets[: error.start].decode("utf-8")
        what = f"octet 0x{octets[error.start]:02x} is not UTF-8"
        raise BadFile([Problem(*position(before, len(before)), what)]) from None
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    controls = (_CONTROLS | {"\r"}).intersection(text)
    if controls:
        offset = min(text.index(c) for c in controls)
        what = f"the control character U+{ord(text[offset]):04X} is not allowed"
        raise BadFile([Problem(*position(text, offset), what)])
    return text


def read_octets(path: str, limit: int) -> tuple[bytes, tuple[int, ...]]:
    """Return the octets of the regular file ``path`` and the signature of what was read.

    The signature is taken before reading: a later edit changes it.  Raises
    ConfigError, without ``path:line``, for a missing, special or too large file.
    """
    import os
    import stat

    from mta.config.snapshot import signature

    try:
        with open(path, "rb", opener=lambda p, flags: os.open(p, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError("it is not a regular file")
            octets = file.read(limit + 1)
    except OSError as error:
        raise ConfigError(error.strerror) from None
    if len(octets) > limit:
        raise ConfigError(f"it is larger than {limit} octets")
    return octets, signature(status)
