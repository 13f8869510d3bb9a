"""One message on its way through the door: header completed, body streamed, recipients merged.

One-shot submit, ``submit --protocol`` and sendmail feed the octets as they
come; nothing here holds more than the header and one chunk.

Source   RFC 6409 s8: Message-ID, Date and From are added where they are missing;
         nothing that is there is changed.  RFC 5322 s3.6.3: Bcc is cut out where
         the recipients are taken from the header.
Units    Octets come with any line ends; the spool gets CRLF.
State    One message: its header until that is whole, then its draft.

Invariants, each a property in tests/test_submit.py
    M1   What the spool gets is what came, with CRLF line ends, and the documented
         additions; however the octets were split.
    M2   After an error nothing is accepted, and the draft is gone.
"""

from __future__ import annotations

import os
import time

from mta.accept import RefusedError
from mta.headers import (
    Header,
    HeaderError,
    LineEnds,
    Normaliser,
    date_time,
    encoded_phrase,
    received,
)
from mta.policy.modes import INTERACTIVE, QUEUE
from mta.types import PLAIN, Mailbox
from mta.values import TYPE_CHECKING, frozen, replace

if TYPE_CHECKING:
    from mta.accept import Door
    from mta.route.router import Routed
    from mta.spool.journal import Draft
    from mta.types import Outcome, ReversePath, Wishes

__all__ = ["Caller", "Submission", "Terms", "caller", "verify_all"]

_BCC = (b"bcc", b"resent-bcc")

if TYPE_CHECKING:
    Refusal = tuple[str, Outcome]  # the address as it was given, and why it was refused


@frozen
class Caller:
    """Who runs this program: the real user id, and its login name."""

    uid: int
    login: str


def caller() -> Caller:
    """Return the caller as the system knows him, not as the environment says."""
    uid = os.getuid()
    try:
        import pwd

        login = pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        login = f"uid{uid}"
    return Caller(uid, login)


@frozen
class Terms:
    """How a message is taken.

    ``from_header``: recipients are also those of the header (-t).
    ``submitted``: the header is complete as it is; only the trace is added.
    ``notify`` is NOTIFY (RFC 3461) of all recipients.  ``mode`` is a delivery mode or
    "", where the queues decide; ``attached``: whoever submits it makes the first attempt
    himself, at what ``Submission.tries`` names.
    """

    reverse_path: ReversePath
    caller: Caller
    full_name: str = ""
    from_header: bool = False
    submitted: bool = False
    notify: str = ""
    wishes: Wishes = PLAIN
    mode: str = ""
    attached: bool = False


class Submission:
    """One message; feed its octets, then finish.  After any error it is over."""

    def __init__(self, door: Door, terms: Terms, routed: list[Routed]) -> None:
        """Take a message for the good recipients ``routed``."""
        self.refused: list[Refusal] = []  # of the header's recipients
        self.tries: list[str] = []  # channels whose jobs are for the submitter to try
        self._door = door
        self._terms = terms
        self._routed = routed
        self._ends = LineEnds()
        self._header = Header()
        self._body = Normaliser()
        self._draft: Draft | None = None

    @property
    def left_out(self) -> list[str]:
        """What aliases of good recipients name in vain, and why: their other members get it."""
        return [
            f"<{routed.mailbox}>: left out: {step.subject}: {step.detail}"
            for routed in self._routed
            for step in routed.left_out
        ]

    def feed(self, octets: bytes) -> None:
        """Take more of the message.  RefusedError for header or size, SpoolError for the disk."""
        self._add(self._ends.feed(octets))

    def finish(self, sync: bool = True) -> str:
        """Accept the message; return its id once it is durable.

        Without ``sync`` it is accepted, with others, when ``door.sync()`` has returned.
        """
        self._add(self._ends.end())
        if self._draft is None:
            self._header.end()
            self._begin()
        draft = self._begun()
        draft.write(self._body.end())
        self._draft = None
        take = self._door.commit if sync else self._door.append
        terms = self._terms
        return take(
            draft,
            self._routed,
            terms.reverse_path,
            replace(terms.wishes, origin=f"uid={terms.caller.uid}", mode=self._mode()),
            dsn={r.mailbox: (terms.notify, "") for r in self._routed} if terms.notify else None,
        )

    def _mode(self) -> str:
        """Return what intake is told of the mode, and note what is tried here."""
        wanted, door = self._terms.mode, self._door
        if not self._terms.attached:
            return wanted
        channels = dict.fromkeys(t.channel for r in self._routed for t in r.targets)
        if wanted == INTERACTIVE:
            self.tries = list(channels)
            return QUEUE
        if not wanted:
            self.tries = [channel for channel in channels if channel in door.interactive]
        return INTERACTIVE if self.tries else wanted

    def abort(self) -> None:
        """Forget the message."""
        if self._draft is not None:
            self._draft.abort()
            self._draft = None

    def _begun(self) -> Draft:
        assert self._draft is not None
        return self._draft

    def _add(self, text: bytes) -> None:
        if self._draft is None:
            try:
                whole = self._header.feed(text)
            except HeaderError as error:
                raise RefusedError(error.code, error.status, str(error)) from None
            if whole:
                self._begin()
        else:
            self._write(text)

    def _write(self, text: bytes) -> None:
        draft = self._begun()
        try:
            draft.write(self._body.feed(text))
            self._door.check_size(draft.size)
        except BaseException:
            self.abort()
            raise

    def _begin(self) -> None:
        """The header is whole: find the recipients, complete it, begin the draft."""
        header, terms = self._header, self._terms
        try:
            header.check_loop()
        except HeaderError as error:
            raise RefusedError(error.code, error.status, str(error)) from None
        if terms.from_header:
            self._take_recipients(header)
        if not self._routed:
            raise RefusedError(554, "5.5.1", "no valid recipients")
        self._draft = draft = self._door.begin()
        hostname, now = self._door.config.hostname, time.time()
        date = _date(now)
        above = [received(hostname, draft.id, date, origin=f"from userid {terms.caller.uid}")]
        below = [] if terms.submitted else self._missing(draft.id, date)
        without = _BCC if terms.from_header else ()
        draft.write(header.octets(above, below, without))
        rest, header.rest = header.rest, b""
        self._write(rest)

    def _missing(self, ident: str, date: str) -> list[str]:
        """Return the fields that RFC 5322 s3.6 wants and the header lacks."""
        header, terms, fields = self._header, self._terms, []
        if not header.has(b"message-id"):
            fields.append(f"Message-ID: <{ident}@{self._door.config.hostname}>")
        if not header.has(b"date"):
            fields.append(f"Date: {date}")
        if not header.has(b"from"):
            path = terms.reverse_path
            author = path if isinstance(path, Mailbox) else self._door.own(terms.caller.login)
            name = encoded_phrase(terms.full_name)
            fields.append(f"From: {name} <{author}>" if name else f"From: {author}")
        return fields

    def _take_recipients(self, header: Header) -> None:
        from mta.addresslist import header_recipients

        found = list(dict.fromkeys(header_recipients(header.fields)))
        self._door.check_recipients(len(found))
        good, self.refused = verify_all(self._door, found)
        self._routed = [*self._routed, *good]


def verify_all(door: Door, addresses: list[str]) -> tuple[list[Routed], list[Refusal]]:
    """Return what is good of ``addresses``, and what is not with its reason, both in order."""
    good: list[Routed] = []
    refused: list[Refusal] = []
    for text in addresses:
        routed = door.verify(text)
        if routed.outcome is None:
            good.append(routed)
        else:
            refused.append((text, routed.outcome))
    return good, refused


def _date(now: float) -> str:
    moment = time.localtime(now)
    return date_time(moment, moment.tm_gmtoff)
