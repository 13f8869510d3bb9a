"""The ``~/.forward`` file of a user: may we trust it, and what does it say.

Source   forward(5) of sendmail; the checks of owner and modes are its
         "safe file" rules.
Units    At most FORWARD_LIMIT octets and TARGET_LIMIT targets.

Invariants, each a property in tests/machine/test_forward.py
    F1   A file that another user could have written is never obeyed.
    F2   Any text gives targets, or a ForwardError with a reason; nothing else.
"""

from __future__ import annotations

import contextlib
import os
import stat

from mta.errors import PosthouseError

__all__ = ["ForwardError", "parse_forward", "read_forward"]

FORWARD_LIMIT = 65536
TARGET_LIMIT = 200


class ForwardError(PosthouseError):
    """The forward file cannot be obeyed; the message says why.  The mail waits."""


def read_forward(home: str, uid: int) -> tuple[str, ...]:
    """Return the targets of ``home``/.forward of user ``uid``; () if there is none.

    Raises ForwardError if home or file could be written by others, or if the
    file says nothing we can do; OSError if it cannot be read.
    """
    path = os.path.join(home, ".forward")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return ()
    with contextlib.closing(os.fdopen(fd, "rb")) as file:
        _check(os.stat(home), uid, home)
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise ForwardError(f"{path} is not a regular file with one name")
        _check(found, uid, path)
        octets = file.read(FORWARD_LIMIT + 1)
    if len(octets) > FORWARD_LIMIT:
        raise ForwardError(f"{path} is longer than {FORWARD_LIMIT} octets")
    try:
        return parse_forward(octets.decode())
    except UnicodeDecodeError:
        raise ForwardError(f"{path} is not UTF-8") from None
    except ForwardError as error:
        raise ForwardError(f"{path}: {error}") from None


def _check(found: os.stat_result, uid: int, path: str) -> None:
    if found.st_uid not in (uid, 0):
        raise ForwardError(f"{path} belongs to neither its user nor root")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ForwardError(f"{path} can be written by others than its user")


def parse_forward(text: str) -> tuple[str, ...]:
    r"""Return the targets: addresses, "|program", "/file", "\user"; () if it is empty.

    A line holds targets separated by commas; "#" begins a line of comment;
    double quotes hold commas and spaces together.
    """
    targets: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.lstrip(" \t").startswith("#"):
            continue
        try:
            targets += [target for target in _split(line.rstrip("\r")) if target]
        except ValueError as error:
            raise ForwardError(f"line {number}: {error}") from None
    if len(targets) > TARGET_LIMIT:
        raise ForwardError(f"more than {TARGET_LIMIT} targets")
    return tuple(targets)


def _split(line: str) -> list[str]:
    """Return the targets of one line, unquoted where the whole target is quoted."""
    targets, current, inside, escaped = [], "", False, False
    for c in line + ",":
        if escaped or (c == "\\" and inside):
            current, escaped = current + c, not escaped
        elif c == "," and not inside:
            targets.append(_target(current.strip(" \t")))
            current = ""
        else:
            inside = inside != (c == '"')
            current += c
    if inside:
        raise ValueError("a quote does not end")
    return targets


def _target(text: str) -> str:
    if text[:1] == '"' and text[-1:] == '"' and len(text) > 1 and text[1] in "|/\\":
        text = text[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if text.startswith(":"):
        raise ValueError(f"{text.split(':')[1]!r} cannot be used in a forward file")
    if text and not text.isprintable():
        raise ValueError("a control character in a target")
    if text in ("|", "/", "\\"):
        raise ValueError(f"nothing after {text!r}")
    return text
