r"""What the configurations of the models have in common."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields, replace
from typing import Any, ClassVar, TypeVar

Config = TypeVar('Config', bound='ModelConfig')


class ModelConfig:
    r"""Base of the frozen dataclasses that define a model."""
    presets: ClassVar[dict[str, Any]] = {}  #: Named sizes.

    @classmethod
    def preset(cls: type[Config], name: str, **changes) -> Config:
        r"""A named size, with :obj:`changes` to its fields.

        Raises:
            ValueError: If there is no preset of that name.
        """
        if name not in cls.presets:
            raise ValueError(f"'preset' must be one of {', '.join(cls.presets)} (got '{name}')")
        return replace(cls.presets[name], **changes)

    @classmethod
    def of(cls: type[Config], config: Config | None, changes: dict[str, Any]) -> Config:
        r"""The configuration itself, or the one with these fields: how a model's constructor is called.

        Raises:
            ValueError: If both are given, or a field is unknown.
        """
        if config is not None and changes:
            raise ValueError(f"give 'config' or its fields, not both (got {sorted(changes)})")
        unknown = set(changes) - {f.name for f in fields(cls)}  # type: ignore[arg-type]
        if unknown:
            raise ValueError(f"'{sorted(unknown)[0]}' is not a field of {cls.__name__}")
        return cls(**changes) if config is None else config

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload]

    def check(self, *, at_least_one: Iterable[str] = (), not_negative: Iterable[str] = (),
              positive: Iterable[str] = (), share: Iterable[str] = ()) -> None:
        r"""Refuses fields out of range; a share is in [0, 1).

        Raises:
            ValueError: With the field, the rule and what came.
        """
        for names, rule, holds in ((at_least_one, 'be at least 1', lambda x: x >= 1),
                                   (not_negative, 'not be negative', lambda x: x >= 0),
                                   (positive, 'be positive', lambda x: x > 0),
                                   (share, 'be in [0, 1)', lambda x: 0 <= x < 1)):
            for name in names:
                if not holds(getattr(self, name)):
                    raise ValueError(f"'{name}' must {rule} (got {getattr(self, name)})")

    def as_tuples(self, *names: str) -> None:
        r"""Turns lists, as JSON has them, into tuples."""
        for name in names:
            object.__setattr__(self, name, tuple(getattr(self, name)))
