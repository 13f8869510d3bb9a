"""The layering of ARCHITECTURE.md, read from the source: imports point down only.

Each rule is shown to bite, on a small tree with one seeded offence.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent

WORDS = ("mta.types", "mta.errors", "mta.values", "mta.address", "mta.words")
PURE = ("mta.smtp", "mta.channel", "mta.route", "mta.policy", "mta.dsn", "mta.headers")
PURE += ("mta.addresslist", "mta.rank")
ABOVE = ("mta.policy.decide", "mta.policy.foresee")  # of policy: they ask the others
SYSTEM = ("mta.spool", "mta.machine", "mta.config")  # none of them imports another
CHANNEL_MAY = (*WORDS, "mta.smtp", "mta.channel", "mta.machine")

UNCLEAN = {"os", "sys", "io", "socket", "_socket", "ssl", "time", "random", "secrets", "logging"}
UNCLEAN |= {"asyncio", "signal", "subprocess", "threading", "multiprocessing", "concurrent"}
UNCLEAN |= {"select", "selectors", "pathlib", "tempfile", "shutil", "glob", "fcntl", "pwd", "grp"}
UNCLEAN |= {"resource", "ctypes", "sqlite3"}

THIRD_PARTY = {
    "click": ("mta.cli", "mta.cli_control"),  # the latter makes commands for the former
    "yaml": ("mta.config.yaml_nodes",),
    "dns": ("mta.machine.resolve",),
    "psutil": ("mta.machine.load",),
    "setproctitle": ("mta.machine.process",),
    "uvloop": ("mta.machine.loop", "mta.channels.smtp"),
    "cryptography": ("mta.machine.x509",),
    "argon2": ("mta.machine.passwords",),
    "bcrypt": ("mta.machine.passwords",),
    "idna": ("mta.machine.resolve",),
}
NETWORK = {"socket", "_socket", "ssl"}  # programs get sockets from machine, never make them
NETWORK_MAY = ("mta.machine", "mta.config", "mta.deliver")  # the last: socket pairs only
DISK = UNCLEAN - {"time", "asyncio"}  # clocks stamp ids; group commits wait in the loop
SPOOL_MAY = {"mta.spool.fs": DISK}
SPOOL_MAY |= {"mta.spool.layout": {"os"}, "mta.spool.spool": {"os"}}  # a pid; the first mkdir

# What a one-shot submit loads, however late; the rest follows from their imports.
STARTS = tuple(
    "mta." + name
    for name in (
        *("submit", "sendmail", "launcher", "accept", "headers", "address", "submission"),
        *("config.load", "config.model", "config.snapshot", "config.routing"),
        *("spool.spool", "spool.journal", "machine.wake", "machine.clock"),
        *("route.table", "route.aliases", "route.router", "route.split"),
    )
)
SLOW = {"re", "typing", "enum", "dataclasses", "json", "collections", "functools", "socket"}
SLOW |= {"subprocess", "pathlib", "tempfile", "logging", "email", "datetime", "random", "asyncio"}
SLOW |= {"contextlib", "inspect", "importlib", "argparse", "shutil", "ssl", "threading"}
SLOW |= set(THIRD_PARTY)


class Import(NamedTuple):
    """One imported module; ``late`` if inside a function, ``typing`` if for type checkers only."""

    name: str
    line: int
    late: bool
    typing: bool


Tree = dict[str, tuple[Path, ast.Module]]


def read_tree(root: Path) -> Tree:
    """Return dotted name → source of every module, ``channels/`` under its installed name."""
    tree: Tree = {}
    for top, prefix in ((root / "mta", "mta"), (root / "channels", "mta.channels")):
        for path in sorted(top.rglob("*.py")):
            parts = path.relative_to(top).with_suffix("").parts
            name = ".".join((prefix, *parts)).removesuffix(".__init__")
            tree[name] = path, ast.parse(path.read_text(encoding="utf-8"))
    return tree


def imports(tree: Tree, module: str) -> Iterator[Import]:
    """Yield what ``module`` imports, anywhere in it."""

    def walk(node: ast.AST, late: bool, typing: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, late, typing)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield Import(inner if inner in tree else source, node.lineno, late, typing)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for child in node.body:
                yield from walk(child, late, True)
            for child in node.orelse:
                yield from walk(child, late, typing)
        else:
            late = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from walk(child, late, typing)

    yield from set(walk(tree[module][1], False, False))


def within(name: str, rooms: tuple[str, ...]) -> str:
    """Return the one of ``rooms`` that ``name`` is or lies in, or ""."""
    return next((r for r in rooms if name == r or name.startswith(r + ".")), "")


def level(name: str) -> int:
    """Words 0, pure rooms 1, system rooms 2, programs 3, the umbrella command 4."""
    if name in ("mta", *WORDS):
        return 0
    return 1 if within(name, PURE) else 2 if within(name, SYSTEM) else 4 if name == "mta.cli" else 3


def pure_rooms(tree: Tree) -> Iterator[str]:
    """Rule 1: pure rooms know the words and themselves, and nothing of the machine."""
    for module in tree:
        room = within(module, PURE) or within(module, WORDS)
        for i in imports(tree, module) if room else ():
            if i.name.partition(".")[0] in UNCLEAN:
                yield f"{module}:{i.line}: a pure room imports {i.name}"
            if i.name.startswith("mta") and not within(i.name, (*WORDS, room)):
                yield f"{module}:{i.line}: a pure room imports {i.name}"
            if room == "mta.policy" and module not in ABOVE and within(i.name, (room,)):
                yield f"{module}:{i.line}: only decide and foresee stand above the rest of policy"


def third_party(tree: Tree) -> Iterator[str]:
    """Rule 2: each third-party package has one importing module."""
    for module in tree:
        for i in imports(tree, module):
            top = i.name.partition(".")[0]
            if top in sys.stdlib_module_names or top in ("mta", "channels", ""):
                continue
            if module not in THIRD_PARTY.get(top, ()):
                yield f"{module}:{i.line}: imports {i.name}"


def channels(tree: Tree) -> Iterator[str]:
    """Rule 3: channel programs stand alone, and nobody imports one."""
    for module in tree:
        ours = within(module, ("mta.channels",))
        for i in imports(tree, module):
            if i.name.partition(".")[0] == "channels" or within(i.name, ("mta.channels",)):
                yield f"{module}:{i.line}: imports a channel program"
            if ours and i.name.startswith("mta.") and not within(i.name, CHANNEL_MAY):
                yield f"{module}:{i.line}: a channel program imports {i.name}"


def downwards(tree: Tree) -> Iterator[str]:
    """The order of the layers: nothing imports what stands above it, or beside it below 3."""
    for module in tree:
        for i in imports(tree, module):
            if i.name.startswith("."):
                yield f"{module}:{i.line}: a relative import hides its layer"
            if not within(i.name, ("mta",)) or within(i.name, ("mta.channels",)):
                continue
            above, below = level(module), level(i.name)
            beside = above == below == 2 and within(module, SYSTEM) != within(i.name, SYSTEM)
            if below > above or beside:
                yield f"{module}:{i.line}: imports {i.name}, which is not below it"


def system(tree: Tree) -> Iterator[str]:
    """Rule 4: who may touch the network, the queue's disk, and end the process."""
    for module, (_, source) in tree.items():
        for i in imports(tree, module):
            if i.typing:
                continue
            if i.name in NETWORK and not within(module, NETWORK_MAY):
                yield f"{module}:{i.line}: imports {i.name}"
            if within(module, ("mta.spool",)) and i.name in DISK - SPOOL_MAY.get(module, set()):
                yield f"{module}:{i.line}: imports {i.name}; only spool.fs touches the disk"
        if module not in ENDS:
            yield from (f"{module}:{line}: ends the process" for line in exits(source))


# Besides "if __name__ == '__main__'": each for a reason that its comment gives.
ENDS = ("mta.cli", "mta.submit", "mta.machine.run", "mta.machine.process")


def exits(source: ast.Module) -> Iterator[int]:
    """Yield the lines that end the process, save those of the last statement's main block."""
    last = source.body[-1:]
    main = [s for s in last if isinstance(s, ast.If) and "__name__" in ast.unparse(s.test)]
    for statement in source.body:
        for node in ast.walk(statement) if statement not in main else ():
            name = ast.unparse(node) if isinstance(node, ast.Attribute | ast.Name) else ""
            if name in ("sys.exit", "os._exit", "SystemExit", "exit", "quit"):
                yield node.lineno


def start_up(tree: Tree) -> Iterator[str]:
    """What a one-shot submit loads imports nothing slow before it needs it."""
    todo, seen = [s for s in STARTS if s in tree], set()
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        for i in imports(tree, module):
            if i.late or i.typing:
                continue
            if i.name.partition(".")[0] in SLOW:
                yield f"{module}:{i.line}: imports {i.name} at start-up"
            if i.name in tree:
                todo.append(i.name)


RULES = (pure_rooms, third_party, channels, downwards, system, start_up)


@pytest.fixture(scope="module")
def house() -> Tree:
    return read_tree(ROOT)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps(rule: object, house: Tree) -> None:
    assert callable(rule)
    assert sorted(rule(house)) == []


SEEDS = [
    (pure_rooms, "mta/policy/load.py", "import time"),
    (pure_rooms, "mta/policy/load.py", "def f():\n    from os import path"),
    (pure_rooms, "mta/policy/load.py", "import mta.route.table"),
    (pure_rooms, "mta/policy/load.py", "from mta.policy import retry"),
    (pure_rooms, "mta/route/table.py", "from mta.spool import fs"),
    (pure_rooms, "mta/types.py", "from mta.route.table import X"),
    (pure_rooms, "mta/address.py", "import socket"),
    (third_party, "mta/submit.py", "import click"),
    (third_party, "mta/machine/net.py", "import dns.resolver"),
    (third_party, "mta/config/load.py", "def f():\n    import yaml"),
    (third_party, "mta/up.py", "import requests"),
    (channels, "mta/deliver/lane.py", "from mta.channels import smtp"),
    (channels, "mta/up.py", "import channels.smtp"),
    (channels, "channels/list.py", "from mta.spool.spool import Spool"),
    (channels, "channels/list.py", "from mta import headers"),
    (downwards, "mta/machine/net.py", "from mta.up import run"),
    (downwards, "mta/machine/net.py", "from mta.config.model import Config"),
    (downwards, "mta/spool/fs.py", "from mta.machine import clock"),
    (downwards, "mta/up.py", "from mta.cli import main"),
    (downwards, "mta/up.py", "from . import cli"),
    (system, "mta/up.py", "import socket"),
    (system, "mta/spool/entry.py", "import os"),
    (system, "mta/up.py", "import sys\ndef f():\n    sys.exit(1)\nx = 1"),
    (system, "mta/up.py", "def f():\n    raise SystemExit(1)"),
    (start_up, "mta/submit.py", "import re"),
    (start_up, "mta/submit.py", "from mta import words"),
    (start_up, "mta/spool/spool.py", "from collections import deque"),
    (start_up, "mta/values.py", "if TYPE_CHECKING:\n    import typing\nelse:\n    import enum"),
]
CLEAN = {
    "mta/policy/decide.py": "from mta.policy import retry\nfrom mta.types import Reply",
    "mta/policy/retry.py": "",
    "mta/headers.py": "",
    "mta/route/table.py": "from __future__ import annotations\nimport bisect",
    "mta/words.py": "import re",
    "mta/machine/clock.py": "import time",
    "mta/machine/resolve.py": "def f():\n    import dns.resolver",
    "mta/config/routing.py": "from mta.route.table import ChannelTable",
    "mta/spool/fs.py": "import os, fcntl",
    "mta/spool/spool.py": "import time\ndef f():\n    import json",
    "mta/submit.py": "from mta.values import TYPE_CHECKING\nif TYPE_CHECKING:\n    import typing",
    "mta/values.py": "",
    "mta/cli.py": "import click, sys\nimport mta.up\nsys.exit(0)",
    "mta/up.py": "import sys\nif __name__ == '__main__':\n    sys.exit(0)",
    "channels/list.py": "from mta.channel import talk\nfrom mta.machine import net\nimport os",
}


def build(root: Path, files: dict[str, str]) -> Tree:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    return read_tree(root)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_clean_tree_passes(rule: object, tmp_path: Path) -> None:
    assert callable(rule)
    assert list(rule(build(tmp_path, CLEAN))) == []


@pytest.mark.parametrize(("rule", "path", "text"), SEEDS)
def test_a_seeded_offence_is_found(rule: object, path: str, text: str, tmp_path: Path) -> None:
    assert callable(rule)
    offences = list(rule(build(tmp_path, {**CLEAN, path: text})))
    assert offences, f"{text!r} in {path} went unseen"
