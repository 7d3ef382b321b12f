r"""What the arguments of a predictor must be; each function refuses the rest with a :obj:`ValueError`."""
from __future__ import annotations

import torch
from torch import Tensor

from torch_geometric_inertial.models.predictor_config import PredictorConfig

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
#: Of an atom from its molecule's centroid, Å: nothing is that large, and a search for neighbors could not number the
#: cells beyond.
FARTHEST = 1e5


def check_shapes(z: Tensor, pos: Tensor, batch: Tensor | None, edge_index: Tensor | None,
                 edge_offset: Tensor | None) -> Tensor:
    r"""Shapes and types of what each molecule has; returns the molecule of each atom [N]."""
    if pos.dim() != 2 or pos.size(1) != 3 or not pos.is_floating_point():
        raise ValueError(f"'pos' must be floating point [N, 3] (got {list(pos.shape)}, {pos.dtype})")
    if z.shape != pos.shape[:1] or z.dtype not in INTEGERS:
        raise ValueError(f"'z' must be integers [{pos.size(0)}] (got {list(z.shape)}, {z.dtype})")
    if pos.size(0) == 0:
        raise ValueError("there must be at least one atom (got none)")
    batch = torch.zeros_like(z, dtype=torch.int64) if batch is None else batch
    if batch.shape != z.shape or batch.dtype != torch.int64:
        raise ValueError(f"'batch' must be int64 [{pos.size(0)}] (got {list(batch.shape)}, {batch.dtype})")
    if edge_index is not None and (edge_index.dim() != 2 or edge_index.size(0) != 2
                                   or edge_index.dtype not in INTEGERS):
        raise ValueError(f"'edge_index' must be integers [2, E] (got {list(edge_index.shape)}, {edge_index.dtype})")
    if edge_offset is not None and (edge_index is None or edge_offset.shape != (edge_index.size(1), 3)):
        raise ValueError(f"'edge_offset' must be [E, 3] with an 'edge_index' [2, E] (got {list(edge_offset.shape)})")
    return batch


def check_like_model(pos: Tensor, weight: Tensor) -> None:
    r"""Positions of the type and on the device of the model's weights."""
    if weight.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"the model must be in torch.float32 or torch.float64 (got {weight.dtype}); torch.autocast "
                         'computes in a shorter type')
    if pos.dtype != weight.dtype:
        raise ValueError(f"'pos' must be {weight.dtype}, as the model is (got {pos.dtype}); model.double() computes in "
                         "torch.float64")
    if pos.device != weight.device:
        raise ValueError(f"'pos' must be on {weight.device}, as the model is (got {pos.device})")


def check_values(pos: Tensor, vel: Tensor | None, batch: Tensor, edge_index: Tensor | None) -> None:
    r"""Numbers that are finite, molecules one after the other, edges within molecules."""
    for name, x in (('pos', pos), ('vel', vel)):
        if x is not None and not bool(x.isfinite().all()):
            raise ValueError(f"'{name}' must be finite (got {int((~x.isfinite()).sum())} entries that are not)")
    if bool((batch.diff() < 0).any()) or int(batch[0]) < 0:
        raise ValueError("'batch' must be sorted and not negative: the atoms of a molecule stand together "
                         f"(got {batch.tolist() if batch.numel() < 20 else 'another order'})")
    if edge_index is not None and edge_index.numel() > 0:
        if int(edge_index.amin()) < 0 or int(edge_index.amax()) >= pos.size(0):
            raise ValueError(f"'edge_index' must name atoms 0 to {pos.size(0) - 1} "
                             f"(got {int(edge_index.amin())} to {int(edge_index.amax())})")
        if bool((batch[edge_index[0]] != batch[edge_index[1]]).any()):
            raise ValueError("'edge_index' must join atoms of one molecule")


def check_extent(pos: Tensor) -> None:
    r"""Positions [N, 3] from the centroids of their molecules."""
    farthest = float(pos.detach().abs().amax())
    if farthest > FARTHEST:
        raise ValueError(f"'pos' must be within {FARTHEST:g} Å of the centroid of the molecule (got {farthest:.3g} Å)")


def check_velocity(vel: Tensor | None, pos: Tensor, config: PredictorConfig, model: str) -> None:
    r"""Velocities [N, 3] where the model reads them, and only there."""
    reads = config.velocity != 'none'
    if reads and vel is None:
        raise ValueError(f"'vel' must be given: this {model} reads velocities")
    if vel is not None and not reads:
        raise ValueError(f"'vel' must not be given: this {model} reads no velocities")
    if vel is not None and vel.shape != pos.shape:
        raise ValueError(f"'vel' must be {list(pos.shape)}, like 'pos' (got {list(vel.shape)})")


def check_tags(tags: Tensor | None, z: Tensor, count: int, model: str, validate: bool) -> None:
    r"""Tags [N] of 0 to :obj:`count` - 1 where the model reads them, and only there."""
    if (tags is not None) != (count > 0):
        raise ValueError(f"'tags' must be given: this {model} reads tags" if count else
                         f"'tags' must not be given: this {model} reads no tags")
    if tags is None:
        return
    if tags.shape != z.shape or tags.dtype not in INTEGERS:
        raise ValueError(f"'tags' must be integers [{z.size(0)}] (got {list(tags.shape)}, {tags.dtype})")
    if validate and bool(((tags < 0) | (tags >= count)).any()):
        raise ValueError(f"'tags' must be of 0 to {count - 1} (got {sorted(set(tags.tolist()))})")


def index_of_total(name: str, value: Tensor | None, known: tuple[int, ...], batch_size: int, model: str,
                   validate: bool) -> Tensor | None:
    r"""Where the charges or spins [B] of molecules stand among those that the model knows [B]."""
    if not known:
        if value is not None:
            raise ValueError(f"'{name}' must not be given: this {model} reads no {name}s")
        return None
    if value is None:
        raise ValueError(f"'{name}' must be given: this {model} reads {name}s")
    if value.shape != (batch_size, ) or value.dtype not in INTEGERS:
        raise ValueError(f"'{name}' must be integers [{batch_size}] (got {list(value.shape)}, {value.dtype})")
    match = value.unsqueeze(1) == torch.tensor(known, device=value.device)
    if validate and not bool(match.any(1).all()):
        raise ValueError(f"'{name}' must be of {list(known)} (got {sorted(set(value[~match.any(1)].tolist()))})")
    return match.int().argmax(1)


def check_lattice(cell: Tensor | None, pbc: Tensor | None, batch_size: int, pos: Tensor) -> tuple[Tensor, Tensor]:
    r"""The cells [B, 3, 3] and periods [B, 3] of all systems."""
    if cell is None or pbc is None:
        raise ValueError(f"'cell' and 'pbc' must be given together (got no '{'cell' if cell is None else 'pbc'}')")
    if cell.shape not in ((3, 3), (batch_size, 3, 3)) or not cell.is_floating_point():
        raise ValueError(f"'cell' must be floating point [{batch_size}, 3, 3] or [3, 3] "
                         f"(got {list(cell.shape)}, {cell.dtype})")
    if pbc.shape not in ((3, ), (batch_size, 3), (3 * batch_size, )) or pbc.dtype != torch.bool:
        raise ValueError(f"'pbc' must be bool [{batch_size}, 3] or [3] (got {list(pbc.shape)}, {pbc.dtype})")
    if not bool(cell.isfinite().all()):
        raise ValueError(f"'cell' must be finite (got {int((~cell.isfinite()).sum())} entries that are not)")
    return cell.to(pos.dtype).expand(batch_size, 3, 3), pbc.view(-1, 3).expand(batch_size, 3)
