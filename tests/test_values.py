"""Frozen values: V1 to V3, and that they behave as dataclasses where code relies on it."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.values import fields, frozen, replace


@frozen
class Pair:
    left: object
    right: object = 0


@frozen
class Twin:
    left: object
    right: object = 0


@frozen
class Empty:
    pass


@frozen
class Own:
    """A value with methods of its own."""

    name: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Own) and self.name.lower() == other.name.lower()

    def __hash__(self) -> int:
        return hash(self.name.lower())

    @property
    def loud(self) -> str:
        return self.name.upper()


atoms = st.integers(0, 2) | st.sampled_from(["", "a", "é"]) | st.none()
contents = st.tuples(atoms, atoms)


@given(contents, contents)
def test_v1_equal_iff_class_and_fields(
    one: tuple[object, object], two: tuple[object, object]
) -> None:
    assert (Pair(*one) == Pair(*two)) == (one == two)
    assert (Pair(*one) != Pair(*two)) == (one != two)
    assert Pair(*one) != Twin(*one)
    assert Pair(*one) != one
    if one == two:
        assert hash(Pair(*one)) == hash(Pair(*two))


@given(contents, st.sampled_from(["left", "right", "other"]))
def test_v2_nothing_changes(content: tuple[object, object], name: str) -> None:
    value = Pair(*content)
    with pytest.raises(AttributeError, match=f"Pair is frozen: cannot set or delete '{name}'"):
        setattr(value, name, 1)
    with pytest.raises(AttributeError, match="frozen"):
        delattr(value, name)
    assert (value.left, value.right) == content
    assert not hasattr(value, "__dict__")


@given(contents, st.dictionaries(st.sampled_from(["left", "right"]), atoms))
def test_v3_replace_changes_these_only(
    content: tuple[object, object], new: dict[str, object]
) -> None:
    value = Pair(*content)
    changed = replace(value, **new)
    assert type(changed) is Pair
    for name in fields(value):
        assert getattr(changed, name) == new.get(name, getattr(value, name))
    assert value == Pair(*content)


def test_v3_replace_refuses_what_is_no_field() -> None:
    with pytest.raises(TypeError, match="other"):
        replace(Pair(1), other=2)


def test_defaults_and_arguments() -> None:
    assert Pair(1) == Pair(1, 0) == Pair(left=1, right=0)
    assert fields(Pair) == fields(Pair(1)) == ("left", "right")
    assert Empty() == Empty()
    for wrong in ((), (1, 2, 3)):
        with pytest.raises(TypeError):
            Pair(*wrong)


def test_looks_and_patterns() -> None:
    assert repr(Pair("a", None)) == "Pair(left='a', right=None)"
    match Pair(1, 2):
        case Pair(left, 2):
            assert left == 1
        case _:
            pytest.fail("no match")


@given(contents)
def test_copies_are_equal(content: tuple[object, object]) -> None:
    value = Pair(*content)
    assert pickle.loads(pickle.dumps(value)) == value
    assert copy.deepcopy(value) == value


def test_methods_of_its_own_are_kept() -> None:
    assert Own("A") == Own("a")
    assert len({Own("A"), Own("a")}) == 1
    assert Own("a").loud == "A"
    assert Own.__doc__ == "A value with methods of its own."
