"""WK1: a worker that is told to stop."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from mta.errors import ConfigError
from tests.smtpd.kit import serving, short
from tests.smtpd.test_session import begun


def test_wk1_idle_clients_are_told_and_transactions_end(tmp_path: Path) -> None:
    with serving(tmp_path) as house:
        idle, busy, stuck = house.connect(), begun(house), begun(house)
        idle.hello()
        house.loop.call_soon_threadsafe(house.worker.stop, 1.0)
        assert short(idle.reply()) == "421 4.3.2"
        busy.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
        assert short(busy.reply()) == "250 2.0.0"
        assert short(busy.reply()) == "421 4.3.2"
        stuck.send(b"Subject: y\r\n\r\n")
        with pytest.raises(ConnectionError):
            if stuck.reply() == "":
                raise ConnectionError
        assert len(house.messages()) == 1
        with pytest.raises(OSError):
            for _ in range(100):
                house.connect().reply()
                time.sleep(0.01)


def test_implicit_tls_needs_a_certificate(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tls\.certificate"):
        with serving(tmp_path, ("submissions",)):
            pass


def test_a_defect_costs_one_connection_and_is_logged(tmp_path: Path) -> None:
    with serving(tmp_path) as house:
        space = house.worker.hall.space
        house.worker.hall.space = None  # type: ignore[assignment]
        wire = house.connect()
        wire.hello()
        wire.send(b"MAIL FROM:<>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n")
        while wire.reply()[:3] == "250":
            pass
        assert wire.reply() == ""
        house.worker.hall.space = space
        other = house.connect()
        other.hello()
        assert short(other.mail()) == "250 2.0.0"
        assert "AttributeError" in house.log()


def test_a_silent_dovecot_keeps_nobody_waiting(tmp_path: Path) -> None:
    path = str(tmp_path / "dovecot")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        more = f"auth: {{dovecot: {path}}}\n"
        with serving(tmp_path, more=more) as house:
            assert short(house.connect().reply()) == "220"
