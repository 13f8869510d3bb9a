"""Order and shares with real processes: classes, tokens over delivers, queues that are held."""

from __future__ import annotations

import os
import pwd
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.house import LOCAL, House, wait

pytestmark = pytest.mark.e2e

# Each run of the command leaves a file while it works: what lies there is in flight.
WORK = """\
#!/bin/sh
cat > /dev/null
touch {root}/now/$$
ls {root}/now | wc -l >> {root}/counts
sleep {seconds}
rm -f {root}/now/$$
"""


def work(root: Path, seconds: float) -> Path:
    """Write the command of a pipe channel that works so long on each message."""
    (root / "now").mkdir()
    path = root / "work"
    path.write_text(WORK.format(root=root, seconds=seconds))
    path.chmod(0o755)
    return path


def pipe(name: str, command: Path, more: str = "") -> str:
    user = pwd.getpwuid(os.getuid()).pw_name
    row = f'name: {name}, program: pipe, domains: {name}.test, command: ["{command}"]'
    return f"{{{row}, options: {{user: {user}}}{more}}}"


def counts(root: Path) -> list[int]:
    path = root / "counts"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def text(number: int, field: str = "") -> bytes:
    return f"{field}Subject: {number}\n\nhello\n".encode()


def send(house: House, hosts: list[str], count: int) -> list[str]:
    """Submit so many messages for each of the hosts; return their ids."""
    return house.submit_many(
        ("a@x.test", [f"u@{host}.test"], text(n)) for n in range(count) for host in hosts
    )


def test_urgent_goes_before_normal_before_bulk(new_house) -> None:
    rules = "senders: [{match: 'news@list.test', class: bulk}]\n"
    channels = ["{name: local, program: local, domains: $local, concurrency: 1}"]
    house: House = new_house(channels=channels, more=rules)
    sent = [
        house.submit(text(1), "-f", "news@list.test", "alice"),
        house.submit(text(2), "-f", "a@x.test", "--class", "bulk", "alice"),
        house.submit(text(3, "Precedence: list\n"), "-f", "b@x.test", "alice"),
        house.submit(text(4), "-f", "c@x.test", "alice"),
        house.submit(text(5, "Priority: urgent\n"), "-f", "d@x.test", "alice"),
        house.submit(text(6), "-f", "news@list.test", "--class", "urgent", "alice"),
    ]
    assert house.run("deliver").returncode == 0
    tried = [event["id"] for event in house.events("attempt")]
    assert tried == [sent[i] for i in (4, 5, 3, 0, 1, 2)]


def test_tokens_bound_all_delivers_and_a_killed_one_s_are_free(new_house, tmp_path) -> None:
    command = work(tmp_path, 0.6)
    channels = [LOCAL, pipe("one", command), pipe("two", command)]
    house: House = new_house(channels=channels, more="queue_children: 3\n")
    first = house.start("deliver", "-b", "-c", "one")
    house.start("deliver", "-b", "-c", "two")
    both = ["one", "two"]
    # One alone would have all tokens: both are there, with their programs, before the work is.
    warm = send(house, both, 1)
    wait(lambda: house.gone(warm))
    sent = send(house, both, 24)

    def busy() -> set[str]:
        return {event["channel"] for event in house.events("attempt") if event["id"] in sent}

    wait(lambda: len(counts(tmp_path)) >= 2 + 12 and busy() == {*both})
    assert all(any(f"{name}.test" in path.name for path in house.jobs()) for name in both)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = len(counts(tmp_path))
    wait(lambda: not any("two.test" in path.name for path in house.jobs()))
    assert counts(tmp_path)[before:].count(3) > 3  # the other works with all of them
    house.start("deliver", "-b", "-c", "one")
    wait(lambda: not house.jobs())
    # The commands of the one that was killed may still have been at work.
    assert max(counts(tmp_path)[:before]) <= 3
    assert max(counts(tmp_path)) <= 6


def test_runners_bound_one_channel_and_none_hold_it(new_house, tmp_path) -> None:
    command = work(tmp_path, 0.5)  # all of it takes longer than a program to begin
    channels = [
        LOCAL,
        pipe("one", command, ", runners: 2, concurrency: 10"),
        pipe("two", command, ", runners: 0"),
    ]
    house: House = new_house(channels=channels)
    sent = send(house, ["one"], 12)
    held = house.submit(text(99), "-f", "a@x.test", "u@two.test")
    house.start("deliver", "-b", "-c", "one,two")
    house.start("deliver", "-b", "-c", "one")
    wait(lambda: house.gone(sent))
    assert max(counts(tmp_path)) == 2
    assert not house.attempts(held, "delivered")
    began = time.monotonic()
    assert house.run("deliver", "-c", "two").returncode == 0  # a pass does not wait for runners
    assert time.monotonic() - began < 60
    assert [path.name.partition(".")[0] for path in house.jobs()] == [held]


def test_a_sweep_of_few_jobs_goes_on_where_the_last_one_ended(new_house, tmp_path) -> None:
    channels = ["{name: local, program: local, domains: $local, jobs: 3, interval: 1s}"]
    house: House = new_house(channels=channels)
    sent = house.submit_many((f"a{n}@x.test", ["alice"], text(n)) for n in range(10))
    house.start("deliver", "-b")
    wait(lambda: house.gone(sent))
