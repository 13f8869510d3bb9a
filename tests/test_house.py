"""The style of the house, where a program can check it: sizes, names, packages, invariants."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

MODULE_LINES = 400
FUNCTION_LINES = 60
LINE = 100

BANNED = {
    "handler",
    "handlers",
    "manager",
    "managers",
    "util",
    "utils",
    "helper",
    "helpers",
    "info",
    "infos",
}
BANNED |= {"bounce", "bounces", "bounced", "sender", "senders"}


def sources(*tops: str) -> list[Path]:
    return sorted(path for top in tops for path in (ROOT / top).rglob("*.py"))


def show(path: Path) -> str:
    return str(path.relative_to(ROOT))


PROGRAM = sources("mta", "channels")


def test_the_package_list_is_the_tree() -> None:
    listed = PROJECT["tool"]["setuptools"]["packages"]
    found = {".".join(p.parent.relative_to(ROOT).parts) for p in sources("mta")}
    assert (ROOT / "channels" / "__init__.py").exists()
    assert sorted(listed) == sorted(found | {"mta.channels"})
    for name in found:
        assert (ROOT / name.replace(".", "/") / "__init__.py").exists(), name
    where = PROJECT["tool"]["setuptools"]["package-dir"]
    assert where == {"mta": "mta", "mta.channels": "channels"}


def test_every_command_has_its_function() -> None:
    for command, target in PROJECT["project"]["scripts"].items():
        module, _, function = target.partition(":")
        path = ROOT / (module.replace(".", "/") + ".py")
        assert path.exists(), f"{command}: no {show(path)}"
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
        assert function in names, f"{command}: no {function}() in {show(path)}"


def test_modules_fit() -> None:
    sizes = {show(p): p.read_text(encoding="utf-8").count("\n") for p in PROGRAM}
    assert {name: size for name, size in sizes.items() if size > MODULE_LINES} == {}


def test_functions_fit_a_screen() -> None:
    long = [
        f"{show(path)}: {name}, {size} lines" for path in PROGRAM for name, size in long_in(path)
    ]
    assert long == []


def long_in(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or 0) - node.lineno + 1
            if size > FUNCTION_LINES:
                yield node.name, size


def test_lines_fit() -> None:
    long = [
        f"{show(path)}:{number}"
        for path in sources("mta", "channels", "tests")
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1)
        if len(line) > LINE
    ]
    assert long == []


def test_modules_say_what_and_why() -> None:
    silent = [
        show(path)
        for path in PROGRAM
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


def words_of(name: str) -> set[str]:
    """Return the words in an identifier: ``readInfo_HTML`` → read, info, html."""
    return {w.lower() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def given_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the names that a module gives, with their lines; those it only uses are others'."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr, node.lineno
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname, node.lineno


def banned_in(path: Path) -> Iterator[str]:
    names = [(path.stem, 1), *given_names(ast.parse(path.read_text(encoding="utf-8")))]
    for name, line in names:
        if words_of(name) & BANNED:
            yield f"{path.name}:{line}: {name}"


def test_no_banned_names() -> None:
    assert [found for path in PROGRAM for found in banned_in(path)] == []


@pytest.mark.parametrize(
    "text",
    [
        "class QueueManager: pass",
        "def f(sender): pass",
        "x_info = 1",
        "import a as util",
        "def bounce(): pass",
        "self.handler = 1",
        "HELPERS = ()",
    ],
)
def test_a_banned_name_is_found(text: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(text, encoding="utf-8")
    assert len(list(banned_in(path))) == 1


def test_a_banned_file_is_found_and_a_use_is_not(tmp_path: Path) -> None:
    (tmp_path / "utils.py").write_text("", encoding="utf-8")
    assert len(list(banned_in(tmp_path / "utils.py"))) == 1
    (tmp_path / "good.py").write_text("sys.exc_info()\nlog.info('sender')\n", encoding="utf-8")
    assert list(banned_in(tmp_path / "good.py")) == []


def promises(path: Path) -> tuple[str, list[str]]:
    """Return the test file and the numbers of the invariants that ``path`` promises."""
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    _, _, rest = said.partition("Invariants")
    where = re.search(r"tests/[\w/]+\.py", rest)
    return where[0] if where else "", re.findall(r"^ {4}([A-Z]+[0-9]+)  ", rest, re.MULTILINE)


def untested(where: Path, numbers: list[str]) -> list[str]:
    """Return those of ``numbers`` for which ``where`` has no test of that name."""
    text = where.read_text(encoding="utf-8") if where.is_file() else ""
    names = re.findall(r"^ *(?:async )?def (test_\w+)", text, re.MULTILINE)
    words = {word for name in names for word in name.split("_")}
    return [number for number in numbers if number.lower() not in words]


@pytest.mark.parametrize("path", [p for p in PROGRAM if promises(p)[1]], ids=show)
def test_every_invariant_has_its_test(path: Path) -> None:
    where, numbers = promises(path)
    assert where, f"{show(path)} does not say where its invariants are tested"
    assert untested(ROOT / where, numbers) == [], where


def test_an_untested_invariant_is_found(tmp_path: Path) -> None:
    module, tests = tmp_path / "m.py", tmp_path / "t.py"
    module.write_text(
        '"""A.\n\nInvariants, each a property in tests/x/test_m.py\n'
        '    D1   One.\n    D2   Two,\n         D3   no.\n    D10  Ten.\n"""\n',
        encoding="utf-8",
    )
    tests.write_text("def test_d1_one(): pass\nasync def test_d10_x(): pass\n", encoding="utf-8")
    assert promises(module) == ("tests/x/test_m.py", ["D1", "D2", "D10"])
    assert untested(tests, ["D1", "D2", "D10"]) == ["D2"]
