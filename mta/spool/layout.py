"""Names and paths: where everything in a spool lies, and ids that sort by arrival.

    version                    "posthouse spool 1"
    boot                       the boots since which recovery has run, appended
    intake.lock                held by the one intake
    journal/WRITER.N           segments: what has been accepted, in frames
    done/WRITER.N              marks of that segment's finished work, appended
    msg/xx/ID                  the body; xx spreads ids over 256 directories
    msg/xx/ID.done             which jobs of a message with several have finished
    q.QUEUE/HOUR/ID.N-TAG.HOST one job: its envelope, then its attempts
    q.QUEUE,N/…                the same on another disk: see places.py
    identity                   the mark of this spool's places elsewhere, where it has any
    host/N                     what delivers know of hosts that fail; see spool.hostlog
    bad/                       what could not be understood or returned, kept for a person

An id is eleven signs of arrival time in microseconds and five of the process
that took the message, in the 31 signs 0-9 and upper-case consonants: names
sort by arrival, spell no word and survive a fold of case.

TAG lets a job be chosen without being read: u, n or b for urgent, normal or bulk;
a sign each for size and recipients (how many binary digits); four signs of the
reverse-path, alike for one author.  A name without it is of an older version.

Invariants, each a property in tests/spool/test_layout.py
    L1   A later id of one process is greater, even when the clock goes back.
    L2   arrived(new_id(t)) == t to the microsecond, unless the clock went back.
    L3   JobName.parse(name.queue, name.file) == name, for every host that a Job can have.
    L4   A tag tells kind, author, and size and recipients to within a factor of two.
    L5   id_again() gives each id once, and none that new_id() gives; arrival is kept.
"""

from __future__ import annotations

import os
import time
import zlib

from mta.types import BULK, NORMAL, URGENT
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from typing import Self

    from mta.types import Kind, ReversePath

__all__ = [
    "VERSION",
    "JobName",
    "arrived",
    "author_signs",
    "body_path",
    "host_word",
    "hour",
    "id_again",
    "id_at",
    "new_id",
    "place_path",
    "tag",
]

VERSION = "posthouse spool 1\n"

SIGNS = "0123456789BCDFGHJKLMNPQRSTVWXYZ"
_DIGITS = str.maketrans(SIGNS, "0123456789ABCDEFGHIJKLMNOPQRSTU")  # what int(…, 31) reads
TIME_SIGNS = 11  # 31**11 microseconds reach the year 2775
LOW_SIGNS = 4  # of them change within a second; the others are kept
PROCESS_SIGNS = 5  # 31**5 is more than any pid
PID_LIMIT = 1 << 22  # Linux's
ID_SIGNS = TIME_SIGNS + PROCESS_SIGNS
TAG_SIGNS = 7
PLACE_SIGNS = 2
AUTHOR_SIGNS = 4
HOST_LIMIT = 150  # octets of the name's host part; a file name holds 255

_KINDS: dict[str, Kind] = {kind[0]: kind for kind in (URGENT, NORMAL, BULK)}
AUTHORS_MAX = 10_000

_authors: dict[ReversePath, str] = {}
_last = [0]  # microseconds of the newest id of this process
_signs = [(0, 0, "", "")]  # the time's high part and the pid, and the signs of both
_again = [0, 0]  # the pid, and a count of ids that were given again
_hour = [(0, "")]  # the latest hour that was asked for, since the epoch, and its name


def _encode(number: int, signs: int) -> str:
    out = ""
    for _ in range(signs):
        number, digit = divmod(number, 31)
        out = SIGNS[digit] + out
    return out


def new_id(now: float) -> str:
    """Return a new id for a message that arrived at ``now``; for one thread of a process."""
    micros = max(round(now * 1e6), _last[0] + 1)
    _last[0] = micros
    (high, low), pid = divmod(micros, 31**LOW_SIGNS), os.getpid()
    if _signs[0][:2] != (high, pid):
        head, tail = _encode(high, TIME_SIGNS - LOW_SIGNS), _encode(pid, PROCESS_SIGNS)
        _signs[0] = (high, pid, head, tail)
    return f"{_signs[0][2]}{_encode(low, LOW_SIGNS)}{_signs[0][3]}"


def id_again(message_id: str) -> str:
    """Return a new id for a message that arrived when ``message_id`` did, to the millisecond.

    Its last signs are of no process: those numbers begin above all pids, and each process
    counts on from a point of its own.
    """
    pid = os.getpid()
    if _again[0] != pid:
        _again[:] = [pid, int.from_bytes(os.urandom(4), "big")]
    _again[1] += 1
    room = 31**PROCESS_SIGNS - PID_LIMIT
    micros = int(message_id[:TIME_SIGNS].translate(_DIGITS), 31) + pid % 1000
    return _encode(micros, TIME_SIGNS) + _encode(PID_LIMIT + _again[1] % room, PROCESS_SIGNS)


def valid_id(text: str) -> bool:
    """Tell whether ``text`` can be an id."""
    return len(text) == ID_SIGNS and not text.strip(SIGNS)


def arrived(message_id: str) -> float:
    """Return when the message arrived; ValueError if this is no id."""
    if not valid_id(message_id):
        raise ValueError("not a message id")
    return int(message_id[:TIME_SIGNS].translate(_DIGITS), 31) / 1e6


def id_at(seconds: float) -> str:
    """Return what stands before all ids of what arrives at ``seconds`` or later."""
    return _encode(max(0, round(seconds * 1e6)), TIME_SIGNS)


def hour_of(seconds: float) -> str:
    """Return the name of the directory for mail that arrived at ``seconds``: UTC, sorts by time."""
    number = int(seconds // 3600)
    known = _hour[0]  # one value, read once: other threads ask, too
    if known[0] != number:
        known = _hour[0] = (number, time.strftime("%Y%m%d%H", time.gmtime(number * 3600)))
    return known[1]


def hour(message_id: str) -> str:
    """Return the directory of a message's jobs."""
    return hour_of(arrived(message_id))


def body_path(message_id: str) -> str:
    """Return where the body lies: its directory is spread by a checksum of the id."""
    return f"msg/{zlib.crc32(message_id.encode()) & 255:02x}/{message_id}"


def place_path(queue: str, place: int) -> str:
    """Return the directory of one of a queue's places, below the spool."""
    return f"q.{queue},{place}" if place else f"q.{queue}"


def host_word(host: str) -> str:
    """Return ``host`` as a part of a file name; a long one is shortened with a digest."""
    plain = len(host) <= HOST_LIMIT and host.isascii() and host.isprintable()
    if plain and not ("/" in host or "%" in host or " " in host):
        return host
    octets = host.encode("utf-8", "surrogatepass")
    word = "".join(chr(o) if 32 < o < 127 and o not in b"/%" else f"%{o:02X}" for o in octets)
    if len(word) <= HOST_LIMIT:
        return word
    import hashlib  # late: almost no host is this long

    digest = hashlib.blake2b(octets, digest_size=12).hexdigest()
    return word[: HOST_LIMIT - 32].rpartition("%")[0] + "%~" + digest


def tag(kind: Kind | str, size: int, recipients: int, path: ReversePath) -> str:
    """Return the tag of a job: see above."""
    return f"{kind[0]}{_scale(size)}{_scale(recipients)}{author_signs(path)}"


def author_signs(path: ReversePath) -> str:
    """Return the signs that names of jobs of one reverse-path share, whatever its case."""
    known = _authors.get(path)
    if known is None:
        if len(_authors) >= AUTHORS_MAX:
            _authors.clear()
        digest = zlib.crc32(str(path).lower().encode("utf-8", "surrogatepass"))
        known = _authors[path] = _encode(digest % 31**AUTHOR_SIGNS, AUTHOR_SIGNS)
    return known


def _scale(number: int) -> str:
    return SIGNS[min(number.bit_length(), 30)]


@frozen
class JobName:
    """A job's name: enough to choose by age and host without opening a file.

    ``host`` is the word of the file name: host_word(job.host); ``tag`` is "" in names
    of an older version.  ``place`` is which of the queue's directories it lies in.
    """

    queue: str
    hour: str
    id: str
    number: int
    host: str
    tag: str = ""
    place: int = 0

    @property
    def kind(self) -> Kind:
        """How urgent the message is."""
        return _KINDS.get(self.tag[:1], NORMAL)

    @property
    def author(self) -> str:
        """Signs that jobs of one reverse-path share; "" if unknown."""
        return self.tag[3:]

    @property
    def flood(self) -> str:
        """Whose flood it may be part of; "" if unknown.

        Urgent mail does not wait for one's own bulk.
        """
        return self.tag[:1] + self.author if self.tag else ""

    @property
    def octets(self) -> int:
        """The message's size, within a factor of two; 0 if unknown."""
        return _unscale(self.tag[1:2])

    @property
    def recipients(self) -> int:
        """How many recipients the job has, within a factor of two; 1 if unknown."""
        return max(1, _unscale(self.tag[2:3]))

    @property
    def key(self) -> str:
        """What marks of finished work call the job: "ID.N"."""
        return f"{self.id}.{self.number}"

    @property
    def file(self) -> str:
        """What a wake-up and a record call it: the path below the queue's first directory.

        In another place "PLACE,HOUR" stands for the hour.
        """
        where = f"{self.place},{self.hour}" if self.place else self.hour
        return f"{where}/{self._last}"

    @property
    def _last(self) -> str:
        tag = f"-{self.tag}" if self.tag else ""
        return f"{self.id}.{self.number}{tag}.{self.host}"

    @property
    def path(self) -> str:
        """The path below the spool."""
        return f"{place_path(self.queue, self.place)}/{self.hour}/{self._last}"

    @property
    def directory(self) -> str:
        """The directory of its hour, below the spool."""
        return f"{place_path(self.queue, self.place)}/{self.hour}"

    @classmethod
    def parse(cls, queue: str, file: str) -> Self | None:
        """Return the name of ``HOUR/ID.N-TAG.HOST`` in ``queue``; None if it is no job's.

        The inverse of ``file``: "PLACE,HOUR" names another place than the first.
        """
        directory, _, name = file.partition("/")
        place = 0
        if "," in directory:
            before, _, directory = directory.partition(",")
            place = int(before) if before.isdecimal() and len(before) <= PLACE_SIGNS else 0
            if not place:
                return None
        message_id, _, rest = name.partition(".")
        word, dot, host = rest.partition(".")
        number, dash, tag = word.partition("-")
        if not dot or not number.isdecimal() or not valid_id(message_id):
            return None
        if dash and (len(tag) != TAG_SIGNS or tag[0] not in _KINDS):
            return None
        return cls(queue, directory, message_id, int(number), host, tag, place)


def _unscale(sign: str) -> int:
    """Return the middle of what _scale() made ``sign`` of; 0 for none."""
    digits = SIGNS.find(sign) if sign else 0
    return 3 << (digits - 2) if digits >= 2 else max(digits, 0)
