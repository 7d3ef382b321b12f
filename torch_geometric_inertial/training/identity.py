r"""What makes a training this one and no other, so that a folder is gone on with by its own training alone."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

#: Fields of the configuration that may change from run to run: how long, how often, and in how many parts.
FREE = ('num_steps', 'max_minutes', 'log_every', 'save_every', 'evaluate_every', 'accumulate')
SAMPLE = 256  #: Items that stand for a data set which is not in memory.


def identity_of(model: nn.Module, data: Any, config: Any, augment: Any, num_processes: int) -> dict[str, Any]:
    r"""Data, model, configuration and number of processes of a training, JSON-able.

    The data count by the hash of all their numbers (see :func:`digest_of`), the model by the names and shapes of its
    tensors, the configurations of its parts and the numbers that its outermost part keeps (the weights of a loss), the
    augmentation by its :obj:`repr`.
    """
    state = model.state_dict()
    shapes = [(name, list(tensor.shape), str(tensor.dtype)) for name, tensor in state.items()]
    found = dict(
        num_molecules=len(data),
        data=digest_of(data),
        **{name: value for name, value in asdict(config).items() if name not in FREE},
        processes=num_processes,
        model={name: part.config.to_dict() if hasattr(part.config, 'to_dict') else asdict(part.config)
               for name, part in model.named_modules() if _has_config(part)},
        settings={name: value for name, value in vars(model).items()
                  if not name.startswith('_') and isinstance(value, float | str | tuple)},
        parameters=f'{sum(t.numel() for t in state.values()):,} numbers in {len(state)} tensors '
                   f'({hashlib.sha256(json.dumps(shapes).encode()).hexdigest()[:12]})',
        augment=None if augment is None or ' at 0x' in repr(augment) else repr(augment))
    return json.loads(json.dumps(found, default=str))


def differences(there: dict[str, Any], here: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    r"""In which entries two identities differ: names, what stands there, and what was found here."""
    found = []
    for name in {**there, **here}:
        a, b = there.get(name), here.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += [('.'.join(filter(None, (name, inner))), *values) for inner, *values in differences(a, b)]
        elif json.dumps(a) != json.dumps(b):  # as text: one NaN is the other
            found.append((name, a, b))
    return found


def check_same(folder: Path, there: dict[str, Any], here: dict[str, Any], allow_reshard: bool) -> None:
    r"""Refuses to go on with the training of another identity.

    Args:
        folder (Path): Where it is, for messages.
        there (dict): The identity of the training in the folder.
        here (dict): That of the one that wants to go on.
        allow_reshard (bool): Whether another number of processes is none.

    Raises:
        ValueError: With what differs.
    """
    other = differences(there, here)
    if other and {name for name, *_ in other} == {'processes'}:
        if not allow_reshard:
            raise ValueError(f"'{folder}' holds a training with processes = {other[0][1]} (got {other[0][2]}): its "
                             'noise is drawn per process, so it would not take the steps that it would have taken; '
                             "start as many as before, or give 'allow_reshard'")
        return
    if other:
        found = ', '.join(f'{name} = {_short(a)} (got {_short(b)})' for name, a, b in other)
        raise ValueError(f"'{folder}' holds a training with {found}: choose another folder, or remove this one")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f'{text[:12]}…'


def hash_of(identity: dict[str, Any]) -> str:
    r"""A short name of an identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def digest_of(data: Any) -> str:
    r"""SHA-256 of a training set: what its :obj:`digest()` says if it has one, else of all tensors that it holds, else,
    for one on disk, of 256 of its items, evenly spread."""
    if hasattr(data, 'digest'):
        return str(data.digest())
    tensors = dict(_tensors('', vars(data)))
    if not tensors:
        index = torch.linspace(0, len(data) - 1, min(len(data), SAMPLE)).long()
        tensors = dict(_tensors('', data.batch(index).to_dict()))
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f'{name} {tensor.dtype} {list(tensor.shape)}\n'.encode())
        for rows in tensor.detach().reshape(-1 if tensor.dim() == 0 else tensor.shape).split(2**18):
            digest.update(rows.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _tensors(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _tensors(f'{name}.{key}', inner)


def _has_config(part: nn.Module) -> bool:
    config = getattr(part, 'config', None)
    return hasattr(config, 'to_dict') or (is_dataclass(config) and not isinstance(config, type))
