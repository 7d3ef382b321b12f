r"""What the configurations of the models have in common: checked fields, named presets, JSON."""
from __future__ import annotations

import functools
import math
import operator
import reprlib
import types
from collections.abc import Iterable
from dataclasses import asdict, fields, replace
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Config = TypeVar('Config', bound='ModelConfig')

#: The largest integer of a field, by the last word of its name: a slip in a file must not fill the memory, and is
#: refused before anything is built.
LARGEST = {'layers': 1000, 'heads': 1024, 'channels': 16_384, 'kernels': 16_384, 'landmarks': 16_384,
           'features': 16_384}
LARGEST_INT = 2 ** 20  #: Of any other integer, on either side of zero.
LONGEST = 2 ** 16  #: Entries of a tuple and letters of a string.
NOUNS = {int: 'an integer', float: 'a finite number', bool: 'true or false', str: 'a string', tuple: 'a tuple'}
PLURALS = {int: 'integers', float: 'finite numbers', bool: 'true or false', str: 'strings'}


class ModelConfig:
    r"""Base of the frozen dataclasses that define a model.

    Where a configuration is made, each field is checked against its annotation: :obj:`int`, :obj:`float`, :obj:`bool`,
    :obj:`str`, :obj:`Literal[...]`, tuples of these, and each of them or :obj:`None`. Lists become tuples and
    integers become floats where the annotation says so, as JSON needs it. A subclass that has a
    :meth:`__post_init__` calls this one first.

    Raises:
        ValueError: With the field, the rule and what came.
    """
    presets: ClassVar[dict[str, Any]] = {}  #: Named sizes.

    def __post_init__(self) -> None:
        for name, annotation in _annotations(type(self)).items():
            try:
                value = _convert(getattr(self, name), annotation, LARGEST.get(name.split('_')[-1], LARGEST_INT))
            except _Refused as refused:
                raise ValueError(f"'{name}' must be {refused}") from None
            object.__setattr__(self, name, value)

    @classmethod
    def preset(cls: type[Config], name: str, **changes) -> Config:
        r"""A named size, with :obj:`changes` to its fields.

        Raises:
            ValueError: If there is no preset of that name, or no such field.
        """
        if name not in cls.presets:
            raise ValueError(f"'preset' must be one of {', '.join(cls.presets)} (got '{name}')")
        cls._known(changes)
        return replace(cls.presets[name], **changes)

    @classmethod
    def of(cls: type[Config], config: Config | None, changes: dict[str, Any]) -> Config:
        r"""The configuration itself, or the one with these fields: how a model's constructor is called.

        Raises:
            ValueError: If both are given, the configuration is another model's, or a field is unknown.
        """
        if config is not None and changes:
            raise ValueError(f"give 'config' or its fields, not both (got {sorted(changes)})")
        if config is not None and not isinstance(config, cls):
            raise ValueError(f"'config' must be a {cls.__name__} (got {type(config).__name__})")
        cls._known(changes)
        return cls(**changes) if config is None else config

    @classmethod
    def _known(cls, changes: dict[str, Any]) -> None:
        unknown = set(changes) - {f.name for f in fields(cls)}  # type: ignore[arg-type]
        if unknown:
            raise ValueError(f"'{sorted(unknown)[0]}' is not a field of {cls.__name__}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload]

    def check(self, *, at_least_one: Iterable[str] = (), not_negative: Iterable[str] = (),
              positive: Iterable[str] = (), probability: Iterable[str] = (), distinct: Iterable[str] = ()) -> None:
        r"""Refuses fields out of range, where they are not :obj:`None`. A probability is in [0, 1); the entries of a
        :obj:`distinct` tuple differ.

        Raises:
            ValueError: With the field, the rule and what came.
        """
        for names, rule, holds in ((at_least_one, 'be at least 1', lambda x: x >= 1),
                                   (not_negative, 'not be negative', lambda x: x >= 0),
                                   (positive, 'be positive', lambda x: x > 0),
                                   (probability, 'be in [0, 1)', lambda x: 0 <= x < 1),
                                   (distinct, 'be distinct', lambda x: len(set(x)) == len(x))):
            for name in names:
                value = getattr(self, name)
                if value is not None and not holds(value):
                    raise ValueError(f"'{name}' must {rule} (got {reprlib.repr(value)})")


class _Refused(Exception):
    """The rule that a value breaks, and the value."""


@functools.cache
def _annotations(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in fields(cls)}


def _convert(value: Any, annotation: Any, largest: int) -> Any:
    """The value as the annotation has it."""
    origin, args = get_origin(annotation), get_args(annotation)
    got = f'(got {reprlib.repr(value)})'
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        kind, = (kind for kind in args if kind is not type(None))  # no other unions yet
        try:
            return _convert(value, kind, largest)
        except _Refused as refused:
            raise _Refused(str(refused).replace(' (got', ', or None (got', 1)) from None
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in args):
            raise _Refused(f"one of {', '.join(map(str, args))} (got {reprlib.repr(value)})")
        return value
    if annotation is tuple or origin is tuple:
        return _convert_tuple(value, annotation, args, largest, got)
    if annotation not in NOUNS:
        raise TypeError(f'a field of a configuration cannot be annotated {annotation}')
    if annotation in (int, float):
        return _convert_number(value, annotation, largest, got)
    if not isinstance(value, annotation) or (annotation is str and len(value) > LONGEST):
        raise _Refused(f'{NOUNS[annotation]} {got}')
    return value


def _convert_number(value: Any, kind: type, largest: int, got: str) -> int | float:
    try:
        if isinstance(value, bool | str):
            raise TypeError
        number: int | float = operator.index(value) if kind is int else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise _Refused(f'{NOUNS[kind]} {got}')
    if kind is int and abs(number) > largest:
        raise _Refused(f"at most {largest}{' in size' if number < 0 else ''} {got}")
    return number


def _convert_tuple(value: Any, annotation: Any, args: tuple, largest: int, got: str) -> tuple:
    endless = len(args) == 2 and args[1] is Ellipsis
    noun = 'a tuple' if not args else \
        f"a tuple of {'' if endless else f'{len(args)} '}{PLURALS.get(args[0], 'tuples')}"
    if not isinstance(value, list | tuple) or len(value) > LONGEST or (
            args and not endless and len(value) != len(args)):
        raise _Refused(f'{noun} {got}')
    if not args:
        return tuple(value)
    try:
        return tuple(_convert(entry, args[0 if endless else i], largest) for i, entry in enumerate(value))
    except _Refused as refused:
        raise _Refused(f'{noun}: each must be {refused}') from None
