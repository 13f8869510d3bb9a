from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.smtp.proxy import LOCAL, MAX, ProxyHeader, parse

V2 = b"\r\n\r\n\x00\r\nQUIT\n"
PORT = st.integers(0, 65535)
FOUR = st.ip_addresses(v=4).map(str)
SIX = st.ip_addresses(v=6).map(str)


def version_1(header: ProxyHeader) -> bytes:
    kind = "TCP6" if ":" in header.source else "TCP4"
    words = (kind, header.source, header.destination, header.source_port, header.port)
    return ("PROXY " + " ".join(map(str, words)) + "\r\n").encode()


def version_2(header: ProxyHeader, tlvs: bytes = b"") -> bytes:
    body = ip_address(header.source).packed + ip_address(header.destination).packed
    body += header.source_port.to_bytes(2, "big") + header.port.to_bytes(2, "big") + tlvs
    family = 0x21 if ":" in header.source else 0x11
    return V2 + bytes((0x21, family)) + len(body).to_bytes(2, "big") + body


@given(FOUR | SIX.filter(lambda a: "%" not in a), st.data(), PORT, PORT, st.binary(max_size=40))
def test_p1_p3_there_and_back(
    source: str, data: st.DataObject, a: int, b: int, rest: bytes
) -> None:
    destination = data.draw(SIX if ":" in source else FOUR)
    header = ProxyHeader(source, a, destination, b)
    for wire in (version_1(header), version_2(header), version_2(header, b"\x04\0\3abc")):
        assert parse(wire + rest) == (header, len(wire))
        for at in range(len(wire)):
            assert parse(wire[:at]) is None


@given(
    st.sampled_from([b"", b"PROXY ", V2, V2 + b"\x21\x11", b"PROXY TCP4 "]), st.binary(max_size=300)
)
def test_p2_whatever_the_octets(begin: bytes, rest: bytes) -> None:
    for octets in (begin + rest, begin + rest + b"x" * MAX):
        try:
            found = parse(octets)
        except ValueError as error:
            assert str(error).isprintable()
            continue
        assert found is not None or len(octets) < MAX
        if found is not None:
            assert 0 < found[1] <= len(octets)


def test_the_proxy_speaks_for_itself() -> None:
    assert parse(b"PROXY UNKNOWN\r\nEHLO") == (LOCAL, 15)
    assert parse(b"PROXY UNKNOWN ::1 ::1 1 2\r\n") == (LOCAL, 27)
    assert parse(V2 + b"\x20\x00\0\0") == (LOCAL, 16)
    assert parse(V2 + b"\x20\x11\0\x02ab") == (LOCAL, 18)
    assert parse(V2 + b"\x21\x00\0\0") == (LOCAL, 16)


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO x\r\n",
        b"proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n",
        b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 \xff 1.2.3.4 1 2\r\n",
        b"PROXY \r\n",
        b"PROXY TCP4 " + b"1" * 100,
        V2 + b"\x11\x11\0\x0c" + b"x" * 12,
        V2 + b"\x22\x11\0\x0c" + b"x" * 12,
        V2 + b"\x21\x12\0\x0c" + b"x" * 12,
        V2 + b"\x21\x31\0\xd8" + b"x" * 216,
        V2 + b"\x21\x11\0\x0b" + b"x" * 11,
        V2 + b"\x21\x11\xff\xff",
    ],
)
def test_what_is_refused(octets: bytes) -> None:
    with pytest.raises(ValueError, match="PROXY header"):
        parse(octets)
