import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mta.config import load
from mta.config.load import config_path
from mta.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def homes(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "SYSTEM_PATH", str(tmp_path / "system.yaml"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home/.config/mta").mkdir(parents=True)
    return tmp_path


def test_the_option_comes_before_the_environment(homes):
    assert config_path("/a", {"MTA_CONFIG": "/b"}, 0) == "/a"
    assert config_path(None, {"MTA_CONFIG": "/b"}, 0) == "/b"
    assert config_path("a/../b", {}, 0) == os.path.abspath("b")


@pytest.mark.parametrize("euid", [0, 1000])
def test_then_comes_the_users_own_file_then_the_systems(homes, euid):
    own, system = homes / "home/.config/mta/mta.yaml", homes / "system.yaml"
    assert config_path(None, {}, euid) == str(own if euid else system)
    system.write_text("")
    assert config_path(None, {}, euid) == str(system)
    own.write_text("")
    assert config_path(None, {}, euid) == str(own)
    assert config_path(None, {"XDG_CONFIG_HOME": str(homes)}, euid) == str(system)


def test_a_missing_file_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match=r"mta\.yaml: No such file or directory"):
        load.load_config(str(tmp_path / "mta.yaml"))


HEAVY = (
    "yaml",
    "re",
    "typing",
    "dataclasses",
    "enum",
    "json",
    "collections",
    "functools",
    "socket",
    "pathlib",
    "contextlib",
)
PROGRAM = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from mta.config.load import load_config
print(load_config(sys.argv[1]).hostname)
print(*sorted(set({HEAVY!r}).intersection(sys.modules)))
"""


def test_the_snapshot_spares_the_start_all_that_is_heavy(tmp_path):
    """Two runs: the first parses, and the second, at rest for a second, need not."""
    shutil.copytree(ROOT / "etc", tmp_path / "etc")
    path = tmp_path / "etc/mta.yaml"
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, str(path)]
    load.load_config(str(path))
    snapshot = tmp_path / "etc/.mta.yaml.snapshot"
    later = snapshot.stat().st_mtime + 3600
    os.utime(snapshot, (later, later))
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout == "mx.example.test\n\n"
