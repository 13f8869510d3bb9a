"""ST1 to ST4: what a busy machine and long queues ask of clients."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mta.machine import load
from mta.machine.flow import Teller
from mta.policy.admission import MOST, Flow
from mta.policy.load import LOAD, PRESSURE
from mta.smtpd import strain as strains
from mta.smtpd.counters import FLOW
from tests.smtpd.kit import House, Wire, serving, short


class Machine:
    """A machine whose load is what a test says."""

    def __init__(self) -> None:
        self.load = self.pressure = 0.0


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setitem(load.GAUGES, LOAD, lambda: made.load)  # type: ignore[arg-type]
    monkeypatch.setitem(load.GAUGES, PRESSURE, lambda: made.pressure)  # type: ignore[arg-type]
    monkeypatch.setattr(load, "EVERY", 0.0)
    return made


@pytest.mark.parametrize("gauge", ["load", "pressure"])
def test_st1_at_refuse_nobody_comes_in_and_no_transaction_begins(
    gauge: str, machine: Machine, tmp_path: Path
) -> None:
    where = {"load": "load: {refuse: 8}\n", "pressure": "load: {psi: {refuse: 8}}\n"}
    with serving(tmp_path, more=where[gauge]) as house:
        idle, busy = house.connect(), house.connect()
        idle.hello()
        busy.hello()
        assert busy.codes("MAIL FROM:<>") == ["250 2.1.0"]
        setattr(machine, gauge, 8.0)
        house.sweep(0.0)
        assert short(house.connect().reply()) == "421 4.3.2"
        assert idle.codes("MAIL FROM:<>", "NOOP") == ["451 4.3.2", "250 2.0.0"]
        assert busy.codes("RCPT TO:<bob@example.test>", "DATA") == ["250 2.1.5", "354"]
        busy.send(b"Subject: x\r\n\r\nhello\r\n.\r\n")
        assert short(busy.reply()) == "250 2.0.0"
        assert busy.codes("MAIL FROM:<>") == ["451 4.3.2"]
        setattr(machine, gauge, 7.0)  # not a fifth below: it goes on
        house.sweep(0.0)
        assert idle.codes("MAIL FROM:<>") == ["451 4.3.2"]
        setattr(machine, gauge, 1.0)
        house.sweep(0.0)
        assert idle.codes("MAIL FROM:<>") == ["250 2.1.0"]
        assert short(house.connect().reply()) == "220"
        lines = [line.partition("]: ")[2] for line in house.log().splitlines() if " 8" in line]
        begins, ends = f"refuse begins: {gauge} 8, threshold 8", f"refuse ends: {gauge} 1, thr"
        assert [line for line in lines if line.startswith("refuse")] == [begins, f"{ends}eshold 8"]


def paused(house: House) -> int:
    return sum(c.session is not None and c.session.busy for c in house.worker.hall.connections)


def test_st2_at_delay_each_waits_for_itself_alone(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path, more="load: {delay: 4, refuse: 8}\n") as house:
        house.sweep(0.0)
        early = house.connect()
        early.hello()
        machine.load = 5.0
        house.sweep(0.0)
        assert str(house.worker.hall.strain.standing) == "load 5.0 over delay 4"
        pauses = {house.worker.hall.strain.pause() for _ in range(20)}
        assert len(pauses) > 10
        assert min(pauses) >= strains.SLOWED / 2
        assert max(pauses) <= strains.SLOWED * 1.5
        monkeypatch.setattr(strains, "SLOWED", 600.0)
        slow = house.connect()  # does not even get a greeting
        early.send(b"NOOP\r\n")
        while house.call(lambda: paused(house)) < 2:
            pass
        monkeypatch.setattr(strains, "SLOWED", 0.01)
        other = house.connect()
        other.hello()
        assert short(other.mail()) == "250 2.0.0"
        assert house.call(lambda: paused(house)) == 2
        slow.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            slow.sock.recv(1)
        machine.load = 9.0  # refused, and those who are in wait all the same
        house.sweep(0.0)
        assert house.worker.hall.strain.refusing
        assert house.worker.hall.strain.pause() > 0
        for wire in (slow, early, other):
            wire.close()


def test_st2_refuse_without_delay_slows_nobody(machine: Machine, tmp_path: Path) -> None:
    with serving(tmp_path, more="load: {refuse: 8, psi: {delay: 50}}\n") as house:
        machine.load = 9.0
        house.sweep(0.0)
        assert house.worker.hall.strain.refusing
        assert house.worker.hall.strain.pause() == 0.0
        machine.load, machine.pressure = 1.0, 60.0
        house.sweep(0.0)
        assert house.worker.hall.strain.pause() > 0


def test_st2_a_client_that_talks_during_its_pause_is_answered_in_order(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strains, "SLOWED", 0.05)
    with serving(tmp_path, more="load: {delay: 4}\n") as house:
        machine.load = 5.0
        house.sweep(0.0)
        wire = house.connect()
        wire.hello()
        wire.send(b"NOOP\r\nNOOP\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n")
        assert [short(wire.reply()) for _ in range(5)][-1] == "354"
        wire.send(b"x\r\n.\r\nQUIT\r\n")
        assert short(wire.reply()) == "250 2.0.0"
        assert short(wire.reply()) == "221 2.0.0"


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mta.pacing.LOOK", 0.0)


QUEUES = "smtpd: {xclient_from: [127.0.0.1]}\nrelay_from: [192.0.2.0/24, 127.0.0.1]\n"


def queued(folder: Path, name: str = "smtp", **keys: object) -> None:
    """Give the channel ``smtp`` of the site a target of 100 s."""
    path = folder / "mta.yaml"
    path.write_text(path.read_text().replace('domains: "*"}', 'domains: "*", target_age: 100s}'))


def begin(house: House, address: str) -> Wire:
    wire = house.connect()
    wire.hello()
    assert short(wire.say(f"XCLIENT ADDR={address}")) == "220"
    wire.say("EHLO client.test")
    assert wire.codes("MAIL FROM:<>") == ["250 2.1.0"]
    return wire


def tell(house: House, teller: Teller, jobs: int) -> None:
    """Have a deliver say that ``jobs`` wait and that it settles ten in a second."""
    teller.tell(Flow(jobs, 10.0, 10.0), time.monotonic())
    house.sweep(0.0)


def test_st3_who_floods_a_queue_is_slowed_first(tmp_path: Path) -> None:
    with serving(tmp_path, more=QUEUES) as house:
        queued(tmp_path)
        house.run(house.worker.hall.look_at_files())
        teller = Teller(str(tmp_path / "run"), "smtp")
        counters = house.worker.hall.counters

        def flood() -> None:
            for _ in range(1000):  # in a minute: 16 in a second, where 10 are drained
                counters.add(counters.flow_key("smtp", "192.0.2.7"), FLOW, time.monotonic())

        house.call(flood)
        tell(house, teller, 1200)  # 120 s
        heavy, light = begin(house, "192.0.2.7"), begin(house, "192.0.2.8")
        assert heavy.codes("RCPT TO:<x@far.test>") == ["451 4.3.2"]
        assert heavy.codes("RCPT TO:<bob@example.test>") == ["250 2.1.5"]
        assert "reject: RCPT" in house.log()
        assert light.codes("RCPT TO:<x@far.test>") == ["250 2.1.5"]
        tell(house, teller, 2001)  # beyond twice the target
        again = begin(house, "192.0.2.8")
        assert again.codes("RCPT TO:<x@far.test>") == ["451 4.3.2"]
        tell(house, teller, 300)
        heavy = begin(house, "192.0.2.7")
        assert heavy.codes("RCPT TO:<x@far.test>") == ["250 2.1.5"]


def test_st3_what_has_no_target_or_is_not_told_slows_nobody(tmp_path: Path) -> None:
    with serving(tmp_path, more=QUEUES) as house:
        teller = Teller(str(tmp_path / "run"), "smtp")
        tell(house, teller, 10**6)
        assert begin(house, "192.0.2.7").codes("RCPT TO:<x@far.test>") == ["250 2.1.5"]
        queued(tmp_path)
        teller.close()
        house.run(house.worker.hall.look_at_files())
        house.sweep(1.0)
        assert begin(house, "192.0.2.7").codes("RCPT TO:<x@far.test>") == ["250 2.1.5"]


def test_st4_a_transaction_waits_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mta.policy.admission.MOST", 0.4)
    with serving(tmp_path, more=QUEUES) as house:
        queued(tmp_path)
        house.run(house.worker.hall.look_at_files())
        strain, counters = house.worker.hall.strain, house.worker.hall.counters
        key = counters.flow_key("smtp", "192.0.2.7")
        house.call(lambda: [counters.add(key, FLOW, time.monotonic()) for _ in range(1000)])
        tell(house, Teller(str(tmp_path / "run"), "smtp"), 990)
        paced: list[float] = []
        asked = strain.recipient

        def recipient(*arguments: object) -> object:
            pace = asked(*arguments)  # type: ignore[arg-type]
            paced.append(pace.pause)
            return pace

        monkeypatch.setattr(strain, "recipient", recipient)
        wire = begin(house, "192.0.2.7")
        rcpts = [f"RCPT TO:<x{n}@far{n}.test>" for n in range(20)]
        wire.send("".join(f"{line}\r\n" for line in rcpts).encode())
        assert [short(wire.reply()) for _ in rcpts] == ["250 2.1.5"] * 20
        assert paced[0] > 0.3
        assert sum(paced) <= 0.4 <= MOST


def test_st3_recipients_of_one_host_are_one_job(tmp_path: Path) -> None:
    with serving(tmp_path, more=QUEUES) as house:
        queued(tmp_path)
        house.run(house.worker.hall.look_at_files())
        wire = begin(house, "192.0.2.7")
        rcpts = [f"RCPT TO:<x{n}@{host}.test>" for n in range(9) for host in ("a", "b")]
        assert wire.codes(*rcpts) == ["250 2.1.5"] * 18
        counters = house.worker.hall.counters
        key = counters.flow_key("smtp", "192.0.2.7")
        assert 1.0 < house.call(lambda: counters.rate(key, FLOW, time.monotonic())) <= 2.0


def test_a_new_configuration_keeps_the_level_of_thresholds_that_stay(
    machine: Machine, tmp_path: Path
) -> None:
    with serving(tmp_path, more="load: {refuse: 8}\n") as house:
        hall, path = house.worker.hall, tmp_path / "mta.yaml"
        machine.load = 9.0
        house.sweep(0.0)
        assert hall.strain.refusing
        path.write_text(path.read_text() + "relay_from: [127.0.0.1]\n")
        house.run(hall.look_at_files())
        assert hall.strain.refusing
        path.write_text(path.read_text().replace("refuse: 8", "refuse: 20"))
        house.run(hall.look_at_files())
        assert not hall.strain.refusing
        house.sweep(0.0)
        assert not hall.strain.refusing
        assert house.log().count("refuse ends") == 1


def test_connections_beyond_the_throttle_wait_and_are_not_refused(tmp_path: Path) -> None:
    with serving(tmp_path, more="limits: {connection_throttle: 3}\n") as house:
        began = time.monotonic()
        wires = [house.connect() for _ in range(8)]
        assert [short(wire.reply()) for wire in wires] == ["220"] * 8
        took = time.monotonic() - began
        assert took >= 1.0  # three in each second of the clock: the last begin a third
        assert [short(wire.say("NOOP")) for wire in wires] == ["250 2.0.0"] * 8
        for wire in wires:
            wire.close()
