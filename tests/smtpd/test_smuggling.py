"""Every short mix of CR, LF, NUL and dot around the end of data, on a socket."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server_dialogues import read_reply
from tests.smtpd.stage import SocketWire, Stage
from tests.smuggling import ENVELOPE, HEADER, TAIL, borders, mixes, read

SERVICES = {"mx": False, "submission": True}  # and whether line ends are mended
FULL = b"From: a@client.test\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@x>\r\n"


@pytest.mark.parametrize("service", SERVICES)
def test_every_mix_makes_one_message_or_a_refusal(service: str, tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    lenient = SERVICES[service]
    wire = SocketWire(stage, (f"service={service}", "relay", "errors=0"))
    told: list[bytes] = []
    try:
        read_reply(wire)
        wire.send(b"EHLO client.test\r\n")
        read_reply(wire)
        for start in (HEADER, HEADER + b"a"):
            for mix in mixes(4):
                octets = FULL + start + mix + TAIL
                reading = read(octets, lenient)
                cuts = list(borders(octets, mix))
                for pieces in cuts if len(mix) < 3 else [cuts[sum(mix) % len(cuts)]]:
                    wire.send(ENVELOPE)
                    assert [read_reply(wire)[0][:3] for _ in range(3)] == [b"250", b"250", b"354"]
                    for piece in pieces:
                        wire.send(piece)
                    replies = tuple([read_reply(wire)[0][:9] for _ in reading.replies])
                    assert replies == reading.replies, pieces
                    told += [] if reading.body is None else [reading.body]
        assert wire.finish() == b""
        assert [taken.body for taken in wire.taken()] == told
    finally:
        stage.close()
