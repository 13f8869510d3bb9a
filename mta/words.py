"""Text that may hold anything: as one word of a line, and as a line for a person.

Job files and the channel protocol are lines of words.  A word is quoted by
percent-encoding its spaces, control characters and "%"; the empty word is "%".

Invariants, each a property in tests/test_words.py
    W1   unquote(quote(text)) == text for every text that UTF-8 can carry.
    W2   A quoted word is never empty and holds no space and no control character.
    W3   What printable() gives is one line that can be printed, and colours nothing.
"""

from __future__ import annotations

__all__ = ["printable", "quote", "unquote"]


def printable(text: str) -> str:
    """Return ``text`` with "?" for each character that would break or colour a line."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def quote(text: str) -> str:
    """Return ``text`` as one word; UnicodeEncodeError for a lone surrogate."""
    if not text:
        return "%"
    if text.isprintable() and " " not in text and "%" not in text:
        return text
    return "".join(
        c if c.isprintable() and c not in " %" else "".join(f"%{o:02X}" for o in c.encode())
        for c in text
    )


def unquote(word: str) -> str:
    """Return the text of ``word``; ValueError if quote() never makes such a word."""
    if "%" not in word:
        return word
    if word == "%":
        return ""
    out = bytearray()
    parts = word.encode().split(b"%")
    out += parts[0]
    for part in parts[1:]:
        out.append(int(part[:2], 16) if len(part) >= 2 else _bad(word))
        out += part[2:]
    return out.decode()


def _bad(word: str) -> int:
    raise ValueError(f"a percent sign without two digits in {word!r}")
