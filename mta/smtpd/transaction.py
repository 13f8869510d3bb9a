"""One transaction: from an accepted MAIL to jobs in the journal.

Source   RFC 5321 s4.1.1.2 to s4.1.1.4; NOTIFY, ORCPT, RET and ENVID of RFC 3461 go
         to the spool as they came.
State    One message's envelope, and its letter once the body has begun.
"""

from __future__ import annotations

from mta.accept import as_author, needs_utf8
from mta.headers import Header
from mta.route.split import make_jobs
from mta.types import Mailbox, Wishes
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mta.config.model import Author
    from mta.route.router import Routed
    from mta.smtp.commands import MailParameters
    from mta.smtpd.letter import Letter, Missing
    from mta.spool.group import GroupWriter
    from mta.types import ReversePath

__all__ = ["Transaction", "missing_fields"]


class Transaction:
    """A message whose envelope is being said; ``accepted`` counts its RCPTs, repeated or not."""

    __slots__ = (
        *("accepted", "dsn", "letter", "paced", "parameters", "places"),
        *("reverse_path", "routed"),
    )

    def __init__(self, reverse_path: ReversePath, parameters: MailParameters) -> None:
        self.reverse_path = reverse_path
        self.parameters = parameters
        self.routed: list[Routed] = []
        self.dsn: dict[Mailbox, tuple[str, str]] = {}
        self.accepted = 0
        self.paced = 0.0  # seconds that its recipients were kept waiting
        self.places: set[tuple[str, str]] = set()  # queues and hosts that they go to
        self.letter: Letter | None = None

    def add(self, routed: Routed, notify: str, orcpt: str) -> None:
        """Take a recipient."""
        self.accepted += 1
        self.routed.append(routed)
        if notify or orcpt:
            self.dsn[routed.mailbox] = notify, orcpt

    def missing(self, ident: str, hostname: str, date: str) -> Missing:
        """Return what tells the fields that the message lacks when its header is whole."""
        return lambda header: missing_fields(header, ident, hostname, date, self.reverse_path)

    def abort(self) -> None:
        """Forget the message."""
        if self.letter is not None:
            self.letter.draft.abort()
            self.letter = None

    async def commit(
        self,
        group: GroupWriter,
        most: Mapping[str, int],
        authors: Sequence[Author],
        origin: str,
    ) -> str:
        """Return the message's id once it is durable; SpoolError if it could not be made so."""
        letter, said = self.letter, self.parameters
        assert letter is not None
        targets = [target for routed in self.routed for target in routed.targets]
        path = self.reverse_path
        jobs = make_jobs(targets, path, most, self.dsn)
        wishes = Wishes(
            origin,
            said.smtputf8 or needs_utf8(jobs, path),
            said.ret,
            said.envid,
            said.requiretls,
            said.body == "BINARYMIME",
        )
        if authors:
            wishes = as_author(authors, path, wishes)
        return await group.commit(letter.draft, jobs, path, wishes)


def missing_fields(
    header: Header, ident: str, hostname: str, date: str, author: ReversePath
) -> list[str]:
    """Return the fields that RFC 6409 s8 lets us add: those that ``header`` lacks."""
    fields = []
    if not header.has(b"message-id"):
        fields.append(f"Message-ID: <{ident}@{hostname}>")
    if not header.has(b"date"):
        fields.append(f"Date: {date}")
    if not header.has(b"from"):
        known = author if isinstance(author, Mailbox) else Mailbox("postmaster", hostname)
        fields.append(f"From: {known}")
    return fields
