"""Whose a thing is that root makes: the owner's of the directory that it lies in.

smtpd leaves root behind and deliver does not, and both use one runtime directory, one
log, one spool: what root makes there must be usable by the other.

Invariants, each a property in tests/machine/test_ownership.py
    OW1  Nothing changes for who is not root, or where root owns the directory.
"""

from __future__ import annotations

import os

__all__ = ["give", "make_directory"]


def give(path: str) -> None:
    """As root, give ``path`` to the owner of the directory it lies in."""
    if os.geteuid() != 0:
        return
    owner = os.stat(os.path.dirname(path) or ".")
    if owner.st_uid != 0:
        try:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
        except OSError:
            pass  # it has gone meanwhile, or this file system has no owners


def make_directory(path: str) -> None:
    """Make a directory for ourselves, and those above it; no error if it is there."""
    if not os.path.isdir(path):
        os.makedirs(path, mode=0o700, exist_ok=True)
        give(path)
