import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.config.text import BadFile
from mta.config.yaml_nodes import Node, parse

YAML_ISH = st.text(alphabet="ab:-[]{}&*!#'\"|>?%@ \n,<~", max_size=60)
WORD = st.text(alphabet="abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=6)
TRAPS = [
    "10:30",
    "0640",
    "0o17",
    "no",
    "yes",
    "on",
    "off",
    "true",
    "1e3",
    "1_000",
    ".inf",
    "=",
    "2001-01-01",
]


@given(YAML_ISH | st.text(max_size=40))
def test_y1_text_becomes_a_node_or_a_bad_file(text):
    try:
        assert isinstance(parse(text), Node)
    except BadFile as error:
        assert error.problems
        assert all(p.line >= 1 and p.column >= 1 and "\n" not in p.text for p in error.problems)


@given(st.lists(WORD, min_size=1, max_size=8), st.booleans())
def test_y2_a_key_given_twice_is_an_error_at_the_second(keys, quoted):
    quote = '"' if quoted else ""
    text = "".join(
        f"{quote if n % 2 else ''}{k}{quote if n % 2 else ''}: 1\n" for n, k in enumerate(keys)
    )
    twice = [n + 1 for n, key in enumerate(keys) if key in keys[:n]]
    if not twice:
        assert [key.value for key, _ in parse(text).value] == keys
        return
    with pytest.raises(BadFile) as caught:
        parse(text)
    assert [(p.line, p.column) for p in caught.value.problems] == [(line, 1) for line in twice]


@pytest.mark.parametrize("trap", TRAPS)
def test_y3_traps_are_the_text_typed(trap):
    ((_, value),) = parse(f"a: {trap}\n").value
    assert (value.kind, value.value, value.plain) == ("text", trap, True)


@given(st.from_regex(r"[0-9a-z][0-9a-z_.:+/-]{0,9}[0-9a-z]", fullmatch=True))
def test_y3_a_scalar_is_the_text_typed(text):
    (item,) = parse(f"- {text}\n").value
    assert item.value == text
    assert item.kind == ("nothing" if text in ("null", "~") else "text")


def test_an_anchor_is_followed_to_where_it_was_written():
    root = parse("a: &x {b: 1}\nc: *x\n")
    (_, first), (_, second) = root.value
    assert first == second
    assert (second.line, second.column) == (1, 4)


def test_aliases_of_aliases_end_within_the_budget():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(BadFile) as caught:
        parse("\n".join(lines) + "\n")
    assert [p.text for p in caught.value.problems] == [
        "nested too deep, or aliases make this too large"
    ]


@pytest.mark.parametrize("text", ["[" * 5000, "[" * 40 + "]" * 40, "{a: " * 2000])
def test_deep_nesting_is_an_error(text):
    with pytest.raises(BadFile):
        parse(text)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file_says_nothing(text):
    node = parse(text)
    assert node.kind in ("map", "nothing")


def test_quoted_text_is_marked_and_a_quoted_null_is_text():
    (item,) = parse('- "null"\n').value
    assert (item.kind, item.plain) == ("text", False)
