"""The password file: who may log in, read again when it changes.

A line that cannot be used locks out its own user and nobody else; it is named.
A file that cannot be used as a whole lets nobody in until it can.

Source   passwords(5).  ``user:hash`` as htpasswd, Dovecot's passwd-file and the
         shadow file have it; what follows a second colon is theirs.
Units    OFTEN seconds on the monotonic clock that is given.
State    The users of the last good reading, and the file's marks then.

Invariants, each a property in tests/machine/test_passwordfile.py
    E1   A file that everybody can read or write is never used.
    E2   Whatever a file holds, its good lines count, and each other one is named
         by its number, without what it says.
    E3   The file is looked at at most once in OFTEN seconds, read only if it changed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable

from mta.errors import ConfigError
from mta.machine import passwords
from mta.machine.passwords import CLEAR_TEXT, SCRAM, Hash
from mta.smtp import saslprep
from mta.types import Reply
from mta.values import frozen

__all__ = ["PasswordFile", "User", "Users", "fold", "parse", "read", "split_line"]

OFTEN = 1.0
FILE_MAX = 32 << 20
FAULTS_MAX = 20  # of one reading that are told one by one


@frozen
class User:
    """One user; ``name`` as the file spells it."""

    name: str
    hashed: Hash

    @property
    def scram(self) -> bool:
        """True if this user can log in with SCRAM."""
        return self.hashed.kind in (SCRAM, CLEAR_TEXT)


class Users:
    """What a file says: its users by their folded names, and what in it is wrong."""

    def __init__(self, users: dict[str, User], faults: tuple[str, ...] = ()) -> None:
        self.faults = faults
        self._users = users
        self._all = tuple(users.values())
        self._scram = tuple([user for user in self._all if user.scram])

    def __len__(self) -> int:
        return len(self._all)

    @property
    def scram(self) -> bool:
        """True if anybody can log in with SCRAM."""
        return bool(self._scram)

    def find(self, name: str) -> User | None:
        """Return the user ``name``, in whatever case."""
        return self._users.get(fold(name))

    def stand_in(self, number: int, *, scram: bool) -> User | None:
        """Return some user for a name that is not here, the same for the same ``number``.

        What is done for it costs what it costs for that user, so that nobody learns
        from the time an answer takes which names exist.
        """
        among = self._scram if scram else self._all
        return among[number % len(among)] if among else None


def fold(name: str) -> str:
    """Return ``name`` as it is compared: telephones begin names with a capital."""
    return name.lower()


def split_line(line: str) -> tuple[str, str, str]:
    """Return name, hash and the rest from the second colon on, which others wrote."""
    name, _, text = line.partition(":")
    if text[:7].upper() == "{PLAIN}":
        return name, text, ""  # a clear password may hold a colon
    hashed, colon, rest = text.partition(":")
    return name, hashed, colon + rest


def parse(octets: bytes, path: str) -> Users:
    """Return what a password file says; ``path`` is for its faults."""
    users: dict[str, User] = {}
    faults: list[str] = []
    for number, line in enumerate(octets.replace(b"\r\n", b"\n").split(b"\n"), 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        try:
            user = _user(line)
            if fold(user.name) in users:
                raise ValueError("the user was named before; the first line counts")
            users[fold(user.name)] = user
        except ValueError as error:
            if len(faults) < FAULTS_MAX:
                faults.append(f"{path}:{number}: {Reply.clean(str(error))}")
    return Users(users, tuple(faults))


def _user(line: bytes) -> User:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    if ":" not in text:
        raise ValueError("not user:hash")
    name, hashed, _ = split_line(text)
    if name != name.strip():
        raise ValueError("a blank around the user's name")
    clear = hashed[:7].upper() == "{PLAIN}"
    return User(
        saslprep.user_name(name.encode()), passwords.parse(hashed if clear else hashed.rstrip(" "))
    )


def read(path: str) -> Users:
    """Return what the file ``path`` says; ConfigError if it cannot be used as a whole."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with contextlib.closing(os.fdopen(fd, "rb")) as file:
            _check(os.fstat(fd), path)
            octets = file.read(FILE_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    if len(octets) > FILE_MAX:
        raise ConfigError(f"{path}: longer than {FILE_MAX} octets")
    return parse(octets, path)


def _check(found: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(f"{path}: not a regular file")
    if found.st_mode & stat.S_IRWXO:
        mode = stat.S_IMODE(found.st_mode)
        raise ConfigError(
            f"{path}: a password file must be closed to others (mode {mode:04o}): chmod o= it"
        )


Marks = tuple[int, int, int, int] | None


class PasswordFile:
    """The users of one file, as they are now."""

    def __init__(self, path: str, warn: Callable[[str], None], clock: Callable[[], float]) -> None:
        """Say through ``warn`` what is wrong with a reading, once."""
        self.users = Users({})
        self.trouble = "never read"  # why nobody can log in; "" if they can
        self._path = path
        self._warn = warn
        self._clock = clock
        self._marks: Marks = None
        self._due = -OFTEN

    def load(self) -> None:
        """Read the file for the first time; ConfigError if it cannot be used."""
        self._marks, self._due = self._look(), self._clock() + OFTEN
        self.users, self.trouble = read(self._path), ""
        self._tell()

    def refresh(self) -> None:
        """Read the file again if it changed; if it cannot be used, ``trouble`` says why."""
        now = self._clock()
        if now < self._due:
            return
        self._due = now + OFTEN
        marks = self._look()
        if marks is not None and marks == self._marks:
            return
        self._marks = marks
        try:
            self.users, self.trouble = read(self._path), ""
        except ConfigError as error:
            if self.trouble != str(error):
                self._warn(str(error))
            self.trouble = str(error)
        else:
            self._tell()

    def _look(self) -> Marks:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def _tell(self) -> None:
        for fault in self.users.faults:
            self._warn(fault)
