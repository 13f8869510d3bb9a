"""Addresses: the one place where foreign text becomes a Mailbox.

What is refused here never reaches a table, a spool or a log, so the refusal
says in a few words what is wrong, and repeats nothing a terminal would obey.

Source   RFC 5321 s4.1.2 (Path, Mailbox), s4.1.3 (address literals), s4.5.3.1
         (lengths); RFC 6531 s3.3 (UTF-8 in both halves).  Liberties taken: a
         source route is read and ignored (RFC 5321 s3.6.1), one dot at the end
         of a domain is dropped, and "_" is a letter of domains, as it is in the
         names of many machines that are only known inside a house.
Units    Lengths are octets of UTF-8, counted on the address as we would write it.

Invariants, each a property in tests/test_address.py
    A1   parse_mailbox(str(m)) == m for every m that parse_mailbox gave.
    A2   Any text gives a Mailbox or a ValueError of one printable line.
    A3   A Mailbox given here has no control character, a domain in lower case,
         and keeps all three limits.
    A4   Angle brackets, a source route, quotes that were not needed and the
         case of the domain change nothing.
"""

from __future__ import annotations

from mta.types import NULL_PATH, Mailbox
from mta.values import TYPE_CHECKING

if TYPE_CHECKING:
    from mta.types import ReversePath

__all__ = ["base_local", "local_names", "parse_domain", "parse_mailbox", "parse_reverse_path"]

MAX_LOCAL = 64
MAX_DOMAIN = 255
MAX_PATH = 322  # angle brackets included: both halves at their largest
MAX_LABEL = 63
MAX_TEXT = 1000  # a longer text cannot be an address, whatever its quoting and route

_LDH = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")
# Embeddings, overrides and isolates reorder what a terminal shows; U+2028 and
# U+2029 end a line for some readers.
_UNSEEN = frozenset("\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
_OTHER_DOT = "\u3002"  # IDNA reads it as a dot, so that routing and DNS would disagree


def parse_mailbox(text: str, default_domain: str = "") -> Mailbox:
    """Return the mailbox that ``text`` names, with or without angle brackets.

    A text without "@" gets ``default_domain``.  Raises ValueError, with the
    reason for a person, if it is no address or has no domain.
    """
    path = _without_brackets(text)
    if path[:1] == "@":
        path = _after_route(path)
    quoted = path[:1] == '"'
    local, at, rest = _unquote(path) if quoted else path.partition("@")
    if at:
        domain = parse_domain(rest)
    elif not path:
        raise ValueError("the address is empty")
    elif not default_domain:
        raise ValueError("the address has no domain")
    else:
        domain = default_domain.lower()
    mailbox = Mailbox(local, domain)
    written = str(mailbox)
    if written[0] == '"' and not quoted:
        raise ValueError(_why_quotes(local))
    _check_lengths(written, domain)
    return mailbox


def parse_reverse_path(text: str, default_domain: str = "") -> ReversePath:
    """Return the reverse-path that ``text`` names; "" and "<>" are the null path.

    Raises ValueError as parse_mailbox does.
    """
    return NULL_PATH if text in ("", "<>") else parse_mailbox(text, default_domain)


def parse_domain(text: str) -> str:
    """Return ``text`` as a domain in lower case, or as an address literal in brackets.

    Raises ValueError, with the reason, if it is neither.
    """
    if text[:1] == "[":
        return _literal(text)
    domain = text.lower() if text.isascii() else _fold(text)
    if domain[-1:] == ".":
        domain = domain[:-1]
    if not domain:
        raise ValueError("the domain is empty")
    if not _LDH.issuperset(domain):
        _check_letters(domain)
    for label in domain.split("."):
        if not label:
            raise ValueError("the domain has two dots in a row, or begins or ends with one")
        if len(label) > MAX_LABEL:
            raise ValueError(f"a label of the domain is longer than {MAX_LABEL} characters")
        if label[0] == "-" or label[-1] == "-":
            raise ValueError("a label of the domain begins or ends with a hyphen")
    return domain


def local_names(local: str) -> tuple[str, ...]:
    """Return the names that ``local`` may go by in alias and user tables, best first.

    All in lower case: the whole local part, then what stands before its "+".
    """
    whole = local.lower()
    base = base_local(local)
    return (whole,) if base == whole else (whole, base)


def base_local(local: str) -> str:
    """Return the user's name in ``local``: lower case, without "+" and what follows it."""
    name = local.lower()
    return name.partition("+")[0] or name


def _without_brackets(text: str) -> str:
    """Return ``text`` without its angle brackets; ValueError for what no address may hold."""
    if len(text) > MAX_TEXT:
        raise ValueError(f"the address is longer than {MAX_PATH} octets")
    if not (text.isascii() and text.isprintable()):
        _check_unicode(text)
    if text[:1] != "<":
        return text
    if text[-1] != ">":
        raise ValueError("the address begins with '<' and has no '>' at its end")
    return text[1:-1]


def _check_unicode(text: str) -> None:
    for c in text:
        if c < " " or "\x7f" <= c <= "\x9f" or c in _UNSEEN:
            raise ValueError("the address holds a control character")
        if "\ud800" <= c <= "\udfff":
            raise ValueError("the address is not valid UTF-8")


def _after_route(path: str) -> str:
    """Return what follows the source route ``@one,@two:`` at the start of ``path``."""
    rest = path
    while rest[:1] == "@":
        # An IPv6 literal has colons of its own.
        close = rest.find("]") if rest[1:2] == "[" else 0
        ends = [i for i in (rest.find(",", close), rest.find(":", close)) if i > 0]
        if close < 0 or not ends:
            raise ValueError("nothing stands before the '@'")
        end = min(ends)
        parse_domain(rest[1:end])
        if rest[end] == ":":
            return rest[end + 1 :]
        rest = rest[end + 1 :]
    raise ValueError("the source route has no ':' before the address")


def _unquote(path: str) -> tuple[str, str, str]:
    """Split ``"local"@rest`` as partition("@") would; ``local`` comes without its quoting."""
    local: list[str] = []
    at = 1
    while at < len(path) and path[at] != '"':
        if path[at] == "\\":
            at += 1
        local.append(path[at : at + 1])
        at += 1
    if at >= len(path):
        raise ValueError("the quoted local part has no closing quote")
    rest = path[at + 1 :]
    if rest and rest[0] != "@":
        raise ValueError("something stands between the closing quote and the '@'")
    return "".join(local), rest[:1], rest[1:]


def _why_quotes(local: str) -> str:
    """Return why ``local`` may not stand without quotes."""
    if not local:
        return "nothing stands before the '@'"
    if local[0] == "." or local[-1] == "." or ".." in local:
        return "dots at the ends of the local part, or two in a row, need quotes"
    if " " in local:
        return "the local part holds a space, which needs quotes"
    return 'the local part holds one of ()<>[]:;,\\" which need quotes'


def _check_lengths(written: str, domain: str) -> None:
    whole, after = len(written), len(domain)
    if not written.isascii():
        whole, after = len(written.encode()), len(domain.encode())
    if whole - after - 1 > MAX_LOCAL:
        raise ValueError(f"the local part is longer than {MAX_LOCAL} octets")
    if after > MAX_DOMAIN:
        raise ValueError(f"the domain is longer than {MAX_DOMAIN} octets")
    if whole + 2 > MAX_PATH:
        raise ValueError(f"the address is longer than {MAX_PATH} octets")


def _check_letters(domain: str) -> None:
    """Refuse what is neither letter, digit, hyphen, dot nor a visible letter beyond ASCII."""
    for c in domain:
        if c <= "\x7f" and c not in _LDH:
            raise ValueError(f"the domain holds {c!r}")
        if c == _OTHER_DOT or c.isspace():
            raise ValueError("the domain holds a space or a dot that is not '.'")


def _fold(text: str) -> str:
    """Return an internationalised domain in the one spelling we compare.

    Compatibility forms go first: IDNA folds them as well, and a wide
    "localhost" must not pass here as the name of some other host.
    """
    import unicodedata

    _check_unicode(text)
    domain = unicodedata.normalize("NFKC", text).lower()
    if unicodedata.normalize("NFKC", domain.lower()) != domain:
        raise ValueError("the domain has no single spelling in lower case")
    return domain


def _literal(text: str) -> str:
    """Return the address literal ``text`` in its shortest form, as ``[192.0.2.1]``."""
    inside = text[1:-1]
    if text[-1] != "]" or not inside.isascii():
        raise ValueError("the address literal does not end with ']'")
    if inside[:5].lower() == "ipv6:":
        import ipaddress

        try:
            if "%" in inside:
                raise ValueError
            return f"[ipv6:{ipaddress.IPv6Address(inside[5:])}]"
        except ValueError:
            raise ValueError("the address literal is no IPv6 address") from None
    numbers = inside.split(".")
    if len(numbers) != 4 or not all(n.isdigit() and len(n) < 4 and int(n) < 256 for n in numbers):
        raise ValueError("the address literal is neither [a.b.c.d] nor [IPv6:…]")
    return "[" + ".".join(str(int(n)) for n in numbers) + "]"
