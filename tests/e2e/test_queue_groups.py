"""sendmail's queue groups local, one, two and remote: our example of them, with mail in it.

A message to a list with most members at three domains, the rest scattered: envelopes are split
as r says, no group works on more than R, and each group's sweeps come when I and -q say.
The minutes pass in leaps (``peers.leaps``).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.house import TREE, House, answers, refused_port, wait
from tests.e2e.peers.feeder import feed
from tests.e2e.peers.hosts import Hosts, addresses
from tests.e2e.peers.leaps import Leaps

EXAMPLE = TREE / "etc" / "examples" / "queue-groups.yaml"
GROUPS = {"one": (50, 3), "two": (30, 4), "remote": (5, 8)}  # r, R
CHILDREN = 50
LISTS = 4  # messages to the list
TAKES = 0.5  # seconds of a host for a message: so all runners of a group are seen at once
SCATTERED = 20  # other domains, with two members each
CROWD = 12  # members at one of them
MINUTE = 60.0
NAMES = {"one": ["one.example"], "two": ["sub.two.example"]}
NAMES["remote"] = ["crowd.example", *(f"r{number}.example" for number in range(SCATTERED))]


def members() -> list[str]:
    scattered = [f"m{n}@{name}" for name in NAMES["remote"][1:] for n in range(2)]
    crowd = [f"m{n}@crowd.example" for n in range(CROWD)]
    one = [f"m{n}@one.example" for n in range(120)]
    two = [f"m{n}@sub.two.example" for n in range(70)]
    return ["alice@local.example", *one, *scattered, *two, *crowd]


@pytest.fixture
def leaps(tmp_path: Path) -> Leaps:
    return Leaps(tmp_path)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    names, behaviours = {}, {}
    for net, (group, domains) in enumerate(NAMES.items(), 70):
        for address, domain in zip(addresses(net, len(domains)), domains, strict=True):
            names[domain] = address
            behaviours[address] = {"behaviour": "good", "delay": TAKES, "group": group}
    peer = Hosts(tmp_path, behaviours, names)
    yield peer
    peer.close()


@pytest.fixture
def groups(new_house: Callable[..., House], hosts: Hosts, leaps: Leaps) -> Iterator[House]:
    """Run the example, with ports and a name server of the test's."""
    house = new_house()
    text = EXAMPLE.read_text().replace("127.0.0.1:2525", f"127.0.0.1:{refused_port()}")
    text = text.replace("program: smtp\n", f"program: smtp\n    port: {hosts.port}\n")
    house.config.write_text(f'{text}\ndns: {{nameservers: ["{hosts.nameserver}"]}}\n')
    house.environment |= leaps.environment
    house.start("mta", "up")
    wait(lambda: answers(port_of(house)))
    house.await_sweeps("local", *GROUPS)  # what comes before a first sweep goes with it
    yield house
    hosts.close()


def port_of(house: House) -> int:
    text = house.config.read_text()
    return int(text.partition('address: "127.0.0.1:')[2].partition('"')[0])


def leap_to_sweep(house: House, leaps: Leaps, *queues: str) -> None:
    """Let time pass until these queues are swept, and no more: others may be about to be."""
    house.await_sweeps(*queues)
    leaps.leap(2.0 + max(left for queue in queues for left in house.sweeps(queue)))
    house.await_sweeps(*queues)


def in_queues(house: House) -> Counter[str]:
    return Counter(path.parts[-3] for path in house.jobs())


def await_empty(house: House, queue: str) -> None:
    """Wait until all is settled: a leap takes from what is on its way the time it may take."""
    wait(lambda: not in_queues(house)[f"q.{queue}"], within=60)


def test_a_list_goes_in_parts_and_in_time(groups: House, hosts: Hosts, leaps: Leaps) -> None:
    plan = {"messages": [members()] * LISTS, "sender": "owner-list@local.example", "mark": "list"}
    report = feed(port_of(groups), {**plan, "connections": 2})
    assert report["recipients"] == LISTS * len(members()), report
    jobs = {"local": 1, "one": 3, "two": 3, "remote": SCATTERED + 3}  # r=50, 30, 5
    expected = Counter({f"q.{queue}": count * LISTS for queue, count in jobs.items()})
    wait(lambda: in_queues(groups) == expected)
    time.sleep(2)  # in which a deliver that was rung at would have gone to work
    assert not hosts.count() and not groups.maildir("alice"), "DeliveryMode=q waits for a sweep"

    leap_to_sweep(groups, leaps, "local")  # I=1m
    await_empty(groups, "local")
    assert len(groups.maildir("alice")) == LISTS and not hosts.count()
    leap_to_sweep(groups, leaps, "remote")  # I=2m
    hosts.await_count("list", LISTS * jobs["remote"], within=60)
    await_empty(groups, "remote")
    assert not hosts.peak["one"] and not hosts.peak["two"]
    leap_to_sweep(groups, leaps, "one", "two")  # -q5m
    total = LISTS * (jobs["one"] + jobs["two"] + jobs["remote"])
    arrived = hosts.await_count("list", total, within=60)

    assert sum(arrival.recipients for arrival in arrived) == LISTS * (len(members()) - 1)
    for group, (most, runners) in GROUPS.items():
        assert hosts.widest[group] <= most and hosts.peak[group] <= runners, group
        assert hosts.peak[group] == runners, f"{group} has {runners} runners, and work for them"
    assert hosts.widest["one"] == 50 and hosts.widest["two"] == 30 and hosts.widest["remote"] == 5
    assert hosts.peak["*"] <= CHILDREN
    wait(lambda: not groups.jobs())


def test_what_was_tried_rests_for_27_minutes(groups: House, hosts: Hosts, leaps: Leaps) -> None:
    feed(port_of(groups), {"messages": [["later@one.example"]], "connections": 1})
    wait(groups.jobs)
    leap_to_sweep(groups, leaps, "one")
    wait(lambda: len(groups.events("attempt")) == 1)
    tried = leaps.now()
    while leaps.now() < tried + 20 * MINUTE:
        leap_to_sweep(groups, leaps, "one")  # it finds it, and leaves it
    assert len(groups.events("attempt")) == 1
    leaps.leap(10 * MINUTE)
    wait(lambda: len(groups.events("attempt")) == 2)
