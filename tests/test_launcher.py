from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mta.config.load import load_config
from mta.launcher import COMMANDS, install, interpreter_line, script
from tests.inlet import one, write_site


def test_the_usual_first_line() -> None:
    assert interpreter_line("/opt/posthouse/bin/python") == "#!/opt/posthouse/bin/python -IS\n"


@pytest.mark.parametrize("folder", ["with space", "x" * 130, "it's"])
def test_any_interpreter_path_runs(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    python = tmp_path / folder / "python"
    python.symlink_to(os.path.realpath(sys.executable))
    package = tmp_path / "root"
    package.mkdir()
    (package / "program.py").write_text(
        "import sys\ndef main():\n print(sys.argv[1:], sys.flags.isolated, sys.flags.no_site)\n"
    )
    command = tmp_path / "command"
    command.write_text(script(str(python), str(package), ["/late"], "program", "main"))
    command.chmod(0o755)
    done = subprocess.run([command, "a b", "$c"], capture_output=True, text=True, check=True)
    assert done.stdout == "['a b', '$c'] 1 1\n"


def test_installed_commands_work_without_site_packages(tmp_path: Path) -> None:
    """The first run parses YAML, which is imported late from the libraries at the path's end."""
    made = install(str(tmp_path))
    assert [Path(path).name for path in made] == list(COMMANDS)
    environ = {"MTA_CONFIG": str(write_site(tmp_path)), "PYTHONPATH": "/nonexistent"}
    for name in ("submit", "sendmail"):
        done = subprocess.run(
            [tmp_path / name, "-v", "alice"],
            input=b"x\n",
            env=environ,
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.startswith(b"Submitted & queued (")
    done = subprocess.run([tmp_path / "newaliases"], env=environ, capture_output=True, check=True)
    assert b"1 aliases" in done.stdout


def test_installing_again_replaces(tmp_path: Path) -> None:
    (tmp_path / "submit").write_text("#!/bin/false\n")
    install(str(tmp_path))
    assert "mta.submit" in (tmp_path / "submit").read_text()
    assert sorted(os.listdir(tmp_path)) == sorted(COMMANDS)


HEAVY = ["re", "typing", "enum", "dataclasses", "json", "collections", "functools", "socket",
         "subprocess", "pathlib", "tempfile", "logging", "email", "datetime", "random", "asyncio",
         "contextlib", "yaml", "site"]  # fmt: skip


def test_a_plain_submission_imports_nothing_heavy(tmp_path: Path) -> None:
    config = write_site(tmp_path)
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent.parent)!r})\n"
        "import mta.config.snapshot, mta.submit\n"
        "mta.config.snapshot.MARGIN = -10**12\n"  # count although the files are new
        "mta.submit.leave = lambda status: print(status, *sys.modules)\n"
        "mta.submit.main()\n"
    )
    load_config(str(config))
    done = subprocess.run(
        [sys.executable, "-ISc", program, "alice"],
        input=b"Subject: x\n\n", env={"MTA_CONFIG": str(config)}, capture_output=True, check=True,
    )  # fmt: skip
    status, *modules = done.stdout.decode().split()
    assert status == "0"
    assert not set(modules) & set(HEAVY)
    assert one(tmp_path)
