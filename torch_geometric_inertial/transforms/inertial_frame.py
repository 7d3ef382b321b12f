r"""The canonical inertial frame of a molecule, as a transform."""
import copy

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from torch_geometric_inertial.chem.bonds import check_elements
from torch_geometric_inertial.data import check_edges, check_tensors, ptr_of, set_graph_level
from torch_geometric_inertial.elements import ATOMIC_MASSES
from torch_geometric_inertial.frames import Frames, check_apart, from_frame, inertial_frames, to_frame
from torch_geometric_inertial.transforms.worker_generator import WorkerGenerator

WEIGHTS = ('unit', 'mass')
AMBIGUITIES = ('first', 'sample')


@functional_transform('inertial_frame')
class InertialFrame(BaseTransform):
    r"""Moves :obj:`data.pos` into the canonical inertial frame of the molecule (functional name:
    :obj:`inertial_frame`).

    Origin is the centroid, axes are those of the inertia tensor by ascending moment, and the farthest atom off the
    y–z and x–z planes has :math:`x > 0` and :math:`y > 0`. Where this leaves a choice (atoms equally far, equal
    moments, planar and linear molecules), :func:`~torch_geometric_inertial.frames.inertial_frames` says how it is
    made. The result depends on the set :math:`\{(z_i, r_i)\}` alone, and mirror images stay distinct.

    Reads :obj:`pos` :math:`[N, 3]` and :obj:`z` :math:`[N]`. Writes :obj:`pos`, :obj:`center` :math:`[1, 3]`,
    :obj:`frame` :math:`[1, 3, 3]` (the axes are the columns, determinant +1) and :obj:`frame_margin` :math:`[1]`
    (how near the molecule is to another choice). Other fields are left as they are: a vector field :math:`v`, such
    as forces, follows by :obj:`v @ data.frame[0]`. Works on a :class:`~torch_geometric.data.Batch` all at once.

    Args:
        weight (str): :obj:`"unit"` (the paper) or :obj:`"mass"`: weights of the atoms in center and inertia tensor.
        ambiguity (str): :obj:`"first"` takes the best frame. :obj:`"sample"` draws evenly among the frames that lie
            within :obj:`spread` of the best one, an augmentation for molecules near a jump.
        spread (float): Relative width of the draw, in the units of :obj:`frame_margin`.
        generator (torch.Generator or int): Source of the draws, or a seed for one. In the workers of a data loader the
            draws also depend on worker and epoch: see
            :class:`~torch_geometric_inertial.transforms.worker_generator.WorkerGenerator`.

    Raises:
        ValueError: If an argument is not one of the above, :obj:`pos` or :obj:`z` is missing or has a wrong shape, a
            position is not finite or beyond 10⁶ Å, :obj:`z` is no element, two atoms are nearer than 0.4 Å, a molecule
            has no atoms, or an edge leaves its molecule.
    """

    def __init__(
        self,
        weight: str = 'unit',
        ambiguity: str = 'first',
        spread: float = 0.02,
        generator: torch.Generator | int = 0,
    ) -> None:
        if weight not in WEIGHTS:
            raise ValueError(f"'weight' must be one of {', '.join(map(repr, WEIGHTS))} (got {weight!r})")
        if ambiguity not in AMBIGUITIES:
            raise ValueError(f"'ambiguity' must be one of {', '.join(map(repr, AMBIGUITIES))} (got {ambiguity!r})")
        if not 0 <= spread <= 1:
            raise ValueError(f"'spread' must lie between 0 and 1 (got {spread})")
        self.weight, self.ambiguity, self.spread = weight, ambiguity, spread
        self.generator = WorkerGenerator(generator)

    def forward(self, data: Data) -> Data:
        pos, z, ptr = *check_atoms(data, self), ptr_of(data)
        if data.get('edge_index') is not None:
            check_edges(data.edge_index, ptr)
        mass = ATOMIC_MASSES.to(pos.device)[z.long()] if self.weight == 'mass' else None
        generator = self.generator() if self.ambiguity == 'sample' else None
        frames = inertial_frames(pos, z, ptr, mass, spread=self.spread, generator=generator)
        check_apart(pos, z, ptr)
        data.pos = to_frame(pos, frames, ptr)
        for name, value in zip(('center', 'frame', 'frame_margin'), frames, strict=True):
            set_graph_level(data, name, value.to(pos.dtype))
        return data

    @staticmethod
    def invert(data: Data) -> Data:
        r"""Returns a copy of :obj:`data` in the pose that it had before, without the fields of the frame."""
        for name in ('pos', 'center', 'frame'):
            if data.get(name) is None:
                raise ValueError(f"'InertialFrame.invert' needs 'data.{name}' (got {data})")
        data, ptr = copy.copy(data), ptr_of(data)
        frames = Frames(data.center, data.frame, data.center.new_zeros(len(data.center)))
        if len(frames.center) != ptr.numel() - 1:
            raise ValueError(f"'data.center' must hold one center for each of the {ptr.numel() - 1} molecules "
                             f'(got {len(frames.center)})')
        data.pos = from_frame(data.pos, frames, ptr)
        for name in ('center', 'frame', 'frame_margin'):
            if name in data:
                del data[name]
        return data

    def __repr__(self) -> str:
        return f'{type(self).__name__}(weight={self.weight!r}, ambiguity={self.ambiguity!r})'


def check_atoms(data: Data, transform: BaseTransform) -> tuple[Tensor, Tensor]:
    r"""Positions [N, 3] and atomic numbers [N] of the atoms, once it is sure that they are there."""
    name = type(transform).__name__
    if data.get('pos') is None:
        raise ValueError(f"'{name}' needs atom positions in 'data.pos' (got {data})")
    if data.get('z') is None:
        raise ValueError(f"'{name}' needs atomic numbers in 'data.z' (got {data})")
    if torch.is_tensor(data.pos) and data.pos.shape[:1] == (0, ):
        raise ValueError(f"'{name}' needs at least one atom (got {data})")
    check_tensors(data, f"'{name}'")
    check_elements(data.z)
    return data.pos, data.z
