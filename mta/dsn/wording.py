"""The words of a DSN, which a site may change: a plain text in sections, with named places.

    [subject failed]
    Your message could not be delivered
    [failed]
    Your message could not be delivered to the recipients named below.
    [class mailbox-full]
    The mailbox of this recipient is full.

A section runs to the next line in brackets; blank lines around it do not count,
nor do lines that begin with "#".  ``$name`` is a place that is filled in, "$$" a
dollar sign; each section has places of its own.  What a site's text leaves out
is as in the text of the house (WORDS), so that an old one goes on to work.

Source   RFC 3464 s1.1: a notification is for people first.  string.Template's
         places, without anything that could be executed.

Invariants, each a property in tests/dsn/test_wording.py
    T1   parse() raises TemplateError with a line for whatever it does not take; what it
         takes can be filled, whatever stands in the places.
    T2   What stands in a place is never looked at for places of its own.
    T3   A section that a text has is the site's; every other one is the house's.
"""

from __future__ import annotations

from mta.dsn.classes import CLASSES
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ACTIONS", "LIMIT", "PLACES", "WORDS", "TemplateError", "fill", "parse"]

ACTIONS = ("failed", "delayed", "delivered", "relayed", "expanded")
LIMIT = 65536  # characters of a text
_LINE = 900  # characters of a line: a header field and a line of mail hold them

_ANYWHERE = ("hostname", "id", "arrived", "now", "to", "postmaster")
_OF_RECIPIENT = (*_ANYWHERE, "recipient", "via", "sentence", "said", "status", "class", "until")

# Which places each section has.
PLACES: dict[str, tuple[str, ...]] = {
    "opening": _ANYWHERE,
    "closing": (*_ANYWHERE, "quoted"),
    "recipient": _OF_RECIPIENT,
    "until": ("until",),
    "postmaster": (*_ANYWHERE, "why"),
    **{f"subject {action}": _ANYWHERE for action in (*ACTIONS, "postmaster")},
    **dict.fromkeys(ACTIONS, _ANYWHERE),
    **{f"class {name}": ("recipient", "status") for name in CLASSES},
}

WORDS = """\
# The words of delivery status notifications: see dsn.template in mta.yaml(5).

[opening]
This is the mail system at $hostname.

[subject failed]
Your message could not be delivered

[failed]
Your message could not be delivered to the recipients named below. It will not be tried again.

[subject delayed]
Your message has not been delivered yet

[delayed]
Your message is still on its way to the recipients named below. You need not send it again: \
it is tried again and again. Should it have to be given up you will be told.

[subject delivered]
Your message was delivered

[delivered]
As you asked to be told: your message was delivered to the recipients named below.

[subject relayed]
Your message was passed on

[relayed]
As you asked to be told: your message was passed on for the recipients named below, \
to a system that does not report what becomes of it.

[subject expanded]
Your message was passed on to several recipients

[expanded]
As you asked to be told: your message has arrived at the addresses named below, each of which \
stands for several recipients, and goes on to them. If it cannot reach one of them you will be told.

[subject postmaster]
Undelivered mail whose author cannot be told

[postmaster]
You are told of this as the postmaster: a message could not be delivered, and its author \
cannot be told of that ($why).

# One for each recipient: the lines that stay empty are left out.
[recipient]
<$recipient>$via:
    $sentence
    $said
    $until

[until]
It will be tried until $until.

[closing]
The $quoted follows this report.

[class bad-address]
There is no such address: please check how it is spelt.

[class bad-domain]
What stands behind the @ is no place that receives mail: please check how it is spelt.

[class mailbox-full]
The mailbox of this recipient is full.

[class inactive]
This address is no longer in use.

[class policy]
The other system does not want this message, or mail from here: it may have taken it for spam.

[class auth-failure]
The other system could not make sure that the message comes from who it says.

[class greylisted]
The other system asks everybody whom it does not know to come again later.

[class rate-limited]
The other system takes no more mail from here for a while.

[class too-large]
The message is too large for the other system.

[class content]
The other system does not accept what is in the message, or the files that came with it.

[class relaying-denied]
The other system does not take mail for this address from us.

[class dns]
It could not be found out where mail for this address goes.

[class connection]
No connection to the other system could be made.

[class timeout]
The other system does not answer.

[class tls]
No connection could be made that is as safe as it has to be.

[class loop]
The message goes round in a circle.

[class expired]
It was tried for as long as messages are kept here.

[class other]
"""


class TemplateError(ValueError):
    """A text that cannot be used, with the ``line`` and the ``column`` where that shows."""

    def __init__(self, line: int, column: int, text: str) -> None:
        super().__init__(text)
        self.line = line
        self.column = column


def parse(text: str) -> dict[str, str]:
    """Return the sections of ``text``; TemplateError at the first thing that is wrong."""
    if len(text) > LIMIT:
        raise TemplateError(1, 1, f"longer than {LIMIT} characters")
    sections: dict[str, list[str]] = {}
    current: list[str] | None = None
    places: tuple[str, ...] = ()
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        _check_line(number, line)
        if line.startswith("#"):
            continue
        if line.startswith("[") and line.rstrip(" ").endswith("]"):
            name = " ".join(line.rstrip(" ")[1:-1].split())
            if name not in PLACES:
                raise TemplateError(number, 1, f"no section is called {name!r}")
            if name in sections:
                raise TemplateError(number, 1, f"the section {name!r} is here twice")
            current, places = sections.setdefault(name, []), PLACES[name]
        elif current is not None:
            _check_places(number, line, places)
            if name.startswith(("subject ", "class ")) and line.strip() and any(current):
                raise TemplateError(number, 1, f"the section {name!r} has one line only")
            current.append(line.rstrip(" "))
        elif line.strip():
            raise TemplateError(number, 1, "text before the first section, as [failed]")
    whole = {name: "\n".join(lines).strip("\n") for name, lines in sections.items()}
    for name, words in whole.items():
        if name.startswith("subject ") and not words:
            raise TemplateError(1, 1, f"the section {name!r} is empty")
    return whole


def _check_line(number: int, line: str) -> None:
    if len(line) > _LINE:
        raise TemplateError(number, _LINE + 1, f"a line of more than {_LINE} characters")
    for column, sign in enumerate(line, 1):
        if not sign.isprintable():
            raise TemplateError(number, column, "a control character")


def _check_places(number: int, line: str, places: tuple[str, ...]) -> None:
    """Raise TemplateError for a place that the section has not."""
    for _, column, name in _pieces(line):
        if name is not None and name not in places:
            known = " ".join(f"${place}" for place in places)
            what = f"no place is called ${name} here" if name else "a lone $: write $$"
            raise TemplateError(number, column, f"{what}; there are: {known}")


def _pieces(line: str) -> list[tuple[str, int, str | None]]:
    """Return the parts of ``line``: plain text with None, or "" and a place's name; "" is none."""
    parts: list[tuple[str, int, str | None]] = []
    at = 0
    while (found := line.find("$", at)) >= 0:
        parts.append((line[at:found], at + 1, None))
        if line.startswith("$$", found):
            parts.append(("$", found + 1, None))
            at = found + 2
            continue
        end = found + 1
        if line.startswith("${", found) and "}" in line[found:]:
            end = line.index("}", found)
            parts.append(("", found + 1, line[found + 2 : end]))
            at = end + 1
            continue
        while end < len(line) and line[end].isascii() and line[end].isalpha():
            end += 1
        parts.append(("", found + 1, line[found + 1 : end]))
        at = end
    parts.append((line[at:], at + 1, None))
    return parts


def fill(words: str, values: Mapping[str, str]) -> list[str]:
    """Return the lines of a section with its places filled; a line left empty by them goes."""
    lines = []
    for line in words.split("\n"):
        parts = _pieces(line)
        text = "".join([values[name] if name else plain for plain, _, name in parts])
        if text.strip() or not line.strip():
            lines.append(text)
    return lines


HOUSE = parse(WORDS)
