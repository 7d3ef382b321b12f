r"""What is done with molecules once they are written: those that fail are drawn again, the others relax."""
from torch_geometric_inertial.refinement.generate import RefinementCounts, generate_refined, stream_refined
from torch_geometric_inertial.refinement.relax import RELAXATION_METHODS, relax

__all__ = ['RELAXATION_METHODS', 'RefinementCounts', 'generate_refined', 'relax', 'stream_refined']
