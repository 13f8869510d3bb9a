"""DSNs on their way in: built, routed and accepted, one at a time, beside the loop.

To accept a message waits for the disk, so it happens in one thread of its own;
the journal writer there is used by nobody else.

State    A door, opened for the first DSN and closed after IDLE seconds without one,
         so that intake can finish with its segment.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

from mta.accept import Door, RefusedError, open_door
from mta.dsn.report import HEADER_LIMIT, Notice, header_of, report
from mta.errors import PosthouseError
from mta.machine import clock
from mta.types import NULL_PATH, Wishes
from mta.values import TYPE_CHECKING, replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from mta.config.model import Config
    from mta.deliver.desk import Return

__all__ = ["Returns"]

IDLE = 10.0
ORIGIN = "dsn"


class Returns:
    """Accepts DSNs for all lanes of one deliver."""

    def __init__(self, config: Config, done: Callable[[], None]) -> None:
        """``done`` is called after each answer: there may be work to go on with."""
        self._config = config
        self._done = done
        self._pool = ThreadPoolExecutor(1, "dsn")
        self._door: Door | None = None
        self._used = 0.0
        self.accepted = 0
        self.pending = 0

    def accept(self, notice: Return, answer: Callable[[str, str], None]) -> None:
        """Have a DSN accepted; ``answer`` is called in the loop: see desk.Returns."""
        self.pending += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, self._commit, notice)

        def tell(done: asyncio.Future[tuple[str, str]]) -> None:
            self.pending -= 1
            self._used = clock.monotonic()
            error = done.exception()
            dsn_id, why = ("", f"{type(error).__name__}: {error}") if error else done.result()
            self.accepted += dsn_id not in ("", "-")
            answer(dsn_id, why)
            self._done()

        future.add_done_callback(tell)

    def _commit(self, notice: Return) -> tuple[str, str]:
        """Accept the DSN durably (in the thread); return the answer."""
        try:
            if self._door is None:
                self._door = open_door(self._config)
            door = self._door
            routed = door.verify(str(notice.to))
            if routed.outcome is not None:
                known = routed.outcome.reply
                return ("-" if known.permanent else ""), f"its author cannot be told: {known}"
            octets = self._octets(notice)
            if notice.whole and len(octets) > self._config.limits.message_size:
                header = header_of(notice.quoted[:HEADER_LIMIT])
                octets = self._octets(replace(notice, quoted=header, whole=False))
            draft = door.begin()
            draft.write(octets)
            wishes = Wishes(ORIGIN, requiretls=notice.requiretls)
            ident = door.commit(draft, [routed], NULL_PATH, wishes)
            return ident, ""
        except RefusedError as error:
            permanent = error.outcome.reply.permanent
            return ("-" if permanent else ""), f"the DSN was refused: {error}"
        except (PosthouseError, OSError) as error:
            return "", str(error)

    def _octets(self, notice: Return) -> bytes:
        while True:
            boundary = f"{notice.message_id}.{os.urandom(8).hex()}"
            about = Notice(
                self._config.hostname,
                notice.to,
                notice.message_id,
                notice.arrived,
                clock.wall(),
                boundary,
                notice.quoted,
                notice.envid,
                notice.whole,
            )
            try:
                return report(about, notice.groups)
            except ValueError:
                continue  # the message holds our random word: take another

    def tick(self, mono: float) -> None:
        """Close the door when it has not been used for a while."""
        if self._door is not None and not self.pending and mono - self._used > IDLE:
            self._pool.submit(self._close)
            self._used = mono

    def _close(self) -> None:
        if self._door is not None:
            self._door.close()
            self._door = None

    def close(self) -> None:
        """Wait for what is on its way, and close."""
        self._pool.submit(self._close)
        self._pool.shutdown(wait=True)
