"""mta password: a line for the password file, printed or put there.

The password is asked for twice on a terminal, else read as one line of standard
input; it is never an argument, which every user of the machine could see.

Source   passwords(5).
State    With --file the file is replaced as a whole: a new one is written beside
         it, synced, and renamed over it, under a lock on the directory.

Invariants, each a property in tests/test_password.py
    Z1   Only the user's own line changes; a new user's is added at the end.
    Z2   Others can never read what is written, whatever the umask and the old mode.
    Z3   Cut off at any point, the file is the old one or the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

from mta.errors import EX_OK, UsageError
from mta.machine import passwordfile, passwords
from mta.smtp import saslprep
from mta.words import printable

__all__ = ["SCHEMES", "run"]

SCHEMES = passwords.SCHEMES  # the first is the default


def run(
    user: str,
    scheme: str = SCHEMES[0],
    file: str = "",
    *,
    stdin: TextIO | None = None,
    ask: Callable[[str], str] = getpass.getpass,
    say: Callable[[str], object] = print,
) -> int:
    """Print the line of ``user`` with a new hash, or put it into ``file``.

    Raises UsageError for a user, scheme or password that cannot be used, OSError
    for a file that cannot be replaced.
    """
    name = _user(user)
    if scheme not in SCHEMES:
        raise UsageError(f"no scheme {scheme!r}; there are {', '.join(SCHEMES)}")
    try:
        hashed = passwords.make(scheme, _password(sys.stdin if stdin is None else stdin, ask))
    except ValueError as error:
        raise UsageError(f"this password cannot be used: {error}") from None
    if file:
        replace(file, name, hashed)
        say(f"{name}: new password in {printable(file)}")
    else:
        say(f"{name}:{hashed}")
    return EX_OK


def _user(user: str) -> str:
    try:
        name = saslprep.user_name(user.encode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise UsageError(f"not a user's name: {error}") from None
    if ":" in name or name.startswith("#") or name != name.strip():
        raise UsageError("a user's name holds no colon, begins with no # and ends with no blank")
    return name


def _password(stdin: TextIO, ask: Callable[[str], str]) -> str:
    if not stdin.isatty():
        return stdin.readline(2 * saslprep.PASSWORD_MAX).removesuffix("\n").removesuffix("\r")
    password = ask("New password: ")
    if password != ask("The same again: "):
        raise UsageError("the two are not the same; nothing is changed")
    return password


def replace(file: str, name: str, hashed: str) -> None:
    """Make ``hashed`` the password of ``name`` in ``file``, which is made if it is missing."""
    path = os.path.realpath(file)  # a link stays, and what it leads to is replaced
    with _locked(os.path.dirname(path)) as directory:
        old, owner, mode = _read(path)
        octets = b"\n".join(_changed(old.split(b"\n"), name, hashed))
        _write(path, octets, owner, mode)
        os.fsync(directory)


def _changed(lines: list[bytes], name: str, hashed: str) -> Iterator[bytes]:
    """Yield ``lines`` with the first one about ``name`` replaced, or one more at the end."""
    wanted, done = passwordfile.fold(name), False
    while lines and not lines[-1].strip():
        lines.pop()
    for line in lines:
        text = line.decode("utf-8", "surrogateescape")
        found, _, rest = passwordfile.split_line(text)
        if done or text.startswith("#") or not _is(found, wanted):
            yield line
        else:
            done = True
            yield f"{found}:{hashed}{rest}".encode("utf-8", "surrogateescape")
    if not done:
        yield f"{name}:{hashed}".encode()
    yield b""


def _is(found: str, wanted: str) -> bool:
    try:
        name = saslprep.user_name(found.encode("utf-8", "surrogateescape"))
    except ValueError:
        return False
    return passwordfile.fold(name) == wanted


@contextlib.contextmanager
def _locked(directory: str) -> Iterator[int]:
    """Hold ``directory`` for one writer at a time; gives its descriptor."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def _read(path: str) -> tuple[bytes, tuple[int, int] | None, int]:
    """Return octets, owner and mode of a file; of none, nothing and 0600."""
    try:
        with open(path, "rb") as old:
            found = os.fstat(old.fileno())
            return old.read(), (found.st_uid, found.st_gid), found.st_mode & 0o640
    except FileNotFoundError:
        return b"", None, 0o600


def _write(path: str, octets: bytes, owner: tuple[int, int] | None, mode: int) -> None:
    """Put ``octets`` in the place of ``path``, for the same owner, synced."""
    new = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)  # left by one that was killed: we hold the lock
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(octets)
            file.flush()
            if owner is not None and owner != (os.geteuid(), os.getegid()):
                os.fchown(fd, *owner)  # smtpd reads it, perhaps as another user
            os.fchmod(fd, mode)
            os.fsync(fd)
        os.rename(new, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise
