"""Fixtures of the end-to-end tests: houses and sinks that are ended whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.house import House, Sink


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.fspath).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture
def new_house(tmp_path: Path) -> Iterator[Callable[..., House]]:
    houses: list[House] = []

    def make(*arguments: Any, **options: Any) -> House:
        root = tmp_path / f"house{len(houses)}"
        root.mkdir()
        houses.append(House(root, *arguments, **options))
        return houses[-1]

    yield make
    for house in houses:
        house.stop()


@pytest.fixture
def new_sink() -> Iterator[Callable[..., Sink]]:
    sinks: list[Sink] = []

    def make(*arguments: Any, **options: Any) -> Sink:
        sinks.append(Sink(*arguments, **options))
        return sinks[-1]

    yield make
    for sink in sinks:
        sink.close()
