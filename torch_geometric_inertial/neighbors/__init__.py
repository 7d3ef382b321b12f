r"""Pairs of points within a cutoff, in free space and in periodic systems, and sums over such pairs."""
from .edges import Edges, edge_dot, edge_sum
from .minimum_image import minimum_image
from .neighbor_list import neighbor_list, pairs_within
from .periodic import periodic_neighbor_list, plane_spacings, translations

__all__ = [
    'Edges',
    'edge_dot',
    'edge_sum',
    'minimum_image',
    'neighbor_list',
    'pairs_within',
    'periodic_neighbor_list',
    'plane_spacings',
    'translations',
]
