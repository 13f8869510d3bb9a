"""Which mta.yaml, and its contents: from the snapshot when that is current, else parsed.

Every command begins here.  The usual start costs a few stats and one read;
PyYAML and the schema are imported only after an edit.

Source   mta.yaml(5), FILES.
"""

from __future__ import annotations

import os

from mta.config import snapshot
from mta.errors import UsageError
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mta.config.model import Config

__all__ = ["SYSTEM_PATH", "config_path", "load_config"]

SYSTEM_PATH = "/etc/mta/mta.yaml"


def config_path(path: str | None, environ: Mapping[str, str], euid: int) -> str:
    """Return the configuration file to use, as an absolute path.

    ``path`` is the --config option; then come $MTA_CONFIG, the user's own file
    if it exists, and the system's if it exists.  Where there is neither, it is
    the one that ``euid`` should make.  UsageError if ``path`` is "": the next one that
    would be found is another installation than was meant.
    """
    if path == "":
        raise UsageError("--config needs a file")
    chosen = path or environ.get("MTA_CONFIG")
    if chosen:
        return os.path.abspath(chosen)
    home = environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    own = os.path.abspath(os.path.join(home, "mta", "mta.yaml"))
    for existing in (own, SYSTEM_PATH):
        if os.path.exists(existing):
            return existing
    return SYSTEM_PATH if euid == 0 else own


def load_config(path: str | None = None) -> Config:
    """Return the configuration; ConfigError with one ``file:line:column: …`` line for each error.

    Writes the snapshot when it had to parse and the folder lets it.
    """
    path = config_path(path, os.environ, os.geteuid())
    config = snapshot.read(path)
    if config is None:
        from mta.config.build import build

        config, signed = build(path)
        snapshot.write(config, signed)
    return config
