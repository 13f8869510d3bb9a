"""deliver's loop: how a pass ends."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from mta.deliver import daemon, syncing
from mta.deliver.flags import Flags
from mta.machine.log import Log
from mta.spool.spool import Spool
from tests.queued import accept, new_config


class SlowSpool(Spool):
    """Its syncs take long, and it counts those that meet."""

    at_once = 0
    most = 0

    def sync_marks(self) -> None:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        time.sleep(0.3)
        super().sync_marks()
        self.at_once -= 1


def test_a_pass_ends_with_one_sync_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two would remove the same jobs, and close the same descriptors twice."""
    monkeypatch.setattr(syncing, "SETTLE_SYNC", 0.0)
    config = new_config(tmp_path)
    spool = SlowSpool.open(config.spool)
    spool.mark_ready()
    accept(spool, "alice@example.test")
    log = Log(config.log.dir, ("json",), "deliver")
    channels = [channel for channel in config.channels if channel.name == "local"]
    asyncio.run(daemon.Daemon(config, channels, Flags(), spool, log).run())
    assert spool.most == 1 and not spool.unsynced
    assert not list(tmp_path.glob("spool/q.local/*/*"))
