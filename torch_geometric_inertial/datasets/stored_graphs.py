r"""PyG items that others pickled, read without running what else a pickle could run."""
from __future__ import annotations

import io
import pickle
from typing import Any

import torch

#: What a stored item may name besides classes of PyG: tensors and numbers.
ALLOWED = {
    ('collections', 'OrderedDict'),
    ('numpy', 'dtype'),
    ('numpy', 'ndarray'),
    ('numpy._core.multiarray', '_reconstruct'),
    ('numpy._core.multiarray', 'scalar'),
    ('numpy.core.multiarray', '_reconstruct'),
    ('numpy.core.multiarray', 'scalar'),
    ('torch', 'Size'),
    ('torch._utils', '_rebuild_tensor_v2'),
}


class StoredObject:
    r"""Stands in for any class of PyG: has the attributes that were stored and no code."""


def stored_fields(item: bytes | memoryview) -> dict[str, Any]:
    r"""The fields of a pickled :class:`~torch_geometric.data.Data` that are not :obj:`None`.

    PyG up to 1.7 stored them as attributes of the item, PyG from 2.0 in a storage of its own, and neither loads the
    other. This reads both, whichever PyG is installed.

    Raises:
        ValueError: If it is no such item, is damaged, or names anything but tensors and numbers.
    """
    stored = load_stored(item)
    if not isinstance(stored, StoredObject):
        raise ValueError(f"the item must be a pickled Data of PyG (got {type(stored).__name__})")
    fields = vars(stored)
    if '_store' in fields:
        fields = vars(fields['_store']).get('_mapping', {})
    return {name: value for name, value in fields.items() if value is not None and not name.startswith('_')}


def load_stored(item: bytes | memoryview) -> Any:
    r"""What was pickled, with :class:`StoredObject` for classes of PyG; see :func:`stored_fields`."""
    try:
        return _Unpickler(io.BytesIO(item)).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, TypeError, RuntimeError, KeyError,
            OverflowError, ImportError, MemoryError, AssertionError, UnicodeError) as error:
        raise ValueError(f"the item is damaged, or no pickle of a Data: {error}") from error


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == 'torch_geometric.data' or module.startswith('torch_geometric.data.'):
            return StoredObject
        if (module, name) == ('torch.storage', '_load_from_bytes'):
            return _storage
        if (module, name) not in ALLOWED:
            raise ValueError(f"a stored item may hold tensors and numbers alone (got '{module}.{name}', which a pickle "
                             "could run)")
        return super().find_class(module, name)


def _storage(stored: bytes) -> Any:
    """PyTorch's own reader of a storage would unpickle anything."""
    return torch.load(io.BytesIO(stored), map_location='cpu', weights_only=True)
