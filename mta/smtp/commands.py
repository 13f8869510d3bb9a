"""Commands: the lines that a client sends, read into values.

A reader takes one line, already known to be free of control characters, and
returns what it says, or the Reply that refuses it.  No refusal repeats what the
client sent, but for a reason of mta.address, which names at most one character.

Source   Commands: RFC 5321 s4.1.1 and s4.1.2; SIZE: RFC 1870; BODY: RFC 6152, RFC 3030;
         SMTPUTF8: RFC 6531 s3.4; RET, ENVID, NOTIFY, ORCPT: RFC 3461 s4 and RFC 6533 s3;
         AUTH: RFC 4954 s4 and s5; REQUIRETLS: RFC 8689 s2; BDAT: RFC 3030 s2;
         ETRN: RFC 1985; XCLIENT: Postfix's XCLIENT_README.
Units    Sizes are octets; the limits of ENVID and ORCPT are characters as sent.

Invariants, each a property in tests/smtp/test_commands.py
    K1   Whatever the octets, a value or a 5yz reply comes back.
    K2   What our own client says of an envelope is read back as it was.
    K3   No text of a value holds a control character.
"""

from __future__ import annotations

import re
from binascii import Error, a2b_base64

from mta.address import parse_domain, parse_mailbox
from mta.types import NULL_PATH, Mailbox, Reply, ReversePath
from mta.values import TYPE_CHECKING, frozen

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "MAIL_WORDS",
    "RCPT_WORDS",
    "XCLIENT_NAMES",
    "AuthAnswer",
    "AuthBegin",
    "Etrn",
    "MailFrom",
    "MailParameters",
    "RcptParameters",
    "RcptTo",
    "Xclient",
    "auth",
    "base64",
    "chunk",
    "decode",
    "etrn",
    "hello",
    "mail",
    "rcpt",
    "xclient",
]


@frozen
class MailParameters:
    """What follows the reverse-path; each "", None or False if it was not said.

    ``size`` is the client's guess.  ``envid`` and ``auth`` are decoded; ``auth``
    is "<>" where the client vouches for nobody.
    """

    size: int | None = None
    body: str = ""
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    requiretls: bool = False
    auth: str = ""


@frozen
class RcptParameters:
    """``notify`` "NEVER" or a comma list; ``orcpt`` "rfc822;bob@example.net", decoded."""

    notify: str = ""
    orcpt: str = ""


@frozen
class MailFrom:
    """MAIL: a transaction is asked for."""

    path: ReversePath
    parameters: MailParameters


@frozen
class RcptTo:
    """RCPT: one recipient; "<postmaster>" has no domain (RFC 5321 s4.5.1)."""

    mailbox: Mailbox
    parameters: RcptParameters


@frozen
class AuthBegin:
    """AUTH with an initial response, decoded, or None; ``mechanism`` is upper case."""

    mechanism: str
    initial: bytes | None


@frozen
class AuthAnswer:
    """The answer to a challenge; None: the client gave the exchange up, answer 501."""

    octets: bytes | None


@frozen
class Etrn:
    """ETRN: run the queue of ``domain``."""

    domain: str


@frozen
class Xclient:
    """XCLIENT: names in upper case, values decoded."""

    attributes: tuple[tuple[str, str], ...]


_PATH = r'<((?:[^"<> \\]++|"(?:[^"\\]++|\\.)*+")*+)>'
_MAIL = re.compile(rf"MAIL +FROM: *{_PATH}(?: +(.*))?", re.IGNORECASE | re.ASCII)
_RCPT = re.compile(rf"RCPT +TO: *{_PATH}(?: +(.*))?", re.IGNORECASE | re.ASCII)
_HELLO = re.compile(
    r".{4} +([!#-\'*+\--:=?A-\[\]-~]{1,255})"
)  # no specials of RFC 5322 but [ ] . :
_BDAT = re.compile(r"BDAT +([0-9]{1,20})( +LAST)?", re.IGNORECASE | re.ASCII)
_AUTH = re.compile(r"AUTH +([A-Z0-9_-]{1,20})(?: +([A-Z0-9+/=]+))?", re.IGNORECASE | re.ASCII)
_ETRN = re.compile(r"ETRN +([^ @#]+)", re.IGNORECASE | re.ASCII)
_SIZE = re.compile(r"[0-9]{1,20}")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-Fa-f]{2})*+")
_XCHAR = re.compile(r"\+(..)")
_UTF8_TEXT = re.compile(
    r"(?:[!-*,-<>-\[\]-~\x80-\U0010ffff]|\+[0-9A-Fa-f]{2}|\\x\{[0-9A-Fa-f]{2,6}\})*+"
)
_EMBEDDED = re.compile(r"\\x\{([^}]*)\}")
_ADDR_TYPE = re.compile(r"[A-Za-z0-9!#$%&'*/?^_`{|}~-]{1,64}")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_ENVID_MAX = 100
_ORCPT_MAX = 500

_BAD_UTF8 = Reply(500, "5.5.2", "this is not UTF-8")
_CONTROLS = Reply(500, "5.5.2", "control characters have no place in a command")
_BAD_MAIL = Reply(501, "5.5.4", "syntax: MAIL FROM:<address> [parameters]")
_BAD_RCPT = Reply(501, "5.5.4", "syntax: RCPT TO:<address> [parameters]")
_BAD_HELLO = Reply(501, "5.5.4", "a host name or an address literal is needed")
_BAD_BDAT = Reply(501, "5.5.4", "syntax: BDAT size [LAST]")
_BAD_AUTH = Reply(501, "5.5.4", "syntax: AUTH mechanism [initial response]")
_BAD_BASE64 = Reply(501, "5.5.2", "this is not base64")
_BAD_ETRN = Reply(501, "5.5.4", "syntax: ETRN domain")
_BAD_XCLIENT = Reply(501, "5.5.4", "syntax: XCLIENT name=value ...")
_BAD_VALUE = Reply(501, "5.5.4", "a parameter's value is not valid")
_TWICE = Reply(501, "5.5.4", "a parameter is given twice")
_UNKNOWN = Reply(555, "5.5.4", "a parameter is not known here")
_NO_UTF8 = Reply(553, "5.6.7", "an internationalized address needs the parameter SMTPUTF8")

_NO_MAIL_PARAMETERS = MailParameters()
_NO_RCPT_PARAMETERS = RcptParameters()

# A reader of a parameter gets its value, None if there was none; None from it: not valid.


def _flag(value: str | None) -> bool | None:
    return True if value is None else None


def _size(value: str | None) -> int | None:
    return int(value) if value is not None and _SIZE.fullmatch(value) else None


def _one_of(*words: str) -> Callable[[str | None], str | None]:
    def read(value: str | None) -> str | None:
        given = (value or "").upper()
        return given if given in words else None

    return read


def _xtext(value: str) -> str | None:
    """Return ``value`` decoded, if it is xtext of printable ASCII (RFC 3461 s4)."""
    if not _XTEXT.fullmatch(value):
        return None
    text = _XCHAR.sub(_character, value) if "+" in value else value
    return text if text.isascii() and text.isprintable() else None


def _character(found: re.Match[str]) -> str:
    return chr(int(found[1], 16))


def _envid(value: str | None) -> str | None:
    return _xtext(value) if value and len(value) <= _ENVID_MAX else None


def _submitter(value: str | None) -> str | None:
    """AUTH=: a mailbox in xtext, or ``<>``."""
    if value == "<>":
        return value
    text = _xtext(value or "")
    try:
        return str(parse_mailbox(text)) if text else None
    except ValueError:
        return None


def _notify(value: str | None) -> str | None:
    words = (value or "").upper().split(",")
    if words == ["NEVER"]:
        return "NEVER"
    if len(set(words)) != len(words) or not {"SUCCESS", "FAILURE", "DELAY"}.issuperset(words):
        return None
    return ",".join(words)


def _orcpt(value: str | None) -> str | None:
    kind, found, encoded = (value or "").partition(";")
    if not (found and encoded and len(encoded) <= _ORCPT_MAX and _ADDR_TYPE.fullmatch(kind)):
        return None
    kind = kind.lower()
    text = _utf8_address(encoded) if kind == "utf-8" else _xtext(encoded)
    return f"{kind};{text}" if text else None


def _utf8_address(value: str) -> str | None:
    """RFC 6533 s3: characters by their hexadecimal number, as xtext, or as they are."""
    if not _UTF8_TEXT.fullmatch(value):
        return None
    try:
        text = _EMBEDDED.sub(_character, _XCHAR.sub(_character, value))
    except (ValueError, OverflowError):
        return None
    return None if _CONTROL.search(text) else text


# keyword → (field, how its value is read)
MAIL_WORDS: dict[str, tuple[str, Callable[[str | None], object]]] = {
    "SIZE": ("size", _size),
    "BODY": ("body", _one_of("7BIT", "8BITMIME", "BINARYMIME")),
    "SMTPUTF8": ("smtputf8", _flag),
    "RET": ("ret", _one_of("FULL", "HDRS")),
    "ENVID": ("envid", _envid),
    "REQUIRETLS": ("requiretls", _flag),
    "AUTH": ("auth", _submitter),
}
RCPT_WORDS: dict[str, tuple[str, Callable[[str | None], object]]] = {
    "NOTIFY": ("notify", _notify),
    "ORCPT": ("orcpt", _orcpt),
}


def _parameters(
    text: str, words: dict[str, tuple[str, Callable[[str | None], object]]], offered: frozenset[str]
) -> dict[str, object] | Reply:
    given: dict[str, object] = {}
    for word in text.split(" "):
        if not word:
            continue
        keyword, equals, value = word.partition("=")
        name = keyword.upper()  # which makes ASCII of a few letters that are not
        if name not in offered or not keyword.isascii():
            return _UNKNOWN
        field, read = words[name]
        if field in given:
            return _TWICE
        meant = read(value if equals else None)
        if meant is None:
            return _BAD_VALUE
        given[field] = meant
    return given


def decode(line: bytes) -> str | Reply:
    """Return a command line as text; it holds UTF-8 and no control characters."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return _BAD_UTF8
    if not text.isprintable() and _CONTROL.search(text):
        return _CONTROLS
    return text


def hello(text: str) -> str | Reply:
    """Return the client's name from EHLO, HELO or LHLO: ASCII, of no harm in a header."""
    found = _HELLO.fullmatch(text)
    return found[1] if found else _BAD_HELLO


def mail(text: str, offered: frozenset[str]) -> MailFrom | Reply:
    """Read MAIL; ``offered`` are the parameters that the session knows."""
    found = _MAIL.fullmatch(text)
    if found is None:
        return _BAD_MAIL
    address, rest = found.groups()
    parameters = _NO_MAIL_PARAMETERS
    if rest:
        given = _parameters(rest, MAIL_WORDS, offered)
        if isinstance(given, Reply):
            return given
        parameters = MailParameters(**given)  # type: ignore[arg-type]
    if not address:
        return MailFrom(NULL_PATH, parameters)
    if not (parameters.smtputf8 or address.isascii()):
        return _NO_UTF8
    try:
        return MailFrom(parse_mailbox(address), parameters)
    except ValueError as error:
        return Reply(501, "5.1.7", str(error))


def rcpt(text: str, offered: frozenset[str], smtputf8: bool) -> RcptTo | Reply:
    """Read RCPT; ``smtputf8``: the transaction asked for it."""
    found = _RCPT.fullmatch(text)
    if found is None:
        return _BAD_RCPT
    address, rest = found.groups()
    parameters = _NO_RCPT_PARAMETERS
    if rest:
        given = _parameters(rest, RCPT_WORDS, offered)
        if isinstance(given, Reply):
            return given
        parameters = RcptParameters(**given)  # type: ignore[arg-type]
    if not (smtputf8 or address.isascii()):
        return _NO_UTF8
    if address.lower() == "postmaster":
        return RcptTo(Mailbox("postmaster", ""), parameters)
    try:
        return RcptTo(parse_mailbox(address), parameters)
    except ValueError as error:
        return Reply(501, "5.1.3", str(error))


def chunk(text: str) -> tuple[int, bool] | Reply:
    """Read BDAT: how many octets follow, and whether they are the last."""
    found = _BDAT.fullmatch(text)
    return (int(found[1]), found[2] is not None) if found else _BAD_BDAT


def base64(text: bytes | str) -> bytes | Reply:
    """Return the octets of one base64 line; nothing but whole, padded base64 is taken."""
    try:
        octets = a2b_base64(text, strict_mode=True) if text else b""
    except (Error, ValueError):
        return _BAD_BASE64
    if len(text) % 4:  # padding that is too much passes the strict mode
        return _BAD_BASE64
    return octets


def auth(text: str) -> AuthBegin | Reply:
    """Read AUTH; an initial response of "=" is empty (RFC 4954 s4)."""
    found = _AUTH.fullmatch(text)
    if found is None:
        return _BAD_AUTH
    mechanism, initial = found[1].upper(), found[2]
    if initial is None:
        return AuthBegin(mechanism, None)
    octets = b"" if initial == "=" else base64(initial)
    return octets if isinstance(octets, Reply) else AuthBegin(mechanism, octets)


def etrn(text: str) -> Etrn | Reply:
    """Read ETRN for one domain; "@domain" and "#queue" are not served."""
    found = _ETRN.fullmatch(text)
    try:
        return Etrn(parse_domain(found[1])) if found and found[1].isascii() else _BAD_ETRN
    except ValueError:
        return _BAD_ETRN


XCLIENT_NAMES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")


def xclient(text: str) -> Xclient | Reply:
    """Read XCLIENT: at least one attribute, none twice, values in xtext."""
    given: dict[str, str] = {}
    for word in text.split(" ")[1:]:
        name, found, value = word.partition("=")
        name = name.upper()
        decoded = _xtext(value)
        if not word:
            continue
        if not found or name not in XCLIENT_NAMES or name in given or decoded is None:
            return _BAD_XCLIENT
        given[name] = decoded
    return Xclient(tuple(given.items())) if given else _BAD_XCLIENT
