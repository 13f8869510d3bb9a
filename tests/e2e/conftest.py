"""Fixtures of the end-to-end tests: houses, sinks and foreign servers, ended whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Certified, make_ca, make_certificate
from tests.e2e.house import House, Sink
from tests.e2e.peers.dovecot import Dovecot
from tests.e2e.peers.exim import Exim
from tests.e2e.peers.opensmtpd import OpenSmtpd
from tests.e2e.peers.postfix import Postfix

LIMIT = 300  # seconds of one test: not how long it should take, but when all hope is lost


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.fspath).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.e2e)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(LIMIT))


def _houses(root: Path) -> Iterator[Callable[..., House]]:
    houses: list[House] = []

    def make(*arguments: Any, **options: Any) -> House:
        folder = root / f"house{len(houses)}"
        folder.mkdir()
        houses.append(House(folder, *arguments, **options))
        return houses[-1]

    yield make
    for house in houses:
        house.stop()


@pytest.fixture
def new_house(tmp_path: Path) -> Iterator[Callable[..., House]]:
    yield from _houses(tmp_path)


@pytest.fixture(scope="module")
def new_shared_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., House]]:
    """Make houses that all tests of a module use."""
    yield from _houses(tmp_path_factory.mktemp("shared"))


@pytest.fixture
def new_sink() -> Iterator[Callable[..., Sink]]:
    sinks: list[Sink] = []

    def make(*arguments: Any, **options: Any) -> Sink:
        sinks.append(Sink(*arguments, **options))
        return sinks[-1]

    yield make
    for sink in sinks:
        sink.close()


@pytest.fixture(scope="session")
def authority() -> Certified:
    """Return the one authority that the tests' servers are certified by."""
    return make_ca()


@pytest.fixture(scope="session")
def postfix(tmp_path_factory, authority: Certified) -> Iterator[Postfix]:
    own = make_certificate(["mx.postfix.test", "127.0.0.1"], authority)
    pem = own.key_pem() + own.pem()
    peer = Postfix(tmp_path_factory.mktemp("postfix"), tls="may", pem=pem)
    yield peer
    peer.stop()


@pytest.fixture(scope="session")
def exim(tmp_path_factory, authority: Certified) -> Iterator[Exim]:
    own = make_certificate(["mx.exim.test", "127.0.0.1"], authority)
    peer = Exim(tmp_path_factory.mktemp("exim"), own.pem() + own.key_pem())
    yield peer
    peer.stop()


@pytest.fixture(scope="session")
def opensmtpd(tmp_path_factory, authority: Certified) -> Iterator[OpenSmtpd]:
    own = make_certificate(["mx.opensmtpd.test", "127.0.0.1"], authority)
    peer = OpenSmtpd(tmp_path_factory.mktemp("opensmtpd"), own.pem(), own.key_pem())
    yield peer
    peer.stop()


@pytest.fixture(scope="session")
def dovecot(tmp_path_factory) -> Iterator[Dovecot]:
    peer = Dovecot(tmp_path_factory.mktemp("dovecot"))
    yield peer
    peer.stop()
