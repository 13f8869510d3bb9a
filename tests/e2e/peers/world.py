"""A private view of this machine, in which Debian's programs run as if they were installed.

``unshare`` gives the program its own mounts and processes: below it, build/tools/usr lies
over /usr, the peer's own ``etc`` over /etc (with the accounts that its package would have
made), /var and /run are empty, and the peer's folder is /srv.  All of it, and every process
started in it, goes with the first process.  The network is the machine's own.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e.house import TOOLS, answers, refused_port, wait

__all__ = ["Peer", "need"]

# Words: the tree of tools, the peer's folder, then the command.
PRELUDE = """\
set -e
tools=$1 root=$2
shift 2
mount --make-rprivate /
cd "$root"
if [ -d "$tools/usr" ]; then
  mount -t overlay overlay -o "lowerdir=$tools/usr:/usr" /usr
  [ ! -d "$tools/lib" ] || mount -t overlay overlay -o "lowerdir=$tools/lib:/usr/lib" /usr/lib
fi
mount -t overlay overlay -o "lowerdir=$root/etc:/etc" /etc
mount -t tmpfs -o mode=755 tmpfs /var
mkdir -p /var/lib /var/spool /var/log /var/mail /var/tmp
chmod 1777 /var/tmp
mount -t tmpfs -o mode=755 tmpfs /run
ln -s /run /var/run
mount --bind "$root" /srv
cd /srv
"$@" &
wait $!
"""
UNSHARE = (
    "setpriv",
    "--pdeathsig",
    "KILL",
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "--mount-proc",
    "--kill-child=KILL",
)


@functools.cache
def _trouble() -> str:
    """Say why this machine gives no private view; "" if it does."""
    if os.geteuid() != 0:
        return "a private view of the machine needs root"
    if (
        shutil.which("unshare") is None
        or shutil.which("setpriv") is None
        or shutil.which("mount") is None
    ):
        return "unshare and mount are needed (Debian: util-linux, mount)"
    script = "mount --make-rprivate / && mount -t overlay o -o lowerdir=/usr/lib:/usr/bin /usr/lib"
    ran = subprocess.run(
        [*UNSHARE, "/bin/sh", "-c", script], capture_output=True, text=True, check=False
    )
    return f"no private mounts here: {ran.stderr.strip()}" if ran.returncode else ""


def need(package: str, path: str) -> None:
    """Skip the test unless ``path`` (usr/…) is unpacked or installed, and can be run apart."""
    if not (TOOLS / path).exists() and not Path("/", path).exists():
        pytest.skip(f"{path} is not here (Debian: {package})")
    if _trouble():
        pytest.skip(_trouble())


class Peer:
    """One foreign program, or a family of them, with a folder and accounts of its own."""

    PACKAGE = ""
    PROGRAM = ""  # usr/…
    ACCOUNTS: Sequence[str] = ()  # users, each with a group of its name
    GROUPS: Sequence[str] = ()

    def __init__(self, root: Path) -> None:
        need(self.PACKAGE, self.PROGRAM)
        root.mkdir(parents=True, exist_ok=True)
        root.chmod(0o755)
        self.root = root
        self.etc = root / "etc"
        self.etc.mkdir()
        self.ids: dict[str, int] = {}
        self._accounts()
        self.process: subprocess.Popen[bytes] | None = None
        self.port = refused_port()

    def _accounts(self) -> None:
        users = Path("/etc/passwd").read_text(encoding="utf-8").split("\n")
        groups = Path("/etc/group").read_text(encoding="utf-8").split("\n")
        mine = {*self.ACCOUNTS, *self.GROUPS}
        users = [row for row in users if row and row.split(":")[0] not in mine]
        groups = [row for row in groups if row and row.split(":")[0] not in mine]
        for number, name in enumerate([*self.ACCOUNTS, *self.GROUPS], 60_000):
            self.ids[name] = number
            groups.append(f"{name}:x:{number}:")
            if name in self.ACCOUNTS:
                users.append(f"{name}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin")
        self.put("passwd", "\n".join(users) + "\n")
        self.put("group", "\n".join(groups) + "\n")

    def put(self, name: str, text: str) -> Path:
        """Write a file below the peer's /etc; return its path out here."""
        path = self.etc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def folder(self, name: str, owner: str = "root", mode: int = 0o755, group: str = "") -> Path:
        """Make a folder of the peer's, /srv/NAME in there; return its path out here."""
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        os.chown(path, self.ids.get(owner, 0), self.ids.get(group or owner, 0))
        path.chmod(mode)
        return path

    def command(self, *words: str) -> list[str]:
        """Return the command line that runs ``words`` in the private view."""
        return [*UNSHARE, "/bin/sh", "-c", PRELUDE, "sh", str(TOOLS), str(self.root), *words]

    def run(self, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
        """Run a command in a private view of its own, to its end."""
        ran = subprocess.run(
            self.command(*words), capture_output=True, text=True, check=False, timeout=60
        )
        assert ran.returncode == 0, (words, ran.returncode, ran.stdout, ran.stderr)
        return ran

    def launch(self, *words: str) -> None:
        """Start ``words`` in the private view and wait until ``port`` answers."""
        with open(self.root / "output", "ab") as output:
            self.process = subprocess.Popen(
                self.command(*words), stdout=output, stderr=output, stdin=subprocess.DEVNULL
            )
        try:
            wait(self._up)
        except AssertionError:
            self.stop()
            raise AssertionError(f"{words[0]} does not start:\n{self.log()}") from None

    def _up(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"ended with {self.process.returncode}")
        return self.ready()

    def ready(self) -> bool:
        return answers(self.port)

    def log(self) -> str:
        """Return what the programs said: their output, and the file /srv/log/*."""
        paths = [self.root / "output", *sorted(self.root.glob("log/*"))]
        return "\n".join(p.read_text(errors="replace") for p in paths if p.is_file())

    def mail(self, user: str) -> list[bytes]:
        """Return the messages in the Maildir mail/USER."""
        paths = [p for sub in ("new", "cur") for p in (self.root / "mail" / user / sub).glob("*")]
        return [path.read_bytes() for path in sorted(paths)]

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
