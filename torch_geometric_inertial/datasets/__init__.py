r"""Sets of 3D molecules, of surfaces and of particles."""
from torch_geometric_inertial.datasets.arrow import ArrowMolecules
from torch_geometric_inertial.datasets.conformers import ConformerDataset
from torch_geometric_inertial.datasets.load_qm9 import load_qm9
from torch_geometric_inertial.datasets.molecule3d import Molecule3D
from torch_geometric_inertial.datasets.n_body import NBody
from torch_geometric_inertial.datasets.oc20 import OC20
from torch_geometric_inertial.datasets.pcqm4mv2 import PCQM4Mv2Conformers
from torch_geometric_inertial.datasets.prepare import prepare
from torch_geometric_inertial.datasets.qm9_sample import QM9Sample
from torch_geometric_inertial.datasets.qm9_split import gdb_ids, qm9_split
from torch_geometric_inertial.datasets.qm9_targets import EXTENSIVE, QM9_TARGETS, qm9_target
from torch_geometric_inertial.datasets.relaxations import guess_tags, read_relaxations
from torch_geometric_inertial.datasets.rmd17 import RevisedMD17

__all__ = [
    'EXTENSIVE',
    'OC20',
    'QM9_TARGETS',
    'ArrowMolecules',
    'ConformerDataset',
    'Molecule3D',
    'NBody',
    'PCQM4Mv2Conformers',
    'QM9Sample',
    'RevisedMD17',
    'gdb_ids',
    'guess_tags',
    'load_qm9',
    'prepare',
    'qm9_split',
    'qm9_target',
    'read_relaxations',
]
