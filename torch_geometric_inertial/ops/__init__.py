r"""Tensor operators, each with a definition in plain PyTorch (``<op>_ref``)."""
from torch_geometric_inertial.ops.georope_attention import (
    georope_attention,
    georope_attention_ref,
    georope_gram,
    georope_gram_ref,
)
from torch_geometric_inertial.ops.georope_decode import (
    georope_decode,
    georope_decode_gram,
    georope_decode_gram_ref,
    georope_decode_ref,
)
from torch_geometric_inertial.ops.inverse_root import (
    inverse_root,
    inverse_root_newton_schulz,
    inverse_root_ref,
    sylvester,
)
from torch_geometric_inertial.ops.nystrom_features import nystrom_features, nystrom_features_ref
from torch_geometric_inertial.ops.pair_attention import pair_attention, pair_attention_ref
from torch_geometric_inertial.ops.rope_rotate import rope_rotate, rope_rotate_ref
from torch_geometric_inertial.ops.segment import segment_mean, segment_sum, segment_sum_ref
from torch_geometric_inertial.ops.whiten import whiten, whiten_ref

__all__ = [
    'georope_attention',
    'georope_attention_ref',
    'georope_decode',
    'georope_decode_gram',
    'georope_decode_gram_ref',
    'georope_decode_ref',
    'georope_gram',
    'georope_gram_ref',
    'inverse_root',
    'inverse_root_newton_schulz',
    'inverse_root_ref',
    'nystrom_features',
    'nystrom_features_ref',
    'pair_attention',
    'pair_attention_ref',
    'rope_rotate',
    'rope_rotate_ref',
    'segment_mean',
    'segment_sum',
    'segment_sum_ref',
    'sylvester',
    'whiten',
    'whiten_ref',
]
