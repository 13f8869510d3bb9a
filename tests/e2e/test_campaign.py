"""A campaign beside the mail of every day: our example of one, with mail in it.

Several programs hand in one message for each address over SMTP, while another sends what
people wait for.  All is accounted for: what was accepted is delivered, or failed and counted.

POSTHOUSE_CAMPAIGN sets the number of addresses (default 12,000; a release runs 120,000).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.house import TREE, House, answers, refused_port, wait
from tests.e2e.peers.feeder import Feeder
from tests.e2e.peers.hosts import Hosts, addresses, percentile

ADDRESSES = int(os.environ.get("POSTHOUSE_CAMPAIGN", "12000"))
EXAMPLE = TREE / "etc" / "examples" / "campaign.yaml"
# Not for a test: a rate that large providers ask for, and the load of the machine it runs on.
DROPPED = ("    rate: 2000/1m\n", "load: {delay: 6.0, refuse: 8.0, queue_only: 12.0}\n")
FEEDERS = 4
LARGE = ["large-one.example", "large-two.example"]
SMALL = [f"small{number}.example" for number in range(1000)]
NOWHERE = "nowhere.example"  # a domain that does not exist
SHOP = ["shop.example", *LARGE]
PERIOD = 0.25  # seconds between two messages that people wait for
PATIENCE = 60 + ADDRESSES / 50


def audience() -> list[str]:
    """Return the addresses: most at few domains, few at many, some dead."""
    chance = random.Random(4)
    found = []
    for number in range(ADDRESSES):
        domain = chance.choice(LARGE) if chance.random() < 0.6 else chance.choice(SMALL)
        if chance.random() < 0.01:
            domain = NOWHERE
        found.append(f"{'gone' if chance.random() < 0.04 else 'r'}{number}@{domain}")
    return found


def dead(address: str) -> bool:
    return address.startswith("gone") or address.endswith(NOWHERE)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    places = addresses(80, 50)
    names = {name: places[n % 47] for n, name in enumerate(SMALL)}
    names |= dict(zip(SHOP, places[47:], strict=True))
    peer = Hosts(tmp_path, {address: {"behaviour": "good"} for address in places}, names)
    yield peer
    peer.close()


@pytest.fixture
def campaign(new_house: Callable[..., House], hosts: Hosts) -> House:
    """Run the example, with ports and a name server of the test's."""
    house = new_house()
    text = EXAMPLE.read_text().replace("127.0.0.1:2525", f"127.0.0.1:{refused_port()}")
    text = text.replace("program: smtp\n", f"program: smtp\n    port: {hosts.port}\n")
    for words in DROPPED:
        assert words in text
        text = text.replace(words, "")
    house.config.write_text(f'{text}\ndns: {{nameservers: ["{hosts.nameserver}"]}}\n')
    house.start("mta", "up")
    wait(lambda: answers(port_of(house)))
    house.await_sweeps("local", "large", "smtp", "smtp")
    return house


def port_of(house: House) -> int:
    text = house.config.read_text()
    return int(text.partition('address: "127.0.0.1:')[2].partition('"')[0])


@pytest.mark.timeout(120 + 2 * PATIENCE)
def test_all_of_a_campaign_is_accounted_for(
    campaign: House, hosts: Hosts, capsys: pytest.CaptureFixture[str]
) -> None:
    everyone = audience()
    lost = sum(map(dead, everyone))
    feeders = [Feeder(port_of(campaign), part(everyone, n)) for n in range(FEEDERS)]
    count = int((10 + ADDRESSES / 2000) / PERIOD)
    daily = {"count": count, "domains": SHOP, "rate": 1 / PERIOD, "connections": 2}
    daily |= {"mark": "daily", "sender": "alice@example.test"}
    waited_for = Feeder(port_of(campaign), daily).report()
    reports = [feeder.report() for feeder in feeders]
    assert waited_for["accepted"] == count
    assert sum(report["recipients"] for report in reports) == ADDRESSES, reports

    latencies = [a.latency for a in hosts.await_count("daily", count, within=60)]
    arrived = hosts.await_count("campaign", ADDRESSES - lost, within=PATIENCE)
    took = max(a.at for a in arrived) - min(report["began"] for report in reports)
    with capsys.disabled():
        print(f"\n{ADDRESSES} addresses in {took:.0f} s; what people wait for, meanwhile:", end="")
        half, most = percentile(latencies, 0.5), percentile(latencies, 0.99)
        print(f" half within {half:.2f} s, 99 % within {most:.2f} s")
    assert half < 5.0 and percentile(latencies, 0.9) < 20.0

    wait(lambda: not campaign.jobs(), within=PATIENCE, step=0.5)
    assert hosts.count("campaign") == ADDRESSES - lost, "each once"
    wait(lambda: discarded(campaign) == lost, step=0.5)
    failed = [e for e in campaign.events("attempt") if e["state"] == "failed"]
    assert len(failed) == lost
    assert not campaign.events("notified") and not campaign.maildir("alice")
    assert not list((campaign.root / "spool" / "bad").glob("*"))


def part(everyone: list[str], number: int) -> dict[str, object]:
    """Return what one of the feeders sends."""
    messages = [[address] for address in everyone[number::FEEDERS]]
    fields, sender = ["Precedence: bulk"], f"news-{number}@news.example.test"
    plan = {"messages": messages, "sender": sender, "fields": fields, "mark": "campaign"}
    return {**plan, "connections": 5}


def discarded(house: House) -> int:
    """Return how many failures the log says were nobody's reading."""
    return sum(event["recipients"] for event in house.events("discarded"))
