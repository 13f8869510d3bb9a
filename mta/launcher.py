"""Start-up: makes the installed commands that programs call thousands of times start fast.

What pip installs costs ``site``, the finder of an editable install and ``re``
before the first line of ours.  ``python -m mta.launcher BIN`` writes ``submit``, and
``sendmail`` with its other names, in the directory BIN anew: the interpreter runs
with -I -S (nothing from the environment, no site-packages), finds the package where
it lies, and the site-packages behind it for what is imported late.

Run it after each installation; the commands that pip made work without it, only slower.
"""

from __future__ import annotations

import os
import sys

from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMMANDS", "install", "script"]

COMMANDS = {
    "submit": ("mta.submit", "main"),
    "sendmail": ("mta.sendmail", "main"),
    "newaliases": ("mta.sendmail", "newaliases"),
    "mailq": ("mta.sendmail", "mailq"),
    "runq": ("mta.sendmail", "runq"),
    "hoststat": ("mta.hoststat", "hoststat"),
    "purgestat": ("mta.hoststat", "purgestat"),
}
MAX_SHEBANG = 120  # octets; older kernels cut the line at 127


def interpreter_line(python: str) -> str:
    """Return the first lines of a script that ``python -IS`` runs.

    A path that is too long for the kernel, or has a space in it, goes through
    /bin/sh, to which the rest of the script is a string nobody reads.
    """
    if len(python.encode()) <= MAX_SHEBANG - len("#! -IS") and not set(python) & set(" \t\n"):
        return f"#!{python} -IS\n"
    quoted = "'\\''".join(python.split("'"))
    return f"#!/bin/sh\n'''exec' '{quoted}' -IS \"$0\" \"$@\"\n' '''\n"


def script(python: str, root: str, libraries: Sequence[str], module: str, function: str) -> str:
    """Return the text of one command.

    ``root`` holds the package ``mta``; it comes first so that finding our
    modules does not begin with the standard library's directory.
    """
    return (
        f"{interpreter_line(python)}"
        "import sys\n"
        f"sys.path.insert(0, {root!r})\n"
        f"sys.path += {list(libraries)!r}\n"
        f"from {module} import {function}\n"
        f"{function}()\n"
    )


def install(folder: str) -> list[str]:
    """Write the commands into ``folder``, each replaced in one step; return their paths."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    made = []
    for name, (module, function) in COMMANDS.items():
        path = os.path.join(folder, name)
        draft = f"{path}.{os.getpid()}"
        with open(draft, "x", encoding="utf-8") as file:
            file.write(script(sys.executable, root, _libraries(root), module, function))
        os.chmod(draft, 0o755)
        os.rename(draft, path)
        made.append(path)
    return made


def _libraries(root: str) -> list[str]:
    """Return where third-party packages lie, without ``root`` itself."""
    import sysconfig

    paths = sysconfig.get_paths()
    return [p for p in dict.fromkeys((paths["purelib"], paths["platlib"])) if p != root]


def compile_package() -> bool:
    """Compile the package, for callers who may not write beside it."""
    import compileall

    return bool(compileall.compile_dir(os.path.dirname(os.path.abspath(__file__)), quiet=1))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m mta.launcher BIN_DIR")
    compile_package()
    for command in install(sys.argv[1]):
        sys.stdout.write(f"{command}\n")
