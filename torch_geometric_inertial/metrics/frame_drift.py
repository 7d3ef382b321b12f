r"""How far a generated molecule stands from its own canonical form."""
import torch
from torch import Tensor

from torch_geometric_inertial.frames import inertial_frames, to_frame
from torch_geometric_inertial.metrics.preflight import Molecules, screen
from torch_geometric_inertial.metrics.protocol import get_protocol
from torch_geometric_inertial.ops import segment_mean


def frame_drift(molecules: Molecules, protocol: str = 'edm-geom') -> Tensor:
    r"""RMSD (Å) between each molecule as it stands and the same molecule moved into its inertial frame,

    .. math:: d = \sqrt{\tfrac1N \sum_i \lVert r_i - R^\top (r_i - c) \rVert^2} .

    A model that writes molecules in their canonical frame should reach zero. The coordinates must be as the model
    wrote them.

    Args:
        molecules: Molecules with ``z`` [N] and ``pos`` [N, 3] (Å); :obj:`None` for a failed one.
        protocol: Whose elements are known; see :func:`protocol_names`.

    Returns:
        RMSD [B], float64; nan for a molecule that is missing, empty, unfinished, not finite or malformed.
    """
    z, pos, ptr, _, status, *_ = screen(molecules, get_protocol(protocol).elements)
    ok = torch.tensor([name == 'ok' for name in status], dtype=torch.bool)
    drift = torch.full((len(status),), float('nan'), dtype=torch.float64)
    sizes = ptr.diff()
    keep = torch.repeat_interleave(ok, sizes)
    if not keep.any():
        return drift
    z, pos, sizes = z[keep], pos[keep], sizes[ok]
    ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    moved = (pos - to_frame(pos, inertial_frames(pos, z, ptr), ptr)).square().sum(-1)
    drift[ok] = segment_mean(moved, ptr).sqrt()
    return drift
