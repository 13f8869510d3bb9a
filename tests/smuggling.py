"""All short mixes of CR, LF, NUL and dot, and what one reading of RFC 5321 makes of them.

The oracle shares nothing with the product: data end at the first CRLF.CRLF of the whole
stream (RFC 5321 s4.1.1.4), and what stands before it is good only without a CR or LF alone
(s2.3.8).  Behind each mix stands a NOOP: it is content as long as data have not ended, and
a command with a reply of its own once they have.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from mta.values import frozen

HEADER = b"Subject: x\r\n\r\n"
ENVELOPE = b"MAIL FROM:<a@client.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n"
TAIL = b"NOOP\r\n\r\n.\r\nNOOP\r\n"
OK, BARE, NOT_A_COMMAND = b"250 2.0.0", b"550 5.6.0", b"500 5.5.2"
_ALONE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_ANY = re.compile(rb"\r\n|\r|\n")


@frozen
class Reading:
    """What is to come of some octets after DATA: the replies, and the body if it is good."""

    replies: tuple[bytes, ...]
    body: bytes | None


def mixes(longest: int, shortest: int = 0) -> Iterator[bytes]:
    """All words of these lengths over CR, LF, NUL and dot."""
    for length in range(shortest, longest + 1):
        for word in itertools.product((b"\r", b"\n", b"\0", b"."), repeat=length):
            yield b"".join(word)


def alone(octets: bytes) -> bool:
    """Whether a CR or LF stands alone in ``octets``."""
    return _ALONE.search(octets) is not None


def read(octets: bytes, lenient: bool = False) -> Reading:
    """Read what is sent after 354, to its last octet."""
    stream = b"\r\n" + octets
    end = stream.index(b"\r\n.\r\n")
    lines = stream[end + 5 :].split(b"\r\n")
    assert lines.pop() == b""
    rest = [OK if line == b"NOOP" else NOT_A_COMMAND for line in lines]
    raw = stream[: end + 2]
    if alone(raw) and not lenient:
        return Reading((BARE, *rest), None)
    clear = raw.replace(b"\r\n.", b"\r\n")[2:]
    return Reading((OK, *rest), _ANY.sub(b"\r\n", clear))


def borders(octets: bytes, mix: bytes) -> Iterator[list[bytes]]:
    """Cut ``octets`` in two, once at each border of ``mix`` and of the end behind it."""
    start = octets.index(mix + TAIL)
    for at in range(start, start + len(mix) + 1):
        yield [octets[:at], octets[at:]]


def ends(octets: bytes) -> Iterator[list[bytes]]:
    """Cut ``octets`` in two, once at each border within the last end of data."""
    start = len(octets) - len(TAIL) + 4
    for at in range(start, len(octets) - 5):
        yield [octets[:at], octets[at:]]


def codes(replies: bytes) -> tuple[bytes, ...]:
    """Return code and status of each line."""
    return tuple([line[:9] for line in replies.split(b"\r\n")[:-1]])
