import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.deliver.flags import HELP, Flags, parse, spell
from mta.errors import UsageError
from mta.values import replace

VALUED = {
    "c": (["local", "smtp,ucl"], "channels", lambda v: tuple(v.split(","))),
    "l": (["15", "-1"], "dead_ttl", lambda v: max(0.0, float(v) * 60)),
    "m": (["0", "300"], "sort_threshold", int),
    "o": (["48", "0.5"], "older", lambda v: float(v) * 3600),
    "t": (["24"], "younger", lambda v: float(v) * 3600),
    "L": (["deliver1"], "log_file", str),
    "T": (["300"], "interval", float),
    "V": (["FTR", "gen"], "level", str.upper),
}
SWITCHES = {"b": "background", "p": "passive", "s": "unsorted", "w": "watch"}


@given(
    st.lists(st.sampled_from("bpsw"), unique=True),
    st.dictionaries(st.sampled_from(sorted(VALUED)), st.integers(0, 1)),
    st.lists(st.sampled_from(["25WZTLQ2DDM00HW6", "25WZ.1"]), max_size=2),
    st.data(),
)
def test_a1_however_flags_are_spelt_they_mean_the_same(switches, valued, ids, data):
    expected = {SWITCHES[s]: True for s in switches}
    pieces = [(s, None) for s in switches]
    for letter, which in valued.items():
        texts, field, meaning = VALUED[letter]
        text = texts[which % len(texts)]
        expected[field] = meaning(text)
        pieces.append((letter, text))
    words, bundle = [], "-"
    for letter, text in data.draw(st.permutations(pieces)):
        bundle += letter
        if text is not None and data.draw(st.booleans()):
            words.append(bundle + text)
        elif text is not None:
            words += [bundle, text]
        if text is not None:
            bundle = "-"
        elif data.draw(st.booleans()):
            words.append(bundle)
            bundle = "-"
    words += [bundle] if bundle != "-" else []
    after = data.draw(st.booleans())
    words = [*words, *ids] if after else [*ids, *words]
    assert parse(words) == Flags(**expected, ids=tuple(ids))


@given(st.lists(st.text(max_size=8) | st.sampled_from(["-b", "-l", "-c", "-T", "--config"])))
def test_a2_what_is_no_flag_is_a_usage_error(words):
    try:
        flags = parse(words)
    except UsageError as error:
        assert str(error).isprintable()
    else:
        assert isinstance(flags, Flags)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["-z"], "unknown flag -z"),
        (["-bz"], "unknown flag -z"),
        (["--frob"], "unknown option --frob"),
        (["-l"], "-l needs a value"),
        (["-t", "x"], "-t: x is not a number"),
        (["-o", "-1"], "-o: -1 is below 0"),
        (["-c", "a,,b"], "-c needs channel names"),
        (["-V", "LOUD"], "no level LOUD"),
        (["--config"], "--config needs a file"),
        (["-T", "nan"], "not a number"),
    ],
)
def test_the_reason_is_named(words, reason):
    with pytest.raises(UsageError, match=reason):
        parse(words)


def test_the_tuning_chapters_commands():
    first = parse(["-Ldeliver1", "-b", "-l15", "-clocal,brlnet,list,uucp,bb"])
    assert first.background and first.dead_ttl == 900 and len(first.channels) == 5
    dial = parse(["-b", "-l15", "-m300", "-o48", "-cucl-dial"])
    assert dial.older == 48 * 3600 and dial.channels == ("ucl-dial",)
    linear = parse(["-b", "-l15", "-s", "-T300", "-cucl"])
    assert linear.unsorted and linear.interval == 300


def test_zero_minutes_override_nothing_and_negative_ones_turn_the_cache_off():
    assert parse(["-l0"]).dead_ttl is None
    assert parse(["-l", "-5"]).dead_ttl == 0.0


def test_the_options_end_at_two_dashes_and_files_come_either_way():
    assert parse(["--config=x.yaml", "--", "-b"]) == Flags(config="x.yaml", ids=("-b",))
    assert parse(["--config", "x.yaml", "--help"]) == Flags(config="x.yaml", help=True)


def test_the_help_names_every_flag():
    for letter in (*VALUED, *SWITCHES):
        assert f"\n  -{letter} " in HELP


NUMBERS = st.none() | st.integers(1, 900).map(float)


@given(
    st.booleans(),
    st.booleans(),
    st.sampled_from([(), ("smtp",), ("local", "smtp")]),
    st.none() | st.just(0.0) | st.integers(1, 90).map(lambda n: n * 60.0),
    NUMBERS,
    NUMBERS,
    st.sampled_from([600.0, 0.5, 20.0]),
)
def test_a3_flags_are_spelt_as_they_may_be_typed(
    background, unsorted, channels, ttl, older, younger, interval
):
    flags = Flags(background, channels, ttl, 300, older, younger, unsorted=unsorted)
    flags = replace(flags, interval=interval)
    again = parse(spell(flags).split())
    for field in ("older", "younger"):
        said, read = getattr(flags, field), getattr(again, field)
        assert said is read is None or abs(said - read) < 0.01
    assert replace(again, older=older, younger=younger) == flags
