"""The options that name jobs, as a table, and what was typed as a filter.

``mta.cli`` makes its options of OPTIONS, so that each command takes the same.
"""

from __future__ import annotations

from mta.address import parse_mailbox
from mta.config import scalars
from mta.errors import UsageError
from mta.machine.logline import printable
from mta.policy.filters import STATES, Filter
from mta.spool.layout import author_signs, host_word, valid_id
from mta.spool.spool import Spool
from mta.types import BULK, NORMAL, NULL_PATH, URGENT
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mta.config.model import Config

    Given = Mapping[str, str | Sequence[str] | bool | None]

__all__ = ["CHOICES", "OPTIONS", "check_queues", "read"]

# name, what stands for its value ("" for a flag, "..." behind it: may be repeated), its help
OPTIONS: tuple[tuple[str, str, str], ...] = (
    ("id", "ID...", "Message ID, or its job ID.N; also without --id."),
    ("recipient", "ADDRESS", "To ADDRESS; @DOMAIN, @.DOMAIN for all of a domain, or below it."),
    ("sender", "ADDRESS", "From ADDRESS, @DOMAIN, @.DOMAIN; <> for the null reverse-path."),
    ("host", "HOST", "For the next hop HOST, or with .DOMAIN for all below it."),
    ("channel", "NAME", "Of this channel."),
    ("queue", "NAME...", "In this queue."),
    ("older", "AGE", "That arrived longer ago than AGE, as 30m, 2h, 5d."),
    ("newer", "AGE", "That arrived within AGE."),
    ("larger", "SIZE", "Of more octets than SIZE, as 500KiB, 10MiB."),
    ("smaller", "SIZE", "Of fewer octets than SIZE."),
    ("reason", "TEXT", "Whose last reply holds TEXT."),
    ("class", "CLASS", "Of this class: urgent, normal, bulk."),
    ("state", "STATE", "Never tried, tried in vain, or held: pending, deferred, held."),
    ("all", "", "All of them."),
)
CHOICES = {"class": (URGENT, NORMAL, BULK), "state": STATES}


def read(given: Given) -> Filter:
    """Return what the options ``given`` (by their names) ask for.

    UsageError if a value is none, or if nothing was asked for.
    """
    text = {name: str(given.get(name) or "") for name, _, _ in OPTIONS}
    author, host = text["sender"].lower(), given.get("host")
    wanted = Filter(
        tuple([_id(word) for word in _many(given, "id")]),
        _address(text["recipient"], "recipient"),
        author if author == "<>" else _address(author, "sender"),
        _signs(author),
        None if host is None else str(host).lower(),
        "" if host is None else host_word(str(host).lower()),
        text["channel"],
        tuple(_many(given, "queue")),
        *(_age(given, "older"), _age(given, "newer")),
        *(_octets(given, "larger"), _octets(given, "smaller")),
        text["reason"],
        text["class"],
        text["state"],
        everything=bool(given.get("all")),
    )
    if wanted.empty:
        raise UsageError("which jobs? name them by ids or options; --all for all of them")
    if wanted.everything and wanted != Filter(everything=True):
        raise UsageError("--all leaves no choice: it goes with no other")
    return wanted


def check_queues(config: Config, names: Iterable[str]) -> None:
    """UsageError for a queue that no channel has and that never held a job."""
    for name in names:
        if name not in config.queues() and name not in Spool.open(config.spool).queues():
            raise UsageError(f"no queue is called {printable(name)[:60]!r}")


def _many(given: Given, name: str) -> list[str]:
    value = given.get(name) or ()
    return list(value) if isinstance(value, (tuple, list)) else [str(value)]


def _id(word: str) -> str:
    message_id, dot, number = word.partition(".")
    if not valid_id(message_id) or (dot and not number.isdecimal()):
        raise UsageError(f"{printable(word)[:60]!r} is no id of a message or a job")
    return word


def _address(text: str, option: str) -> str:
    """Return what stands for an address, or for all of a domain."""
    if not text or text.startswith("@"):
        return text
    try:
        return str(parse_mailbox(text))
    except ValueError as error:
        raise UsageError(f"--{option}: {error}") from None


def _signs(author: str) -> str:
    """Return what names call an author; "" for none in particular."""
    if not author or author.startswith("@"):
        return ""
    return author_signs(NULL_PATH if author == "<>" else parse_mailbox(author))


def _age(given: Given, name: str) -> float | None:
    text = given.get(name)
    return None if text is None else _read(name, str(text), scalars.time)


def _octets(given: Given, name: str) -> int | None:
    text = given.get(name)
    return None if text is None else int(_read(name, str(text), scalars.size))


def _read(name: str, text: str, reader: Callable[[str], float]) -> float:
    try:
        return reader(text)
    except ValueError as error:
        raise UsageError(f"--{name}: {printable(text)!r} {error}") from None
