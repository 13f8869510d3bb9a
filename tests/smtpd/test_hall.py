"""HL1, HL2: who is let in, over all workers, and the configuration that changes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from mta.smtpd import hall as halls
from mta.smtpd.counters import Counters
from tests.smtpd.kit import House, serving, short

# limits → connections that are let in, and the reply to the next
LIMITS: list[tuple[dict[str, Any], int, str]] = [
    ({"connections": 3}, 3, "421 4.3.2"),
    ({"connections_per_client": 2}, 2, "421 4.7.0"),
    ({"connection_rate": 2}, 2, "421 4.7.0"),
]


@pytest.mark.parametrize(("limits", "most", "wanted"), LIMITS)
def test_hl1_a_client_over_a_limit_is_refused_at_once(
    limits: dict[str, Any], most: int, wanted: str, tmp_path: Path
) -> None:
    with serving(tmp_path, limits=limits) as house:
        inside = [house.connect() for _ in range(most)]
        assert [short(wire.reply()) for wire in inside] == ["220"] * most
        over = house.connect()
        assert short(over.reply()) == wanted
        assert over.reply() == ""
        assert house.worker.hall.counters.total() == most
        assert "NOQUEUE: reject: CONNECT" in house.log()
        inside[0].say("QUIT")
        inside[0].close()
        while house.call(lambda: len(house.worker.hall.connections)) >= most + 1:
            pass
        if "connection_rate" not in limits:
            assert short(house.connect().reply()) == "220"


def test_hl1_what_nobody_set_leaves_each_client_a_share(tmp_path: Path) -> None:
    with serving(tmp_path, limits={"connections": 240}) as house:
        wires = []
        while short((wire := house.connect()).reply()) == "220":
            wires.append(wire)
        assert len(wires) == 50
        other = house.connect(source="127.0.0.2")
        assert short(other.reply()) == "220"
        for each in (*wires, wire, other):
            each.close()


def test_hl1_two_workers_share_a_limit(tmp_path: Path) -> None:
    memory = Counters.create(2)
    limits = {"connections_per_client": 2}
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    with serving(tmp_path / "1", limits=limits, memory=memory, slot=0) as one:
        with serving(tmp_path / "2", limits=limits, memory=memory, slot=1) as two:
            wires = [one.connect(), two.connect()]
            assert [short(w.reply()) for w in wires] == ["220", "220"]
            assert short(one.connect().reply()) == "421 4.7.0"
            assert short(two.connect().reply()) == "421 4.7.0"
            assert short(two.connect(source="127.0.0.2").reply()) == "220"


RATES = [
    ({"message_rate": 2}, ["MAIL FROM:<>", "RSET"] * 2 + ["MAIL FROM:<>"], "450 4.7.1"),
    (
        {"recipient_rate": 2},
        ["MAIL FROM:<>", *["RCPT TO:<bob@example.test>"] * 3],
        "450 4.7.1",
    ),
    ({"recipients": 2}, ["MAIL FROM:<>", *["RCPT TO:<bob@example.test>"] * 3], "452 4.5.3"),
]


@pytest.mark.parametrize(("limits", "lines", "wanted"), RATES)
def test_hl1_rates_and_numbers_within_a_session(
    limits: dict[str, Any], lines: list[str], wanted: str, tmp_path: Path
) -> None:
    with serving(tmp_path, limits=limits) as house:
        wire = house.connect()
        wire.hello()
        *good, last = wire.codes(*lines)
        assert all(code[0] == "2" for code in good)
        assert last == wanted


def rcpt(house: House, address: str) -> str:
    wire = house.connect()
    wire.hello()
    code = wire.codes("MAIL FROM:<>", f"RCPT TO:<{address}>")[1]
    wire.close()
    return code


def test_hl2_aliases_are_seen_live_and_errors_leave_things_as_they_are(tmp_path: Path) -> None:
    with serving(tmp_path) as house:
        assert rcpt(house, "new@example.test") == "550 5.1.1"
        (tmp_path / "aliases").write_text("new: alice\n")
        house.run(house.worker.hall.look_at_files())
        assert rcpt(house, "new@example.test") == "250 2.1.5"
        good = (tmp_path / "mta.yaml").read_text()
        (tmp_path / "mta.yaml").write_text("nonsense: [\n")
        house.run(house.worker.hall.look_at_files())
        assert rcpt(house, "new@example.test") == "250 2.1.5"
        assert "stays in use" in house.log()
        (tmp_path / "mta.yaml").write_text(good + "relay_from: [127.0.0.1]\n")
        house.run(house.worker.hall.look_at_files())
        assert rcpt(house, "bob@far.test") == "250 2.1.5"


class Names:
    """A resolver that knows one name, when it is let."""

    def __init__(self) -> None:
        self.asked = 0

    async def pointer(self, address: str, now: float) -> str:
        self.asked += 1
        return f"name-of-{address}.test"


def test_a_clients_name_is_found_once_and_remembered(tmp_path: Path) -> None:
    more = "smtpd: {xclient_from: [127.0.0.1], proxy_from: [127.0.0.1]}\n"
    with serving(tmp_path, more=more, proxy=True) as house:
        names = Names()
        house.worker.hall._resolver = names  # type: ignore[assignment]
        for _ in range(2):
            wire = house.connect()
            wire.send(b"PROXY TCP4 192.0.2.5 192.0.2.200 4000 25\r\n")
            wire.hello()
            assert short(wire.mail()) == "250 2.0.0"
            wire.close()
        assert names.asked == 1
        for entry, body in house.jobs():
            assert entry.envelope.origin == "client=name-of-192.0.2.5.test[192.0.2.5]"
            assert b"(name-of-192.0.2.5.test [192.0.2.5])" in body


def test_names_are_forgotten_in_time_and_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(halls, "NAMES_MAX", 3)
    with serving(tmp_path) as house:
        hall = house.worker.hall
        hall._resolver = Names()  # type: ignore[assignment]
        for n in range(9):
            house.run(hall.look_up(f"192.0.2.{n}"))
        assert len(hall._names) == 3
        assert hall.known_name("192.0.2.8") == "name-of-192.0.2.8.test"
        hall._names["192.0.2.8"] = (time.monotonic() - 1.0, "old")
        assert hall.known_name("192.0.2.8") is None
        assert hall.known_name("127.0.0.1") == hall.known_name("") == "localhost"


def test_hl1_descriptors_are_left_for_the_spool(tmp_path: Path) -> None:
    with serving(tmp_path) as house:
        house.call(lambda: setattr(house.worker.hall, "_room", 2))
        inside = [house.connect() for _ in range(2)]
        assert [short(wire.reply()) for wire in inside] == ["220", "220"]
        assert short(house.connect().reply()) == "421 4.3.2"
