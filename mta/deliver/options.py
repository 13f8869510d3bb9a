"""What each channel program is told in its hello: the channel's options, and how it is started.

Source   channel(7), "Options".  A program of ours is ``python -m mta.channels.NAME``;
         an absolute path is any executable, run without arguments.
"""

from __future__ import annotations

import os
import sys

from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from mta.config.model import Channel, Config

__all__ = ["command", "options"]


def command(channel: Channel) -> list[str]:
    """Return the argument vector that starts the program of ``channel``."""
    if channel.program.startswith("/"):
        return [channel.program]
    # -P: a directory called mta where deliver happens to stand is not ours.
    return [sys.executable, "-P", "-m", f"mta.channels.{channel.program}"]


def options(config: Config, channel: Channel) -> tuple[tuple[str, str], ...]:
    """Return the options of ``channel``, in order; a list repeats its name."""
    told = _TOLD.get(channel.program)
    return (*(told(config, channel) if told is not None else ()), *channel.options)


def _smtp(config: Config, channel: Channel) -> list[tuple[str, str]]:
    own = [("own_address", address) for address in _taking(config, channel.port)]
    return [*_outward(config, channel), ("mta_sts", channel.mta_sts), *own]


def _outward(config: Config, channel: Channel) -> list[tuple[str, str]]:
    """Return what smtp and lmtp have in common; what is not set is not told."""
    texts = [("ca", channel.ca), ("credentials", channel.credentials)]
    return [
        ("addresses", "yes"),  # we heed what it tells of them, and tell what others found out
        ("port", str(channel.port)),
        ("per_host", str(channel.per_host)),
        *[("relay", relay) for relay in channel.relay],
        *[("nameserver", address) for address in config.nameservers],
        ("trust_ad", config.trust_ad),
        ("tls", channel.tls),
        *[(name, text) for name, text in texts if text],
        *[("source", address) for address in channel.source],
    ]


def _taking(config: Config, port: int) -> list[str]:
    """Return the addresses where we take mail at ``port``: an MX there is ourselves."""
    places = [listener.address.rpartition(":") for listener in config.listen]
    addresses = [host.strip("[]") for host, _, number in places if number == str(port)]
    return [address for address in addresses if address not in ("0.0.0.0", "::")]


def _local(config: Config, channel: Channel) -> list[tuple[str, str]]:
    local = config.local
    return [
        ("mailbox_kind", local.mailbox_kind),
        ("mailbox", local.mailbox),
        *[("users", user) for user in (("system",) if local.users is None else local.users)],
        *_timeout(channel),
        *_submit(config),
    ]


def _pipe(_config: Config, channel: Channel) -> list[tuple[str, str]]:
    return [*[("command", word) for word in channel.command], *_timeout(channel)]


def _list(config: Config, channel: Channel) -> list[tuple[str, str]]:
    told = [("members", channel.members), ("owner", channel.owner)]
    return [*told, *_timeout(channel), *_submit(config)]


_TOLD = {"smtp": _smtp, "lmtp": _outward, "local": _local, "pipe": _pipe, "list": _list}


def _timeout(channel: Channel) -> list[tuple[str, str]]:
    return [("timeout", f"{channel.timeout:g}")] if channel.timeout > 0 else []


def _submit(config: Config) -> list[tuple[str, str]]:
    """Return the words of the command that submits a message under this configuration."""
    beside = os.path.join(os.path.dirname(sys.executable), "submit")
    return [("submit", word) for word in (beside, "--config", config.path)]
