"""Frozen values: what ``dataclass(frozen=True, slots=True)`` gives, at a tenth of the start-up.

``import dataclasses`` costs a bare interpreter more than everything else that
a one-shot ``submit`` does, because it imports ``inspect`` and ``re``.  The
types of this project are made by ``frozen`` instead: type checkers see a
dataclass (PEP 681), the interpreter runs these lines.

Invariants, each a property in tests/test_values.py
    V1   Two values are equal iff they are of one class and all fields are equal;
         equal values hash alike.
    V2   No attribute of a value can be set, changed or deleted after it is made.
    V3   replace(v, **changes) is v with these fields and no others changed.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers know this name; ``typing`` would cost 17 ms
if TYPE_CHECKING:
    from typing import Any, NoReturn, TypeVar, dataclass_transform

    T = TypeVar("T")
else:

    def dataclass_transform(**_):
        return lambda decorator: decorator


__all__ = ["TYPE_CHECKING", "fields", "frozen", "replace"]


def _refuse(self: object, name: str, value: object = None) -> NoReturn:
    raise AttributeError(f"{type(self).__name__} is frozen: cannot set or delete {name!r}")


def _initializer(names: tuple[str, ...], setters: list[Any], defaults: dict[str, Any]) -> Any:
    """Compile ``__init__(self, a, b=default)`` that fills the slots directly."""
    scope: dict[str, Any] = {f"_set_{n}": s for n, s in zip(names, setters, strict=True)}
    scope.update({f"_default_{n}": d for n, d in defaults.items()})
    arguments = ", ".join(f"{n}=_default_{n}" if n in defaults else n for n in names)
    body = "\n".join(f" _set_{n}(self, {n})" for n in names) or " pass"
    exec(f"def __init__(self, {arguments}):\n{body}", scope)
    return scope["__init__"]


@dataclass_transform(frozen_default=True)
def frozen(cls: type[T]) -> type[T]:
    """Make ``cls`` an immutable value of its annotated fields, with slots.

    Defaults are class attributes, as in a dataclass, and must be immutable.
    Equality, hash, ``repr`` and ``match`` go by the fields in order.  A method
    that ``cls`` defines itself is kept.  Inheritance is not supported.
    """
    names = tuple(cls.__annotations__)
    space = {k: v for k, v in vars(cls).items() if k not in ("__dict__", "__weakref__")}
    defaults = {n: space.pop(n) for n in names if n in space}
    space.update(__slots__=names, __match_args__=names, __setattr__=_refuse, __delattr__=_refuse)
    kind: Any = type(cls)
    made = kind(cls.__name__, cls.__bases__, space)
    made.__init__ = _initializer(names, [vars(made)[n].__set__ for n in names], defaults)

    def key(value: Any) -> tuple[Any, ...]:
        return tuple([getattr(value, n) for n in names])

    def __eq__(self: Any, other: object) -> Any:
        return key(self) == key(other) if type(other) is made else NotImplemented

    def __hash__(self: Any) -> int:
        return hash(key(self))

    def __repr__(self: Any) -> str:
        inside = ", ".join(f"{n}={getattr(self, n)!r}" for n in names)
        return f"{made.__name__}({inside})"

    def __reduce__(self: Any) -> Any:
        return made, key(self)

    for method in (__eq__, __hash__, __repr__, __reduce__):
        if method.__name__ not in space:
            setattr(made, method.__name__, method)
    return made  # type: ignore[no-any-return]


def fields(value: object) -> tuple[str, ...]:
    """Return the field names of a frozen value or class, in order."""
    return value.__match_args__  # type: ignore[attr-defined,no-any-return]


def replace(value: T, **changes: object) -> T:
    """Return a copy of ``value`` with ``changes``; TypeError for an unknown field."""
    current = {n: getattr(value, n) for n in fields(value)}
    return type(value)(**{**current, **changes})
