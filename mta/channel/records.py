"""Records of the channel protocol: what deliver and a channel program say to each other.

One record is one line of words, so that a channel program can be written in any
language and its conversation read by a person: see channel(7).

Source   man/channel.7.  Line and word limits are of the protocol, not of a peer.
Units    As in mta.channel.said, whose values these lines carry.

Invariants, each a property in tests/channel/test_records.py
    R1   Every record read back from its encoding is the record that was encoded.
    R2   An encoded record is exactly one line, with no octet below 0x20 but its end.
    R3   A line that is no record raises RemoteProtocolError, never anything else.
"""

from __future__ import annotations

import re

from mta.channel.said import (
    ALL,
    EACH,
    FD,
    INLINE,
    AddressFact,
    Answer,
    Avoid,
    Dispatch,
    Done,
    Opening,
    Part,
    Quit,
    TlsFact,
    Told,
)
from mta.errors import LocalProtocolError, RemoteProtocolError
from mta.types import NULL_PATH, Mailbox, Outcome, Recipient, Reply, ReversePath
from mta.values import replace
from mta.words import quote, unquote

__all__ = [
    "ALL",
    "EACH",
    "FD",
    "INLINE",
    "LINE_LIMIT",
    "RECIPIENT_LIMIT",
    "VERSION",
    "AddressFact",
    "Answer",
    "Avoid",
    "Dispatch",
    "Done",
    "Opening",
    "Part",
    "Quit",
    "TlsFact",
    "Told",
    "decode_mailbox",
    "decode_words",
    "encode_address",
    "encode_answer",
    "encode_avoid",
    "encode_dispatch",
    "encode_done",
    "encode_opening",
    "encode_outcome",
    "encode_passed",
    "encode_tls",
    "parse",
    "read_address",
    "read_avoid",
    "read_job",
    "read_outcome",
    "read_recipient",
    "read_tls",
    "with_param",
]

VERSION = 1
LINE_LIMIT = 8192  # octets of one line, its LF included
RECIPIENT_LIMIT = 100_000  # recipients of one job

# word     = 1*( %x21-24 / %x26-7E / %x80-FF / "%" 2HEXDIG ) / "%"    ; "%" alone: the empty word
# line     = word *( SP word ) LF                                     ; UTF-8
# The TEXT of an outcome is the rest of its line and may hold spaces as they are.
_WORD = rb"([^ ]{1,8192})"
_NUMBER = rb"([0-9]{1,15})"
_REPLY = (
    rb"(?P<code>(?P<class>[24])[0-9]{2}) (?P<status>(?P=class)\.[0-9]{1,3}\.[0-9]{1,3})"
    rb" (?P<text>.*)"
)
_PATTERNS: dict[bytes, re.Pattern[bytes]] = {
    word: re.compile(pattern)
    for word, pattern in {
        b"option": rb"option " + _WORD + b" " + _WORD,
        b"go": rb"go",
        b"job": rb" ".join(
            [
                b"job",
                _NUMBER,
                _WORD,
                _WORD,
                _NUMBER,
                rb"([0-9]{1,16}(?:\.[0-9]{1,17})?(?:e[-+][0-9]{1,3})?)",
                _WORD,
                _WORD,
                rb"(-|[a-z0-9]+(?:,[a-z0-9]+)*)",
            ]
        ),
        b"rcpt": rb" ".join([b"rcpt", _NUMBER, _NUMBER, _WORD, _WORD, _WORD]),
        b"param": rb"param " + _NUMBER + rb" ([0-9]{1,15}|\*) ([a-z0-9_]{1,64}) " + _WORD,
        b"send": rb"send " + _NUMBER,
        b"body": rb"body " + _NUMBER + b" " + _NUMBER,
        b"quit": rb"quit",
        b"outcome": rb"outcome "
        + _NUMBER
        + rb" ([0-9]{1,15}|\*) (?P<code>(?P<class>[245])[0-9]{2})"
        rb" (?P<status>(?P=class)\.[0-9]{1,3}\.[0-9]{1,3})"
        rb" (?P<scope>recipient|message|host|channel) (?P<relay>[^ ]+) (?P<text>.*)",
        b"passed": rb"passed " + _NUMBER + rb" ([0-9]{1,15}|\*)",
        b"tls": rb"tls" + (b" " + _WORD) * 6 + rb"(?: ([a-z]{1,20}))?",
        b"address": rb"address (\[[^ \]]{1,100}\]:[0-9]{1,5}) " + _REPLY,
        b"avoid": rb"avoid " + _WORD + b" " + _NUMBER + b" " + _REPLY,
        b"done": rb"done " + _NUMBER,
    }.items()
}
_HELLOS = {
    "hello": re.compile(rb"hello ([0-9]{1,9}) " + _WORD + b" " + _WORD + b" " + _WORD),
    "answer": re.compile(
        rb"hello ([0-9]{1,9}) (each|all) ([1-9][0-9]{0,5}) (fd|inline)( params)?( addresses)?"
    ),
}

_CONTROL = bytes(range(0x20)) + b"\x7f"
_TEXT_ESCAPES = {c: f"%{c:02X}" for c in (*range(0x20), 0x25, 0x7F)}
_TEXT_SPECIAL = re.compile("[\x00-\x1f%\x7f]")
_PLAIN_LOCAL = re.compile(r"[a-zA-Z0-9_+=-]+(?:\.[a-zA-Z0-9_+=-]+)*")
_FLAGS = ("8bitmime", "smtputf8", "requiretls", "binarymime")


def _text(text: str) -> str:
    return (text if _TEXT_SPECIAL.search(text) is None else text.translate(_TEXT_ESCAPES)) or "%"


def _word(text: str) -> str:
    """Return ``text`` as one word; LocalProtocolError if UTF-8 cannot carry it."""
    try:
        return quote(text)
    except UnicodeEncodeError:
        raise LocalProtocolError("a word of the channel protocol cannot be UTF-8") from None


def _unword(octets: bytes) -> str:
    """Return the text of a word; RemoteProtocolError if it is not one."""
    try:
        return unquote(octets.decode())
    except ValueError as error:
        raise RemoteProtocolError(str(error)) from None


def _mailbox(mailbox: ReversePath | None) -> str:
    """Return a mailbox as a word; what str() gives, quicker where nothing needs quoting."""
    if type(mailbox) is not Mailbox:
        return "%"
    if _PLAIN_LOCAL.fullmatch(mailbox.local) is None:
        return _word(str(mailbox))
    return _word(f"{mailbox.local}@{mailbox.domain}")


def decode_mailbox(text: str) -> Mailbox:
    """Return the Mailbox whose ``str()`` is ``text``; RemoteProtocolError if none is."""
    local, at, domain = text.rpartition("@")
    if not at:
        raise RemoteProtocolError("an address has no @")
    if local[:1] == '"':
        if len(local) < 2 or local[-1] != '"':
            raise RemoteProtocolError("a quoted local part does not end")
        local = re.sub(r"\\(.)", r"\1", local[1:-1], flags=re.DOTALL)
    return Mailbox(local, domain)


def _line(text: str) -> bytes:
    """Return ``text`` as a line; LocalProtocolError if it cannot be one."""
    line = text.encode() + b"\n"
    if len(line) > LINE_LIMIT:
        raise LocalProtocolError(f"a line of {len(line)} octets; a channel program takes 8192")
    return line


def encode_opening(opening: Opening) -> bytes:
    """Return deliver's greeting: hello, the options, go."""
    names = (opening.channel, opening.queue, opening.hostname)
    lines = [_line(f"hello {VERSION} " + " ".join([_word(name) for name in names]))]
    lines += [_line(f"option {_word(name)} {_word(value)}") for name, value in opening.options]
    return b"".join([*lines, b"go\n"])


def encode_answer(answer: Answer) -> bytes:
    """Return the program's greeting."""
    more = (" params" if answer.params else "") + (" addresses" if answer.addresses else "")
    return _line(f"hello {VERSION} {answer.settles} {answer.jobs} {answer.body}{more}")


def encode_dispatch(dispatch: Dispatch, body: str = FD) -> bytes:
    """Return the lines of one job, up to where its body (or descriptor) goes."""
    tag = dispatch.tag
    needs = (dispatch.eight_bit, dispatch.smtputf8, dispatch.requiretls, dispatch.binary)
    flags = ",".join([flag for flag, on in zip(_FLAGS, needs, strict=True) if on])
    lines = [
        _line(
            f"job {tag} {_word(dispatch.id)} {_mailbox(dispatch.reverse_path)} {dispatch.size} "
            f"{dispatch.arrived!r} {_word(dispatch.host)} {_word(dispatch.next_hop)} {flags or '-'}"
        )
    ]
    lines += [
        _line(
            f"rcpt {tag} {r.index} {_mailbox(r.mailbox)} {_word(r.action)} {_mailbox(r.original)}"
        )
        for r in dispatch.recipients
    ]
    lines += [
        _line(f"param {tag} {index} {name} {_word(value)}")
        for index, name, value in dispatch.params()
    ]
    lines.append(b"send %d\n" % tag)
    if body == INLINE:
        lines.append(b"body %d %d\n" % (tag, dispatch.size))
    return b"".join(lines)


def encode_passed(tag: int, index: int | None) -> bytes:
    """Return the line that says that the server is told of DSNs for ``index``, or for all."""
    return _line(f"passed {tag} {'*' if index is None else index}")


def encode_tls(fact: TlsFact) -> bytes:
    """Return the line that tells of one connection."""
    named = (fact.domain, fact.host, fact.policy, fact.result, fact.protocol, fact.cipher)
    words = [_word(_clean(text[:255])) for text in named]
    return _line(" ".join(["tls", *words, *((fact.level,) if fact.level else ())]))


def encode_outcome(tag: int, index: int | None, outcome: Outcome, relay: str = "") -> bytes:
    """Return an outcome for recipient ``index``, or for all not yet told if it is None.

    The reply's text is cut and cleaned as it must be, so that no text that a
    program or a peer made can break the line.
    """
    reply = outcome.reply
    return _line(
        f"outcome {tag} {'*' if index is None else index} {reply.code} {reply.status} "
        f"{outcome.scope} {_word(relay[:255])} {_text(_clean(reply.text))}"
    )


def encode_address(fact: AddressFact) -> bytes:
    """Return the line that tells whether anybody answers at an address."""
    return _line(f"address {_word(fact.address)} {_reply(fact.reply)}")


def encode_avoid(avoid: Avoid) -> bytes:
    """Return the line that tells for how long an address or a host is left alone."""
    return _line(f"avoid {_word(avoid.what)} {avoid.seconds} {_reply(avoid.reply)}")


def _reply(reply: Reply) -> str:
    return f"{reply.code} {reply.status} {_text(_clean(reply.text))}"


def encode_done(tag: int) -> bytes:
    """Return the end of a job."""
    return b"done %d\n" % tag


def _clean(text: str) -> str:
    """Return ``text`` as Reply.clean does, which plain short text already is."""
    if len(text) <= 500 and text.isascii() and text.isprintable() and "  " not in text:
        return text.strip(" ")
    return Reply.clean(text.encode("utf-8", "replace").decode())


def parse(line: bytes, hello: str = "hello") -> tuple[str, re.Match[bytes]]:
    """Return the first word of ``line`` (without its LF) and the match of its pattern.

    A hello is deliver's, or the program's if ``hello`` is "answer".  Raises RemoteProtocolError
    for anything that is not a record of this version.
    """
    if len(line) >= LINE_LIMIT:
        raise RemoteProtocolError(f"a line longer than {LINE_LIMIT} octets")
    if len(line.translate(None, _CONTROL)) != len(line):
        raise RemoteProtocolError("a control character in a line")
    first = line.partition(b" ")[0]
    if first == b"hello":
        return hello, _parse_hello(line, _HELLOS[hello])
    pattern = _PATTERNS.get(first)
    if pattern is None:
        shown = Reply.clean(first[:40].decode("utf-8", "replace"))
        raise RemoteProtocolError(f"unknown word {shown!r}")
    match = pattern.fullmatch(line)
    if match is None:
        raise RemoteProtocolError(f"bad words after {first.decode()!r}")
    return first.decode(), match


def _parse_hello(line: bytes, pattern: re.Pattern[bytes]) -> re.Match[bytes]:
    version = line.split(b" ")[1:2]
    if version and version[0].isdigit() and version != [b"%d" % VERSION]:
        shown = version[0][:9].decode()
        raise RemoteProtocolError(f"version {shown}; this side speaks {VERSION}")
    match = pattern.fullmatch(line)
    if match is None:
        raise RemoteProtocolError("bad words after 'hello'")
    return match


def decode_words(match: re.Match[bytes]) -> list[str]:
    """Return all fields of a parsed line as text; "" for one that is absent."""
    return [_unword(octets) if octets is not None else "" for octets in match.groups()]


def read_job(match: re.Match[bytes]) -> Dispatch:
    """Return a parsed ``job`` line as a Dispatch that has no recipients yet."""
    tag, id, reverse, size, arrived, host, next_hop, flags = decode_words(match)
    named = () if flags == "-" else tuple(flags.split(","))
    if not set(named) <= set(_FLAGS):
        raise RemoteProtocolError(f"unknown flag in {flags!r}")
    path: ReversePath = decode_mailbox(reverse) if reverse else NULL_PATH
    eight_bit, smtputf8, requiretls, binary = (f in named for f in _FLAGS)
    return Dispatch(
        int(tag),
        id,
        path,
        int(size),
        float(arrived),
        host,
        next_hop,
        eight_bit,
        smtputf8,
        (),
        requiretls=requiretls,
        binary=binary,
    )


def read_recipient(match: re.Match[bytes]) -> Recipient:
    """Return a parsed ``rcpt`` line as a Recipient."""
    _, index, mailbox, action, original = decode_words(match)
    return Recipient(
        int(index), decode_mailbox(mailbox), action, decode_mailbox(original) if original else None
    )


def with_param(match: re.Match[bytes], job: Dispatch, recipients: dict[int, Recipient]) -> Dispatch:
    """Return ``job``, or change one of ``recipients``, as a parsed ``param`` line says.

    A name that this side does not know is passed over; RemoteProtocolError for
    a recipient that the job does not have.
    """
    _, index, name, value = decode_words(match)
    if index == "*":
        return replace(job, **{name: value}) if name in ("ret", "envid") else job
    recipient = recipients.get(int(index))
    if recipient is None:
        raise RemoteProtocolError(f"a param for recipient {index}, which the job does not have")
    if name in ("notify", "orcpt"):
        recipients[recipient.index] = replace(recipient, **{name: value})
    return job


def read_tls(match: re.Match[bytes]) -> TlsFact:
    """Return a parsed ``tls`` line as a TlsFact."""
    return TlsFact(*[_clean(word) for word in decode_words(match)])


def read_address(match: re.Match[bytes]) -> AddressFact:
    """Return a parsed ``address`` line as an AddressFact."""
    return AddressFact(_unword(match[1]), _read_reply(match))


def read_avoid(match: re.Match[bytes]) -> Avoid:
    """Return a parsed ``avoid`` line as an Avoid."""
    return Avoid(_unword(match[1]), int(match[2]), _read_reply(match))


def _read_reply(match: re.Match[bytes]) -> Reply:
    text = _clean(_unword(match["text"]))
    return Reply(int(match["code"]), match["status"].decode(), text)


def read_outcome(match: re.Match[bytes]) -> tuple[Outcome, str]:
    """Return a parsed ``outcome`` line as its Outcome and the relay named in it."""
    reply = _read_reply(match)
    scope: str = match["scope"].decode()
    return Outcome(reply, scope), _clean(_unword(match["relay"]))  # type: ignore[arg-type]
