"""What the schema of mta.yaml is made of: keys, and the kinds of value that they take."""

from __future__ import annotations

from collections.abc import Iterator

from mta.values import frozen

__all__ = [
    "PATH_PROGRAM",
    "Key",
    "Kind",
    "ListOf",
    "MapOf",
    "OneOf",
    "Options",
    "keys",
    "program_kind",
]

PATH_PROGRAM = "path"  # what ``programs`` calls a program given by its absolute path


@frozen
class ListOf:
    """A sequence of ``item``s; with ``lone``, one scalar stands for a list of one."""

    item: Kind
    lone: bool = False
    least: int = 0


@frozen
class OneOf:
    """A scalar, a list or a mapping, as far as each is given: what ``users`` and ``retry`` are."""

    scalar: str | None = None
    listed: ListOf | None = None
    mapped: MapOf | None = None


@frozen
class Options:
    """A map of any names to a text, or to a list of texts."""


@frozen
class MapOf:
    """A mapping with these keys.

    ``by_program`` says that which keys belong depends on the key ``program``.
    """

    keys: tuple[Key, ...]
    by_program: bool = False


Kind = str | ListOf | OneOf | MapOf | Options  # str: the name of a word in scalars.WORDS
Default = str | tuple[str, ...] | None


@frozen
class Key:
    """One key.

    ``default`` is typed as a person would type it; None means that the key may
    be absent, or must not be if ``required``.  ``programs`` are those that the
    key belongs to, () for all; ``defaults`` are those that differ by program.
    """

    name: str
    kind: Kind
    about: str
    default: Default = None
    required: bool = False
    programs: tuple[str, ...] = ()
    defaults: tuple[tuple[str, str], ...] = ()

    def default_for(self, program: str) -> Default:
        """Return the default under the program kind ``program`` ("" outside of channels)."""
        return dict(self.defaults).get(program, self.default)

    def belongs(self, program: str) -> bool:
        """Whether the key means anything to the program kind ``program``."""
        return not self.programs or program in self.programs


def program_kind(program: str) -> str:
    """Return the name by which ``programs`` and ``defaults`` know ``program``."""
    return PATH_PROGRAM if program.startswith("/") else program


def keys(tree: MapOf, above: str = "") -> Iterator[tuple[str, Key]]:
    """Walk the tree: every key with its dotted name, as "channels.retry.first"."""
    for key in tree.keys:
        dotted = above + key.name
        yield dotted, key
        kind: Kind | None = key.kind.item if isinstance(key.kind, ListOf) else key.kind
        if isinstance(kind, OneOf):
            kind = kind.mapped
        if isinstance(kind, MapOf):
            yield from keys(kind, dotted + ".")
