"""deliver over its configurations: a new one begins at once, the old one lands what is in flight.

SIGHUP has the configuration read anew, in a thread; one that cannot be used is
logged, and the old one stays.  Else the present daemon retires: it claims nothing
more, closes its ears, and ends when its last flight has landed, however long that
takes.  The next one sweeps the queues from the beginning.

State    The daemon that works, and those that retire, RETIRED_MAX at most.

Invariants, each a test in tests/deliver/test_generations.py
    GN1  Of each channel at most one lane claims jobs, always by the newest configuration
         that could be used.
    GN2  What is in flight when the configuration changes lands as if it had not.
    GN3  A channel's slots hold for both: what an old lane has in flight counts, up to half.
    GN4  A host's rate holds for both: a new configuration gives it nothing anew.
"""

from __future__ import annotations

import asyncio
import signal

from mta.config.load import load_config
from mta.config.queues import paths
from mta.deliver.daemon import Daemon
from mta.deliver.keeper import Keeper
from mta.deliver.syncing import Shared, Syncing
from mta.errors import ConfigError, PosthouseError
from mta.machine.process import Signals
from mta.spool.places import prepare_places
from mta.values import TYPE_CHECKING, replace

if TYPE_CHECKING:
    from collections.abc import Callable

    from mta.config.model import Channel, Config
    from mta.deliver.flags import Flags
    from mta.machine.log import Log
    from mta.spool.spool import Spool

__all__ = ["Generations"]

RETIRED_MAX = 4  # beyond it the oldest has STOP_LIMIT seconds left


class Generations:
    """One deliver process, over all its configurations."""

    def __init__(
        self,
        config: Config,
        flags: Flags,
        spool: Spool,
        log: Log,
        watch: Callable[[str], None] | None = None,
    ) -> None:
        """Begin with ``config``."""
        self._config = config
        self._flags = flags
        self._spool = spool
        self._log = log
        self._watch = watch
        background = flags.background and not flags.ids
        keeper = Keeper(spool, config.path, log) if background else None
        self._shared = Shared(keeper, Syncing(spool, log), self._elders, {})
        self._daemons: dict[asyncio.Task[None], Daemon] = {}
        self._now: Daemon | None = None
        self._reading: asyncio.Future[Config] | None = None
        self._again = False
        self._stopping = False

    async def run(self) -> None:
        """Work until the pass is over or a signal has come, and all is in order."""
        loop = asyncio.get_running_loop()
        signals = Signals(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        loop.add_reader(signals.fileno(), lambda: self._signalled(signals.taken()))
        error: BaseException | None = None
        try:
            self._begin(channels_of(self._config, self._flags))
            while self._daemons:
                done, _ = await asyncio.wait(self._daemons, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    del self._daemons[task]
                    error = error or task.exception()
                if error is not None and not self._stopping:
                    self._stop()
        finally:
            loop.remove_reader(signals.fileno())
            signals.close()
            if self._shared.keeper is not None:
                self._shared.keeper.stop()
        if error is not None:
            raise error

    def _begin(self, channels: list[Channel]) -> None:
        """Let a daemon for the present configuration begin, and the one before it retire."""
        about = (self._config, channels, self._flags, self._spool, self._log)
        before, paces = self._now, self._shared.paces
        for name in paces.keys() - {channel.name for channel in channels}:
            del paces[name]
        following = Daemon(*about, watch=self._watch, shared=self._shared)
        if before is not None:
            before.retire()
        self._now = following
        self._daemons[asyncio.get_running_loop().create_task(following.run())] = following
        retired = [d for d in self._daemons.values() if d is not following]
        for daemon in retired[: -RETIRED_MAX or None] if len(retired) > RETIRED_MAX else ():
            daemon.stop()

    def _elders(self, channel: str, asking: Daemon) -> int:
        """Return how many jobs older daemons than ``asking`` have in flight on ``channel``."""
        count = 0
        for daemon in self._daemons.values():
            if daemon is asking:
                break
            count += daemon.in_flight_on(channel)
        return count

    def _signalled(self, numbers: frozenset[int]) -> None:
        if {signal.SIGTERM, signal.SIGINT} & numbers:
            self._stop()
        elif signal.SIGHUP in numbers:
            self._log.flush()  # a log that was renamed is opened anew
            if self._shared.keeper is not None:
                self._shared.keeper.renew()
                self._read()

    def _stop(self) -> None:
        self._stopping = True
        for daemon in self._daemons.values():
            daemon.stop()

    def _read(self) -> None:
        """Read the configuration in a thread; once more if it was asked for meanwhile."""
        if self._reading is not None:
            self._again = True
            return
        loop = asyncio.get_running_loop()
        self._reading = loop.run_in_executor(None, self._load)
        self._reading.add_done_callback(self._have_read)

    def _load(self) -> Config:
        config = load_config(self._config.path)
        channels_of(config, self._flags)
        prepare_places(self._spool.fs, paths(config))
        return config

    def _have_read(self, done: asyncio.Future[Config]) -> None:
        self._reading = None
        error = done.exception()
        if self._stopping:
            return
        if isinstance(error, (PosthouseError, OSError)):
            self._log.warning(f"{error}; the configuration stays as it was")
        elif error is not None:
            raise error
        else:
            self._config = self._kept(done.result())
            self._begin(channels_of(self._config, self._flags))
        if self._again:
            self._again = False
            self._read()

    def _kept(self, config: Config) -> Config:
        """Return ``config`` with what only a start can change as it was."""
        old = self._config
        for name in ("spool", "runtime", "log"):
            if getattr(config, name) != getattr(old, name):
                self._log.warning(f"{name} stays as it was until deliver is started anew")
        return replace(config, spool=old.spool, runtime=old.runtime, log=old.log)


def channels_of(config: Config, flags: Flags) -> list[Channel]:
    """Return the channels to serve; of those that were named, the ones that there are.

    ConfigError if there is none.
    """
    if not flags.channels:
        return list(config.channels)
    known = {channel.name: channel for channel in config.channels}
    found = [known[name] for name in flags.channels if name in known]
    if not found:
        raise ConfigError(f"{config.path}: no channel is called {', '.join(flags.channels)}")
    return found
