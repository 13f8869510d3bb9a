r"""Frames: the journal's records, which tell by themselves whether they are whole.

    KIND LENGTH CHECKSUM\n DATA

with one letter of kind, eight hexadecimal digits each of length (octets of
DATA) and of a CRC-32 over kind, length and data.  A segment is one J frame
(which names the segment), then messages: any number of B frames, the body in
order, and one M frame that closes it.  Frames of two messages never
interleave.

The M frame is lines of words, then the files of the jobs as they will lie in
the queue:

    ID BODY-OCTETS BODY-CHECKSUM BODY-AT JOBS
    FILE OCTETS          one a job: queue, hour and name; length of its file
    (empty line) FILES

Invariants, each a property in tests/spool/test_frames.py
    F1   What frame() wrote, scan() reads back.
    F2   Of a segment that was cut anywhere, scan() gives exactly the frames
         that are whole, and never one that was not written.
    F3   A changed octet ends the scan at or before its frame.
"""

from __future__ import annotations

import errno
import zlib

from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "BODY",
    "HEAD_OCTETS",
    "MESSAGE",
    "SEGMENT",
    "Closing",
    "Frame",
    "frame",
    "frame_length",
    "heading",
    "read_frame",
]

SEGMENT, BODY, MESSAGE = b"J", b"B", b"M"
HEAD_OCTETS = 20
FRAME_LIMIT = 1 << 26  # a longer length is no length: M frames of 100,000 jobs stay below


@frozen
class Frame:
    """One whole frame; ``end`` is the offset in the segment where it ends."""

    kind: bytes
    data: bytes
    end: int


def heading(kind: bytes, data: bytes) -> tuple[bytes, int]:
    """Return what stands before ``data`` in its frame, and the frame's checksum.

    OSError (EMSGSIZE) for a record that nobody would read back.
    """
    if len(data) > FRAME_LIMIT:
        raise OSError(errno.EMSGSIZE, "the message has too many recipients for one record")
    head = b"%b %08X" % (kind, len(data))
    checksum = zlib.crc32(data, zlib.crc32(head))
    return b"%b %08X\n" % (head, checksum), checksum


def frame(kind: bytes, data: bytes) -> bytes:
    """Return ``data`` as a frame."""
    return heading(kind, data)[0] + data


def read_frame(read: Callable[[int, int], bytes], offset: int) -> Frame | None:
    """Return the frame at ``offset``, or None if no whole one is there.

    ``read(size, offset)`` gives the segment's octets, fewer only at its end.
    """
    head = read(HEAD_OCTETS, offset)
    length = frame_length(head)
    if length < 0:
        return None
    data = read(length, offset + HEAD_OCTETS)
    checksum = b"%08X" % zlib.crc32(data, zlib.crc32(head[:10]))
    if len(data) < length or head[11:19] != checksum:
        return None
    return Frame(head[:1], data, offset + HEAD_OCTETS + length)


def frame_length(head: bytes) -> int:
    """Return how many octets of data follow the HEAD_OCTETS of a frame; -1 if it is no head."""
    if len(head) < HEAD_OCTETS or head[1:2] != b" " or head[10:11] != b" " or head[19:] != b"\n":
        return -1
    try:
        length = int(head[2:10], 16)
    except ValueError:
        return -1
    return length if length <= FRAME_LIMIT else -1


@frozen
class Closing:
    """What an M frame says: the body's length and checksum, and each job's file.

    The checksum is the CRC-32 of the body, or of the one B frame that it is.
    ``body_at`` is where the one B frame begins that is the whole body, or -1 if
    there are several, or none: then the body becomes a file.
    """

    id: str
    size: int
    checksum: int
    body_at: int
    files: tuple[tuple[str, bytes], ...]  # ("QUEUE/HOUR/ID.N-TAG.HOST", octets)

    def encode(self) -> bytes:
        """Return the data of the M frame."""
        lines = [f"{self.id} {self.size} {self.checksum:08X} {self.body_at} {len(self.files)}"]
        lines += [f"{name} {len(octets)}" for name, octets in self.files]
        return b"".join(["\n".join(lines).encode(), b"\n\n", *[f for _, f in self.files]])

    @staticmethod
    def decode(data: bytes) -> Closing:
        """Read it back; ValueError if it is not one."""
        head, _, rest = data.partition(b"\n\n")
        first, *lines = head.decode().split("\n")
        message_id, size, checksum, body_at, jobs = first.split(" ")
        if len(lines) != int(jobs):
            raise ValueError("an M frame whose jobs do not add up")
        files, at = [], 0
        for line in lines:
            name, _, octets = line.rpartition(" ")
            files.append((name, rest[at : at + int(octets)]))
            at += int(octets)
        return Closing(message_id, int(size), int(checksum, 16), int(body_at), tuple(files))
