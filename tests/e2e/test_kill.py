"""kill -9 of any process, at random moments, under load: nothing accepted is missing.

A message may come twice only if it was in flight when something was killed;
how often is counted and printed.  POSTHOUSE_KILLS is the number of kills
(default 100), POSTHOUSE_SEED repeats a run's choices.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

from tests.e2e.house import LOCAL, House, Sink, wait

KILLS = int(os.environ.get("POSTHOUSE_KILLS", "100"))
SEED = int(os.environ.get("POSTHOUSE_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
BACKLOG = 3000  # messages that may wait in the queues while it goes on
PER_HOST = 4
HOSTS = [f"h{number}.example" for number in range(5)]
IN_FLIGHT = PER_HOST * len(HOSTS)  # connections of one deliver's channel program
DELIVERS = [("-b", "-csmtp", "-T1"), ("-b", "-csmtp", "-T1"), ("-b", "-clocal", "-T1")]


class Feeder(threading.Thread):
    """Feeds numbered messages through ``submit --protocol``; starts another when that is killed.

    ``accepted`` has the numbers that got their positive reply, ``unknown`` those without any.
    """

    def __init__(self, house: House, sink: Sink) -> None:
        super().__init__(daemon=True)
        self.accepted: list[int] = []
        self.unknown: list[int] = []
        self.over = False
        self._house = house
        self._sink = sink
        self._number = 0

    def run(self) -> None:
        while not self.over:
            self._feed()

    def _feed(self) -> None:
        with subprocess.Popen(
            self._house.command("submit", "--protocol"),
            env=self._house.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            with contextlib.suppress(OSError):
                while not self.over and self._one(process):
                    pass
            with contextlib.suppress(OSError):
                process.stdin.close()

    def _one(self, process: subprocess.Popen[bytes]) -> bool:
        """Submit the next message; False if the program is gone."""
        assert process.stdin is not None and process.stdout is not None
        # One in six is local.  A fast feeder must not leave more than can be waited for.
        while not self.over and len(self.accepted) - len(self._sink.messages) * 6 // 5 > BACKLOG:
            time.sleep(0.02)
        number, self._number = self._number, self._number + 1
        host = HOSTS[number % len(HOSTS)]
        address = "alice@example.test" if number % 6 == 0 else f"u{number}@{host}"
        text = f"from <alice@example.test>\nto {address}\ndata\nSubject: n\n\nbody of {number}\n.\n"
        self.unknown.append(number)
        process.stdin.write(text.encode())
        process.stdin.flush()
        replies = [process.stdout.readline() for _ in range(3)]
        if not all(reply[:1] == b"2" for reply in replies):
            return False
        self.unknown.pop()
        self.accepted.append(number)
        return True


def test_kill_9_of_any_process_loses_nothing(new_house, new_sink) -> None:
    print(f"POSTHOUSE_SEED={SEED}")
    chance = random.Random(SEED)
    retry = "retry: {first: 1s, factor: 1, max: 2s}, dead_ttl: 1s"
    smtp = f"{{name: smtp, program: smtp, table: hosts, per_host: {PER_HOST}, {retry}}}"
    local = LOCAL.replace("domains", f"{retry}, domains")
    house: House = new_house(channels=[local, smtp], daemons=["deliver -b"])
    sink: Sink = new_sink(delay=0.002)
    (house.root / "hosts").write_text("".join(f"{h} 127.0.0.1:{sink.port}\n" for h in HOSTS))
    daemons = [house.start("deliver", *flags) for flags in DELIVERS]
    feeder = Feeder(house, sink)
    feeder.start()
    wait(lambda: len(sink.messages) > 20)
    victims: Counter[str] = Counter()

    def revive() -> bool:
        """Start again the delivers that are dead, as init would."""
        for number, flags in enumerate(DELIVERS):
            if daemons[number].poll() is not None:
                daemons[number] = house.start("deliver", *flags)
        return True

    while victims.total() < KILLS:
        time.sleep(chance.uniform(0.02, 0.25))
        processes = house.processes()
        if not processes:
            continue
        victim = chance.choice(processes)
        with contextlib.suppress(OSError):
            said = _what(victim)
            os.kill(victim, signal.SIGKILL)
            victims[said] += 1
        revive()
    feeder.over = True
    feeder.join(30)
    accepted = set(feeder.accepted)

    def came() -> Counter[int]:
        octets = [octets for _, _, octets in list(sink.messages)]
        octets += [path.read_bytes() for path in house.maildir()]
        return Counter(int(text.rpartition(b"body of ")[2]) for text in octets)

    with contextlib.suppress(AssertionError):
        # The last victim may not have been dead yet when it was looked at.
        done = lambda: revive() and accepted <= set(came()) and not house.jobs()  # noqa: E731
        wait(done, within=90, step=0.5)
    counted = came()
    missing = sorted(accepted - set(counted))
    doubled = sum(counted.values()) - len(counted)
    print(f"killed {dict(victims)}; {len(accepted)} accepted, {len(missing)} missing, "
          f"{doubled} came twice, {len(feeder.unknown)} never answered")  # fmt: skip
    assert len(accepted) > KILLS
    assert not missing
    assert not set(counted) - accepted - set(feeder.unknown), "delivered though never submitted"
    assert doubled <= victims.total() * IN_FLIGHT
    # A delivery is logged when it is settled: had any settled one been repeated,
    # there would be two lines about it.
    told = [(e["id"], e["to"]) for e in house.events("attempt") if e["state"] == "delivered"]
    assert len(told) > KILLS
    twice = [key for key, count in Counter(told).items() if count > 1]
    assert not twice, "settled, and delivered again"
    assert not house.jobs()


def _what(pid: int) -> str:
    """Return what kind of process ``pid`` is, by its title."""
    title = (
        Path("/proc", str(pid), "cmdline")
        .read_bytes()
        .replace(b"\0", b" ")
        .decode("utf-8", "replace")
    )
    for kind in ("intake", "channels", "submit", "deliver"):
        if kind in title:
            return kind
    return title.split(" ")[0]
