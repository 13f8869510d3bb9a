"""PC1, PC2: which queue decides, and which slow nobody."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mta.machine.flow import Teller
from mta.pacing import LOOK, Pacing, targets
from mta.policy.admission import MOST, Flow, Pace


def config(folder: Path, *rows: tuple[str, float]) -> Any:
    channels = [SimpleNamespace(queue=queue, target_age=age) for queue, age in rows]
    return SimpleNamespace(runtime=str(folder), channels=channels)


def flood(_: str) -> float:
    return 1e9


def test_pc1_the_slowest_queue_decides(tmp_path: Path) -> None:
    site = config(tmp_path, ("a", 100.0), ("b", 100.0), ("b", 60.0), ("c", 0.0))
    assert targets(site) == {"a": 100.0, "b": 60.0}
    Teller(str(tmp_path), "a").tell(Flow(750, 10.0, 10.0), 5.0)
    Teller(str(tmp_path), "b").tell(Flow(450, 10.0, 10.0), 5.0)
    pacing = Pacing(site)
    assert pacing.pace("ab", flood) == Pace()
    pacing.look(5.0)
    assert pacing.watched("abcd") == ["a", "b"]
    assert pacing.pace("a", flood) == pacing.pace("b", flood) == Pace(0.5 * MOST)
    Teller(str(tmp_path), "b").tell(Flow(601, 10.0, 10.0), 5.0 + LOOK)
    pacing.look(5.0 + LOOK / 2)
    assert pacing.pace("ab", flood) == Pace(0.5 * MOST)
    pacing.look(5.0 + LOOK)
    assert pacing.pace("ab", flood) == Pace(MOST, refused=True)
    assert pacing.pace("ab", lambda _: 0.01).pause < 0.1
    assert pacing.pace("a", flood) == Pace(0.5 * MOST)


def test_pc2_others_slow_nobody(tmp_path: Path) -> None:
    Teller(str(tmp_path), "c").tell(Flow(10**6, 1.0, 1.0), 5.0)
    for rows in ((), (("c", 0.0),), (("d", 60.0),)):
        pacing = Pacing(config(tmp_path, *rows))
        pacing.look(5.0)
        assert pacing.pace("cd", flood) == Pace()
