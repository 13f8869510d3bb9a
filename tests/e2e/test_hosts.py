"""What one deliver learns of a host, another knows: across processes, restarts and by hand."""

from __future__ import annotations

import json

from tests.e2e.house import LOCAL, House, Sink, wait

SMTP = "{name: smtp, program: smtp, table: hosts, dead_ttl: 1h, retry: {first: 1h, max: 4h}}"
DOWN = "down.example"


def letter(number: int, host: str = DOWN) -> tuple[str, list[str], bytes]:
    return "alice@example.test", [f"u{number}@{host}"], b"Subject: %d\n\nhi\n" % number


def failing(house: House) -> dict[str, dict]:
    out = house.run("mta", "host", "list", "--json").stdout
    return {row["host"]: row for row in map(json.loads, out.split("\n")[:-1])}


def make(new_house, sink: Sink, *, hosts: str = DOWN) -> House:
    house: House = new_house(channels=[LOCAL, SMTP], daemons=["deliver -b -csmtp"])
    rows = "".join(f"{host} 127.0.0.1:{sink.port}\n" for host in hosts.split())
    (house.root / "hosts").write_text(rows)
    return house


def test_what_one_deliver_finds_dead_another_leaves_alone(new_house, new_sink) -> None:
    sink: Sink = new_sink("hang up")
    house = make(new_house, sink)
    one = house.start("deliver", "-b", "-csmtp")
    house.submit_many(iter([letter(1)]))
    wait(lambda: DOWN in failing(house))
    made = sink.connections
    one.terminate()
    one.wait(30)

    house.start("deliver", "-b", "-csmtp")  # a restart keeps the knowledge
    house.start("deliver", "-b", "-csmtp", "-l5")
    house.submit_many(iter([letter(2), letter(3)]))
    wait(lambda: len(house.run("mta", "queue", "--json", "--deferred").stdout.split("\n")) == 4)
    assert sink.connections == made
    assert failing(house)[DOWN]["failures"] == 1


def test_a_word_of_the_operator_wakes_all(new_house, new_sink) -> None:
    sink: Sink = new_sink("hang up")
    house = make(new_house, sink)
    for _ in range(2):
        house.start("deliver", "-b", "-csmtp")
    house.submit_many(iter([letter(n) for n in range(4)]))
    wait(lambda: DOWN in failing(house))
    wait(lambda: len(house.run("mta", "queue", "--json", "--deferred").stdout.split("\n")) == 5)
    sink.behaviour = "accept"
    house.run("mta", "host", "revive", DOWN)
    wait(lambda: len(sink.messages) == 4)
    wait(lambda: not failing(house) and not house.jobs())
    assert house.run("mta", "host", "revive", DOWN).returncode == 1


def test_a_host_buried_by_hand_is_left_alone(new_house, new_sink) -> None:
    sink: Sink = new_sink()
    house = make(new_house, sink, hosts=f"{DOWN} good.example")
    house.run("mta", "host", "bury", DOWN, "--for", "1h")
    house.start("deliver", "-b", "-csmtp", "-l1")
    house.submit_many(iter([letter(1), letter(2, "good.example")]))
    wait(lambda: len(sink.messages) == 1)
    wait(lambda: "left alone" in house.run("mta", "queue", "--deferred").stdout)
    assert "left alone" in house.run("hoststat").stdout
    house.run("purgestat", DOWN)
    wait(lambda: len(sink.messages) == 2)


def test_a_success_of_one_wakes_the_other(new_house, new_sink) -> None:
    sink: Sink = new_sink("hang up")
    house = make(new_house, sink)
    house.start("deliver", "-b", "-csmtp")
    house.submit_many(iter([letter(1), letter(2)]))
    wait(lambda: DOWN in failing(house))
    sink.behaviour = "accept"
    house.run("deliver", "-csmtp", house.jobs()[0].name.split(".")[0])  # by hand, heeding nobody
    wait(lambda: len(sink.messages) == 2)
    wait(lambda: not failing(house))


def test_one_address_of_many_names_costs_one_attempt(new_house, new_sink) -> None:
    sink: Sink = new_sink("hang up")
    names = [f"n{number}.example" for number in range(30)]
    house = make(new_house, sink, hosts=" ".join(names))
    house.start("deliver", "-b", "-csmtp")
    house.submit_many(iter([letter(0, names[0])]))
    wait(lambda: any("]:" in host for host in failing(house)))
    made = sink.connections
    house.start("deliver", "-b", "-csmtp")
    house.submit_many(iter([letter(n, host) for n, host in enumerate(names)]))
    wait(lambda: set(names) <= set(failing(house)))
    assert sink.connections == made
    sink.behaviour = "accept"
    word = next(host for host in failing(house) if "]:" in host)
    house.run("mta", "host", "revive", word)
    wait(lambda: len(sink.messages) == 31)
    wait(lambda: not failing(house))


def test_a_host_that_fails_for_long_is_the_slow_lanes_until_it_answers(new_house, new_sink) -> None:
    retry = "dead_ttl: 1s, retry: {first: 1s, factor: 1, max: 2s}"
    fast = (
        f"{{name: smtp, program: smtp, table: hosts, demote_to: turkey, demote_after: 2s, {retry}}}"
    )
    slow = f"{{name: turkey, program: smtp, queue: smtp, {retry}}}"
    house: House = new_house(
        channels=[LOCAL, fast, slow], daemons=["deliver -b -csmtp", "deliver -b -cturkey"]
    )
    bad, good = new_sink("hang up"), new_sink()
    rows = f"{DOWN} 127.0.0.1:{bad.port}\ngood.example 127.0.0.1:{good.port}\n"
    (house.root / "hosts").write_text(rows)
    house.start("deliver", "-b", "-csmtp", "-T1")
    house.start("deliver", "-b", "-cturkey", "-T1")
    (ident,) = house.submit_many(iter([letter(1)]))
    wait(lambda: [e["begins"] for e in house.events("demotion")] == [True])
    wait(lambda: {"smtp", "turkey"} == {e["channel"] for e in house.attempts(ident, "deferred")})
    house.submit_many(iter([letter(2, "good.example")]))  # the fast lane goes on
    wait(lambda: len(good.messages) == 1)
    bad.behaviour = "accept"
    wait(lambda: len(bad.messages) == 1)
    wait(lambda: [e["channel"] for e in house.attempts(ident, "delivered")] == ["turkey"])
    wait(lambda: [e["begins"] for e in house.events("demotion")] == [True, False])
    (ident,) = house.submit_many(iter([letter(3)]))
    wait(lambda: len(bad.messages) == 2)
    wait(lambda: [e["channel"] for e in house.attempts(ident, "delivered")] == ["smtp"])
