"""DSNs on their way in: built, routed and accepted, one at a time, beside the loop.

To accept a message waits for the disk, so in a deliver it happens in one thread
of its own; the journal writer there is used by nobody else.

State    A door, opened for the first DSN and closed after IDLE seconds without one,
         so that intake can finish with its segment.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

from mta.accept import Door, RefusedError, open_door
from mta.deliver.gather import DSN, ORPHAN
from mta.dsn.report import HEADER_LIMIT, Notice, header_of, report
from mta.errors import PosthouseError
from mta.machine import clock
from mta.types import NULL_PATH, Mailbox, Wishes
from mta.values import TYPE_CHECKING, replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from mta.config.model import Config
    from mta.deliver.gather import Return

__all__ = ["Post", "Returns"]

IDLE = 10.0


class Post:
    """Makes DSNs and has them accepted; waits for the disk, and is used by one thread."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._words = dict(config.dsn.words)
        self._door: Door | None = None

    @property
    def is_open(self) -> bool:
        """Whether a segment of the journal is held open for the next DSN."""
        return self._door is not None

    def accept(self, notice: Return, answer: Callable[[str, str], None]) -> None:
        """Have a DSN accepted, and ``answer`` before this returns: see gather.Returns."""
        answer(*self.commit(notice))

    def commit(self, notice: Return) -> tuple[str, str]:
        """Accept the DSN durably; return what gather.Returns answers."""
        try:
            if self._door is None:
                self._door = open_door(self._config)
            door = self._door
            to = notice.to or Mailbox("postmaster", door.domain)
            routed = door.verify(str(to))
            if routed.outcome is not None:
                known = routed.outcome.reply
                if notice.to is None:
                    return "-", f"there is no postmaster: {known}"
                return ("-" if known.permanent else ""), f"its author cannot be told: {known}"
            octets = self._octets(notice, to)
            if notice.whole and len(octets) > self._config.limits.message_size:
                header = header_of(notice.quoted[:HEADER_LIMIT])
                octets = self._octets(replace(notice, quoted=header, whole=False), to)
            draft = door.begin()
            draft.write(octets)
            wishes = Wishes(DSN if notice.to else ORPHAN, requiretls=notice.requiretls)
            return door.commit(draft, [routed], NULL_PATH, wishes), ""
        except RefusedError as error:
            permanent = error.outcome.reply.permanent
            return ("-" if permanent else ""), f"the DSN was refused: {error}"
        except (PosthouseError, OSError) as error:
            return "", str(error)

    def _octets(self, notice: Return, to: Mailbox) -> bytes:
        while True:
            boundary = f"{notice.message_id}.{os.urandom(8).hex()}"
            about = Notice(
                self._config.hostname,
                to,
                notice.message_id,
                notice.arrived,
                clock.wall(),
                boundary,
                notice.quoted,
                notice.envid,
                notice.whole,
                notice.why,
            )
            try:
                return report(about, notice.groups, self._words)
            except ValueError:
                continue  # the message holds our random word: take another

    def close(self) -> None:
        """Let intake finish with what was written; the next DSN opens the door again."""
        if self._door is not None:
            self._door.close()
            self._door = None


class Returns:
    """Accepts DSNs for all lanes of one deliver."""

    def __init__(self, config: Config, done: Callable[[], None]) -> None:
        """``done`` is called after each answer: there may be work to go on with."""
        self._post = Post(config)
        self._done = done
        self._pool = ThreadPoolExecutor(1, "dsn")
        self._used = 0.0
        self.accepted = 0
        self.pending = 0

    def accept(self, notice: Return, answer: Callable[[str, str], None]) -> None:
        """Have a DSN accepted; ``answer`` is called in the loop: see gather.Returns."""
        self.pending += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, self._post.commit, notice)

        def tell(done: asyncio.Future[tuple[str, str]]) -> None:
            self.pending -= 1
            self._used = clock.monotonic()
            error = done.exception()
            dsn_id, why = ("", f"{type(error).__name__}: {error}") if error else done.result()
            self.accepted += dsn_id not in ("", "-")
            answer(dsn_id, why)
            self._done()

        future.add_done_callback(tell)

    def tick(self, mono: float) -> None:
        """Close the door when it has not been used for a while."""
        if self._post.is_open and not self.pending and mono - self._used > IDLE:
            self._pool.submit(self._post.close)
            self._used = mono

    def close(self) -> None:
        """Wait for what is on its way, and close."""
        self._pool.submit(self._post.close)
        self._pool.shutdown(wait=True)
