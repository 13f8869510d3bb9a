"""Both ends of a channel conversation, without its socket: octets in, events out.

``deliver`` talks to each of its channel programs through a DeliverEnd, a
program written in Python talks back through a ProgramEnd.  A program that
breaks the protocol raises RemoteProtocolError here, and then deliver defers
the jobs it had in flight: it fails nobody.

Source   man/channel.7; the words are of mta.channel.records.
State    The tables of mta.channel.states, which both ends walk.  Held: one
         unfinished line, and the recipients not yet told of the jobs in flight.

Invariants, each a property in tests/channel/test_talk.py
    T1   How the octets are cut into pieces changes no event.
    T2   Any interleaving of jobs ends with each recipient told exactly once and
         each job done exactly once, and both ends agree that nothing is in flight.
    T3   Whatever octets arrive, only RemoteProtocolError is raised.
    T4   A recipient of a job that settles ALL is told only together with ``done``.
    T5   No more jobs are in flight than the program declared.
"""

from __future__ import annotations

from collections.abc import Sequence
from re import Match

from mta.channel.program_end import ProgramEnd
from mta.channel.records import (
    EACH,
    LINE_LIMIT,
    RECIPIENT_LIMIT,
    AddressFact,
    Answer,
    Avoid,
    Dispatch,
    Done,
    Opening,
    Part,
    Quit,
    TlsFact,
    Told,
    decode_words,
    encode_avoid,
    encode_dispatch,
    encode_opening,
    parse,
    read_address,
    read_outcome,
    read_tls,
)
from mta.channel.states import FROM_PROGRAM, SESSION, walk
from mta.errors import LocalProtocolError, RemoteProtocolError
from mta.types import CHANNEL, Job, Outcome, Recipient, Reply
from mta.values import replace

__all__ = ["DeliverEnd", "Heard", "Part", "ProgramEnd", "Quit"]

Heard = Answer | Told | Done | TlsFact | AddressFact  # what deliver hears from a program
UNTOLD = Outcome(Reply(451, "4.3.0", "the channel program told no outcome"), CHANNEL)


class _Open:
    """A job in flight as deliver's end sees it."""

    __slots__ = ("held", "passed", "untold")

    def __init__(self, indexes: list[int]) -> None:
        self.untold: dict[int, None] = dict.fromkeys(indexes)
        self.held: list[Told] = []  # of a program that settles ALL, until ``done``
        self.passed: set[int] = set()  # whose server was told what DSNs they want


class DeliverEnd:
    """deliver's end of one conversation with one channel program.

    Send ``opening()`` first; feed what arrives to ``receive``; when it has
    returned an Answer, ``send_job`` while ``free`` is positive.
    """

    def __init__(
        self,
        channel: str,
        queue: str,
        hostname: str,
        options: Sequence[tuple[str, str]] = (),
        jobs: int = 1,
    ) -> None:
        """Offer at most ``jobs`` at once; ``options`` are told in order, names may repeat."""
        offer = (("jobs", str(jobs)), ("hostname", hostname))
        self._opening = Opening(channel, queue, hostname, (*offer, *options))
        self._offered = jobs
        self._state = "silent"
        self._partial = b""
        self._tag = 0
        self._open: dict[int, _Open] = {}
        self.answer: Answer | None = None

    @property
    def free(self) -> int:
        """How many more jobs may be sent now; 0 before the answer and after quit."""
        if self.answer is None or self._state != "open":
            return 0
        return self.answer.jobs - len(self._open)

    @property
    def in_flight(self) -> tuple[int, ...]:
        """The tags of the jobs sent and not done, oldest first."""
        return tuple(self._open)

    def untold(self, tag: int) -> tuple[int, ...]:
        """Return the recipients of job ``tag`` whose outcome does not stand yet; () if done."""
        job = self._open.get(tag)
        if job is None:
            return ()
        return (*[i for told in job.held for i in told.indexes], *job.untold)

    def opening(self) -> bytes:
        """Return the greeting, once."""
        if self._state != "silent":
            raise LocalProtocolError("the channel program has been greeted already")
        for word in ("hello", "go"):
            self._state = SESSION[self._state, word]
        return encode_opening(self._opening)

    def send_job(
        self,
        job: Job,
        id: str,
        size: int,
        arrived: float,
        recipients: Sequence[Recipient],
        *,
        eight_bit: bool = False,
        smtputf8: bool = False,
        ret: str = "",
        envid: str = "",
        requiretls: bool = False,
        binary: bool = False,
    ) -> tuple[int, bytes]:
        """Return a new tag, and the lines that hand over ``recipients`` of ``job``.

        For a program that takes descriptors, pass the body's descriptor along
        with these octets (``socket.send_fds``).  Several jobs may go in one
        call with several descriptors, at most 250: the program takes the
        descriptors in the order they come, one for each ``send`` line, so
        after a partial send only the octets are sent again.  For a program
        that takes bodies inline, send exactly ``size`` octets of body next.
        A program that takes no params is told neither ``ret``, ``envid``, the
        recipients' own, nor the flags ``requiretls`` and ``binary``.
        Raises LocalProtocolError if no job is free or a field cannot be told.
        """
        answer = self.answer
        if answer is None or self.free < 1:
            raise LocalProtocolError("the channel program takes no more jobs now")
        if not 0 < len(recipients) <= RECIPIENT_LIMIT:
            raise LocalProtocolError(f"a job with {len(recipients)} recipients")
        tag = self._tag + 1
        opened = _Open([r.index for r in recipients])
        if len(opened.untold) != len(recipients):
            raise LocalProtocolError("two recipients of a job have one index")
        if not answer.params:
            ret, envid, requiretls, binary = "", "", False, False
            recipients = [_plain(r) if r.notify or r.orcpt else r for r in recipients]
        dispatch = Dispatch(
            tag,
            id,
            job.reverse_path,
            size,
            arrived,
            job.host,
            job.next_hop,
            eight_bit,
            smtputf8,
            tuple(recipients),
            ret,
            envid,
            requiretls,
            binary,
        )
        lines = encode_dispatch(dispatch, answer.body)
        self._tag = tag
        self._open[tag] = opened
        return tag, lines

    def avoid(self, avoid: Avoid) -> bytes:
        """Return the line that tells of an address or a host; b"" to whom that says nothing."""
        if self._state != "open" or self.answer is None or not self.answer.addresses:
            return b""
        return encode_avoid(avoid)

    def quit(self) -> bytes:
        """Return the word that ends the conversation; b"" if it was said."""
        if self._state == "closing":
            return b""
        self._state = SESSION[self._state, "quit"]
        return b"quit\n"

    def receive(self, data: bytes) -> list[Heard]:
        """Return what the program said in ``data`` and before.

        Raises RemoteProtocolError with the reason if it broke the protocol;
        the conversation is over then.
        """
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) >= LINE_LIMIT:
            raise RemoteProtocolError(f"a line longer than {LINE_LIMIT} octets")
        events: list[Heard] = []
        for line in lines:
            word, match = parse(line, "answer")
            if word not in FROM_PROGRAM:
                raise RemoteProtocolError(f"{word!r} is not a word for a channel program")
            self._state = walk(SESSION, self._state, word)
            if word == "outcome":
                self._take_outcome(match, events)
            elif word == "done":
                self._take_done(int(match[1]), events)
            elif word == "passed":
                self._take_passed(match)
            elif word == "tls":
                events.append(read_tls(match))
            elif word == "address":
                events.append(read_address(match))
            else:
                events.append(self._take_answer(match))
        return events

    def eof(self) -> None:
        """The program closed its end: RemoteProtocolError unless quit was said and all is done."""
        if self._partial:
            raise RemoteProtocolError("the channel program ended in the middle of a line")
        if self._open:
            raise RemoteProtocolError(
                f"the channel program ended with {len(self._open)} jobs in flight"
            )
        if self._state != "closing":
            raise RemoteProtocolError("the channel program ended unasked")

    def _take_answer(self, match: Match[bytes]) -> Answer:
        _, settles, jobs, body, params, addresses = decode_words(match)
        if int(jobs) > self._offered:
            raise RemoteProtocolError(f"{jobs} jobs at once, where {self._offered} were offered")
        if self.answer is not None:
            raise RemoteProtocolError("a second hello")
        self.answer = Answer(settles, int(jobs), body, bool(params), bool(addresses))
        return self.answer

    def _take_passed(self, match: Match[bytes]) -> None:
        job = self._open.get(int(match[1]))
        if job is None:
            raise RemoteProtocolError("passed, for a job that is not in flight")
        index = None if match[2] == b"*" else int(match[2])
        if index is not None and index not in job.untold:
            raise RemoteProtocolError(f"recipient {index} was told, or is not of the job")
        job.passed.update(job.untold if index is None else (index,))

    def _take_outcome(self, match: Match[bytes], events: list[Heard]) -> None:
        tag = int(match[1])
        job = self._open.get(tag)
        if job is None:
            raise RemoteProtocolError(f"an outcome for job {tag}, which is not in flight")
        outcome, relay = read_outcome(match)
        if match[2] == b"*":
            indexes = tuple(job.untold)
            job.untold.clear()
        else:
            indexes = (int(match[2]),)
            if indexes[0] not in job.untold:
                raise RemoteProtocolError(f"recipient {indexes[0]} of job {tag} is not to be told")
            del job.untold[indexes[0]]
        if indexes:
            settles_each = self.answer is not None and self.answer.settles == EACH
            kept = events if settles_each else job.held
            kept += _by_passed(Told(tag, indexes, outcome, relay), job.passed)

    def _take_done(self, tag: int, events: list[Heard]) -> None:
        job = self._open.pop(tag, None)
        if job is None:
            raise RemoteProtocolError(f"done with job {tag}, which is not in flight")
        events += job.held
        if job.untold:
            events.append(Told(tag, tuple(job.untold), UNTOLD))
        events.append(Done(tag))


def _plain(recipient: Recipient) -> Recipient:
    return replace(recipient, notify="", orcpt="")


def _by_passed(told: Told, passed: set[int]) -> list[Told]:
    """Return ``told``, in two where it holds for some of the recipients ``passed``."""
    if passed.isdisjoint(told.indexes):
        return [told]
    yes = tuple([index for index in told.indexes if index in passed])
    no = tuple([index for index in told.indexes if index not in passed])
    first = replace(told, indexes=yes, passed=True)
    return [first, replace(told, indexes=no)] if no else [first]
