r"""What a molecule has besides atoms and bonds: its title, and named numbers, truth values and texts."""
from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any

from torch import Tensor
from torch_geometric.data import Data

Value = bool | int | float | str
#: Fields of a molecule that have a place of their own in a file.
OWN = ('z', 'pos', 'edge_index', 'edge_attr', 'formal_charge', 'num_radical_electrons', 'isotope', 'cell', 'pbc',
       'energy', 'force', 'charge', 'title', 'finished', 'properties')


class Properties:
    r"""The named values of a molecule, ``data.properties``: reads like a dictionary.

    It is none, so that molecules with different properties can stand in one batch: of dictionaries, PyG's
    :class:`~torch_geometric.data.Batch` wants the same keys in all.
    """
    def __init__(self, values: Mapping[str, Value] | Properties | None = None):
        self._values: dict[str, Value] = {} if values is None else dict(values.items())

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __setitem__(self, name: str, value: Value) -> None:
        self._values[name] = value

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return self._values == (other._values if isinstance(other, Properties) else other)

    __hash__ = None  # type: ignore[assignment]

    def get(self, name: str, default: Any = None) -> Any:
        return self._values.get(name, default)

    def keys(self) -> KeysView[str]:
        return self._values.keys()

    def values(self) -> ValuesView[Value]:
        return self._values.values()

    def items(self) -> ItemsView[str, Value]:
        return self._values.items()

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self._values})'


def title_of(data: Data) -> str:
    r"""``data.title``, or else ``data.name`` (as PyG's QM9 has it), on one line; empty without either."""
    for field in ('title', 'name'):
        value = data.get(field)
        if isinstance(value, str):
            return ' '.join(value.split())
    return ''


def properties_of(data: Data, what: str = 'data') -> dict[str, Value]:
    r"""``data.properties``, and those other fields that are a number, a truth value or a text.

    Raises:
        ValueError: If a property is something else, or its name is none.
    """
    found: dict[str, Any] = {name: value for name, value in data.to_dict().items()
                             if isinstance(value, Value) and name not in OWN and name != 'name'}
    found |= dict((data.get('properties') or {}).items())
    for name, value in found.items():
        if not isinstance(name, str) or not name.strip() or any(mark in name for mark in '<>\n\r'):
            raise ValueError(f"{what}: the name of a property must be a text on one line without '<' and '>' "
                             f'(got {name!r})')
        if (isinstance(value, Tensor) and value.numel() == 1) or (hasattr(value, 'dtype') and value.size == 1):
            found[name] = value = value.item()
        if not isinstance(value, Value):
            raise ValueError(f"{what}: property '{name}' must be a number, a truth value or a text "
                             f'(got {type(value).__name__})')
    return found
