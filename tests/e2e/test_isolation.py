"""Hosts that accept connections and say nothing keep nobody else's mail (bench_isolation measures).

One deliver, one smtp channel as configured by default, a name server, sockets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.e2e.house import House, answers, refused_port, wait
from tests.e2e.peers.feeder import feed
from tests.e2e.peers.hosts import Hosts, addresses

SILENT = 20
EACH = 50  # messages for each silent host
GOOD = 500
DOMAINS = 50  # of good mail
CONCURRENCY = 50  # the default of an smtp channel
SMTP = '{name: smtp, program: smtp, domains: "*", port: PORT}'
MORE = """\
dns: {{nameservers: ["{dns}"]}}
listen: [{{address: "127.0.0.1:{port}", service: mx}}]
smtpd: {{reverse_dns: no}}
relay_from: [127.0.0.0/8]
"""
SILENT_NAMES = [f"silent{number}.test" for number in range(SILENT)]
GOOD_NAMES = [f"good{number}.test" for number in range(DOMAINS)]


@pytest.fixture
def hosts(tmp_path) -> Iterator[Hosts]:
    silent, good = addresses(40, SILENT), addresses(42, DOMAINS)
    names = dict(zip([*SILENT_NAMES, *GOOD_NAMES], [*silent, *good], strict=True))
    behaviours = {address: {"behaviour": "silent"} for address in silent}
    behaviours |= {address: {"behaviour": "good"} for address in good}
    peer = Hosts(tmp_path, behaviours, names)
    yield peer
    peer.close()


def test_silent_hosts_keep_nobody_elses_mail(new_house: Callable[..., House], hosts: Hosts) -> None:
    port = refused_port()
    smtp = SMTP.replace("PORT", str(hosts.port))
    house = new_house(channels=[smtp], more=MORE.format(dns=hosts.nameserver, port=port))
    house.start("deliver", "-b")
    house.start("smtpd")
    wait(lambda: answers(port))
    silent = feed(port, {"count": SILENT * EACH, "domains": SILENT_NAMES, "mark": "silent"})
    assert silent["accepted"] == SILENT * EACH, silent
    wait(lambda: sum(hosts.open.values()) >= SILENT)  # each has a connection that hangs

    good = feed(port, {"count": GOOD, "domains": GOOD_NAMES, "mark": "good"})
    assert good["accepted"] == GOOD, good
    arrived = hosts.await_count("good", GOOD, within=60)  # a silent host is waited for for minutes
    assert len(arrived) == GOOD
    assert {arrival.address for arrival in arrived} == {*addresses(42, DOMAINS)}

    held = {address: hosts.connections[address] for address in addresses(40, SILENT)}
    assert max(held.values()) == 1, "one connection finds out whether a host answers"
    assert sum(held.values()) <= CONCURRENCY // 2, "half of the channel is for hosts that answer"
    assert hosts.count("silent") == 0 and len(house.jobs()) == SILENT * EACH
