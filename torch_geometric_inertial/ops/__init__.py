r"""Tensor operators, each with a definition in plain PyTorch (``<op>_ref``)."""
from torch_geometric_inertial.ops.segment import segment_mean, segment_sum, segment_sum_ref

__all__ = ['segment_mean', 'segment_sum', 'segment_sum_ref']
