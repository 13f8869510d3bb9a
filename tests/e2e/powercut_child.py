"""What runs when the power goes: accepts, takes in, settles, and says so on stdout."""

from __future__ import annotations

import sys
import time
import zlib

from mta.spool.entry import Settlement
from mta.spool.fs import Fs
from mta.spool.intake import Intake, try_lock
from mta.spool.spool import Spool
from mta.types import DELIVERED, Job, Mailbox, Outcome, Recipient, Reply

PATH = Mailbox("a", "x.test")
OK = Outcome(Reply(250, "2.0.0", "ok"))


class Booted(Fs):
    """A file system of a machine that has booted ``number`` times."""

    number = 0

    def boot(self) -> str:
        return f"boot-{self.number}"


def open_spool(root: str, boot: int) -> Spool:
    fs = Booted(root)
    fs.number = boot
    return Spool.open(root, fs)


def body(number: int) -> bytes:
    """A body that carries its own checksum; every seventh is large."""
    rest = b"%08d\r\n" % number * (30_000 if number % 7 == 0 else 40)
    return b"Subject: %08X\r\n\r\n" % zlib.crc32(rest) + rest


def whole(data: bytes) -> bool:
    head, _, rest = data.partition(b"\r\n\r\n")
    return head == b"Subject: %08X" % zlib.crc32(rest)


def jobs(number: int) -> list[Job]:
    hosts = ["one.test", "two.test"][: 1 + number % 2]
    return [
        Job(n, "smtp", "smtp", host, "", PATH, (Recipient(n, Mailbox("u", host)),))
        for n, host in enumerate(hosts)
    ]


def say(*words: str) -> None:
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


def main(root: str, boot: int) -> None:
    spool = open_spool(root, boot)
    assert try_lock(spool) is not None
    made: list = []
    intake = Intake(spool, made.extend, lambda envelope: None)
    writer = spool.writer()
    intake.step()
    say("ready")
    for number in range(100_000):
        draft = writer.begin()
        draft.write(body(number))
        writer.append(draft, jobs(number), PATH)
        for synced in writer.sync():
            intake.told(synced)
        say("accepted", draft.id, str(len(jobs(number))))
        intake.step(survey=number % 5 == 0)
        if number % 3:
            settle(spool, made)
        if number % 10 == 9:
            spool.sync_marks()
            say("synced")
        if number % 25 == 24:
            writer.close()
            intake.step()
            intake.checkpoint(at_once=number % 50 == 49)


def settle(spool: Spool, made: list) -> None:
    while made:
        claim = spool.claim(made.pop())
        if claim is not None:
            (recipient, _), *_ = claim.entry.pending
            now = time.time()
            claim.settle([Settlement(recipient.index, DELIVERED, now, 0, OK)])
            say("settled", claim.name.key)
            claim.release()
            return


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
