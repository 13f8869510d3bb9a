import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.config.files import read_aliases, read_table, read_template, read_users
from mta.config.text import BadFile

WORD = st.text(alphabet="abcdefgh", min_size=1, max_size=3)
ALIAS_ISH = st.text(alphabet='ab:,|/"\\@<> #\n\t', max_size=50)


@given(
    st.lists(WORD, min_size=1, max_size=8), st.sampled_from([read_table, read_users, read_aliases])
)
def test_f1_a_name_given_twice_names_its_first_line(names, reader):
    end = ": x" if reader is read_aliases else ""
    twice = [(n + 1, names.index(w) + 1) for n, w in enumerate(names) if w in names[:n]]
    text = "".join(f"{name}{end}\n" for name in names)
    if not twice:
        assert len(reader(text)) == len(names)
        return
    with pytest.raises(BadFile) as caught:
        reader(text)
    told = [(p.line, int(p.text.rsplit(" ", 1)[1])) for p in caught.value.problems]
    assert told == twice


@given(ALIAS_ISH, st.sampled_from([read_table, read_users, read_aliases]))
def test_f2_what_is_read_is_clean(text, reader):
    try:
        rows = reader(text)
    except BadFile as error:
        ends = text.split("\n")
        assert all(1 <= p.column <= len(ends[p.line - 1]) + 1 for p in error.problems)
        return
    said = [word for row in rows for word in (row if isinstance(row, tuple) else (row,))]
    words = [w for word in said for w in (word if isinstance(word, tuple) else (word,))]
    assert not any(c < " " for word in words if isinstance(word, str) for c in word)


def test_a_table_has_hosts_suffixes_and_next_hops():
    text = "# hosts\nA.test\n.b.test  relay.test:26   # why\n\n\tc.test\t[2001:db8::1]:25\n"
    assert read_table(text) == (
        (2, "a.test", ""),
        (3, ".b.test", "relay.test:26"),
        (5, "c.test", "[2001:db8::1]:25"),
    )


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("*\n", 1, 1),
        ("a.test b.test c.test\n", 1, 8),
        ("a.test tls=sometimes\n", 1, 8),
        ("\n  a_ b:x\n", 2, 6),
        ("a.test\nA.TEST\n", 2, 1),
        ("$local", 1, 1),
    ],
)
def test_a_bad_table_is_told_at_its_place(text, line, column):
    with pytest.raises(BadFile) as caught:
        read_table(text)
    assert (caught.value.problems[0].line, caught.value.problems[0].column) == (line, column)


def test_a_row_says_the_next_hop_the_tls_level_or_both():
    rows = read_table("a.test Relay.test:26\n.b.test tls=verify\nc.test  r.test:25   tls=off\n")
    assert rows == (
        (1, "a.test", "relay.test:26"),
        (2, ".b.test", "tls=verify"),
        (3, "c.test", "r.test:25 tls=off"),
    )


def test_a_file_without_users_is_an_error():
    with pytest.raises(BadFile, match="there is no user here"):
        read_users("# nobody\n")


def test_users_stand_one_a_line():
    assert read_users("# us\nalice\n  bob # too\n\n") == ("alice", "bob")


ALIASES = r"""
# the classic format
Postmaster: alice
root:   postmaster,
        bob@else.test
# a comment does not end an entry

   , "|/usr/bin/prog -x \"a b\", c"
files: /var/mail/x, "/var/mail/with space", \bob
lists: :include:/etc/l, ":include:/etc/with space"
"odd name": "john smith"@else.test, "j, s"
prog: |"/bin/cat -n", |/bin/true
named: Alice Smith <alice@else.test>, <bob@else.test>
spaced : alice
"""


def test_the_classic_format():
    assert read_aliases(ALIASES) == (
        ("postmaster", ("alice",), 3),
        ("root", ("postmaster", "bob@else.test", '|/usr/bin/prog -x "a b", c'), 4),
        ("files", ("/var/mail/x", "/var/mail/with space", "\\bob"), 9),
        ("lists", (":include:/etc/l", ":include:/etc/with space"), 10),
        ("odd name", ('"john smith"@else.test', '"j, s"'), 11),
        ("prog", ("|/bin/cat -n", "|/bin/true"), 12),
        ("named", ("alice@else.test", "bob@else.test"), 13),
        ("spaced", ("alice",), 14),
    )


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        ("a\n", 1, 1, "an entry is"),
        ("a b: c\n", 1, 1, "an entry is"),
        ("a@b.test: c\n", 1, 1, "an entry is"),
        (": c\n", 1, 1, "an entry is"),
        ("  a: b\n", 1, 3, "nothing that this line continues"),
        ("a:\n", 1, 3, "a target is missing"),
        ("a: b,\n", 1, 6, "a target is missing"),
        ("a: b,,c\n", 1, 6, "a target is missing"),
        ("a: |\n", 1, 4, "a target is missing"),
        ("a: b c\n", 1, 5, "a space in a target"),
        ("a: b # c\n", 1, 5, "a space in a target"),
        ("a: b,\n   c d\n", 2, 5, "a space in a target"),
        ('a: "|b c\n', 1, 4, "must end on its line"),
        ("a: :other:x\n", 1, 4, "there is :include:/path"),
        ("a: b\nA: c\n", 2, 1, "'a' is here twice, first in line 1"),
    ],
)
def test_a_bad_alias_is_told_at_its_place(text, line, column, reason):
    with pytest.raises(BadFile) as caught:
        read_aliases(text)
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (line, column), problem
    assert reason in problem.text


def test_lines_of_blanks_say_nothing():
    assert read_aliases("  \na: b\n \t\nc: d\n") == (("a", ("b",), 2), ("c", ("d",), 4))


def test_a_sites_words_are_read_and_what_is_wrong_in_them_has_a_place():
    assert read_template("[failed]\nNo.\n") == (("failed", "No."),)
    with pytest.raises(BadFile) as caught:
        read_template("[failed]\nDear $name\n")
    assert caught.value.spell("t").startswith("t:2:6: no place is called $name here")
