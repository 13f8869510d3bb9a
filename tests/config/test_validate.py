import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.config.kinds import ListOf, MapOf, keys
from mta.config.schema import SCHEMA
from mta.config.text import BadFile
from mta.config.validate import At, validate
from mta.config.yaml_nodes import parse

NAMES = [*sorted({key.name for _, key in keys(SCHEMA)}), "zzz"]
SCALARS = st.sampled_from(
    ["x", "smtp", "pipe", "5m", "10", "0", "*", "'1'", "~", "$local", "/bin/x"]
)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda v: "[" + ", ".join(v) + "]")
        | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4).map(
            lambda d: "{" + ", ".join(f"{k}: {v}" for k, v in d.items()) + "}"
        )
    ),
    max_leaves=12,
)


def complete(at: At, tree: MapOf) -> bool:
    """Whether ``at`` has every key of ``tree``, all the way down."""
    if set(at.value) != {key.name for key in tree.keys}:
        return False
    for key in tree.keys:
        kind = key.kind
        if isinstance(kind, MapOf) and not complete(at[key.name], kind):
            return False
        rows = at[key.name].value if isinstance(kind, ListOf) else ()
        if not all(complete(r, kind.item) for r in rows if isinstance(kind.item, MapOf)):
            return False
    return True


@given(TREES)
def test_l1_a_tree_is_read_whole_or_refused_with_places(text):
    try:
        assert complete(validate(parse(text), SCHEMA), SCHEMA)
    except BadFile as error:
        assert error.problems
        assert all(p.line == 1 and 1 <= p.column <= len(text) + 1 for p in error.problems)


@pytest.mark.parametrize("program", ["smtp", "local", "list", "pipe", "/bin/x"])
def test_l2_a_default_is_read_as_if_it_had_been_typed(program):
    """Type every default of a channel in full; nothing changes."""
    needed = {"pipe": "command: [/bin/cat], ", "list": "members: 'l/{list}', "}.get(program, "")
    short = f"channels: [{{name: a, {needed}program: {program}}}]"
    row = validate(parse(short), SCHEMA)["channels"].value[0]
    kind = "path" if program[0] == "/" else program
    channels = dict(keys(SCHEMA))["channels"].kind.item
    typed = ""
    for key in channels.keys:
        default = key.default_for(kind)
        if key.belongs(kind) and default is not None:
            typed += f", {key.name}: " + (
                f"'{default}'"
                if "{" in default
                else str(list(default) if default == () else default)
            )
    full = f"channels: [{{name: a, {needed}program: {program}{typed}}}]"
    again = validate(parse(full), SCHEMA)["channels"].value[0]
    for key in channels.keys:
        assert again[key.name].value == row[key.name].value or isinstance(key.kind, MapOf), key.name


def test_a_lone_value_stands_for_a_list_of_one():
    text = "channels: [{name: a, program: smtp, domains: '*', relay: x.test}]"
    row = validate(parse(text), SCHEMA)["channels"].value[0]
    assert (row["domains"].plain(), row["relay"].plain()) == (("*",), ("x.test",))


def test_options_keep_their_order_and_repeat_names_for_lists():
    text = "channels: [{name: a, program: /bin/x, options: {b: [1, no], a: 'x y'}}]"
    row = validate(parse(text), SCHEMA)["channels"].value[0]
    assert row["options"].plain() == (("b", "1"), ("b", "no"), ("a", "x y"))


def test_a_value_knows_its_place():
    row = validate(parse("channels:\n  - name: a\n    program: smtp\n    port: 26\n"), SCHEMA)
    port = row["channels"].value[0]["port"]
    assert (port.value, port.line, port.column) == (26, 4, 11)
