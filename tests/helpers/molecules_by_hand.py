r"""Molecules whose verdicts can be worked out by hand."""
import torch
from torch_geometric.data import Data


def molecule(z, pos, **fields):
    return Data(z=torch.tensor(z), pos=torch.tensor(pos, dtype=torch.float64), **fields)


def shifted(data, x):
    return molecule(data.z.tolist(), (data.pos + torch.tensor([x, 0, 0])).tolist())


def joined(a, b):
    return molecule(a.z.tolist() + b.z.tolist(), a.pos.tolist() + b.pos.tolist())


METHANE = molecule([6, 1, 1, 1, 1], [
    [0, 0, 0], [.63, .63, .63], [-.63, -.63, .63], [-.63, .63, -.63], [.63, -.63, -.63],
])
WATER = molecule([8, 1, 1], [[0, 0, 0], [.96, 0, 0], [-.24, .93, 0]])
HCN = molecule([1, 6, 7], [[-1.07, 0, 0], [0, 0, 0], [1.15, 0, 0]])
CO2 = molecule([8, 6, 8], [[-1.17, 0, 0], [0, 0, 0], [1.17, 0, 0]])
#: One hydrogen short: carbon is unstable, RDKit lets it pass by adding one.
METHYL = molecule(METHANE.z[:4].tolist(), METHANE.pos[:4].tolist())
#: One hydrogen too many: carbon has five bonds, RDKit refuses.
CH5 = molecule([6, 1, 1, 1, 1, 1], [*METHANE.pos.tolist(), [0, 0, 1.09]])
TWO_WATERS = joined(WATER, shifted(WATER, 5.0))
METHANE_AND_WATER = joined(WATER, shifted(METHANE, 5.0))
UNFINISHED = molecule([8, 1, 1], WATER.pos.tolist(), finished=False)
FINISHED = molecule([8, 1, 1], WATER.pos.tolist(), finished=torch.tensor([True]))
NOT_FINITE = molecule([8, 1, 1], [[0, 0, 0], [.96, 0, 0], [float('nan'), 0, 0]])
UNKNOWN = molecule([10, 1, 1], WATER.pos.tolist())
COINCIDENT = molecule([8, 1, 1, 1], [*WATER.pos.tolist(), [.97, 0, 0]])
CARBON = molecule([6], [[0, 0, 0]])
EMPTY = Data(z=torch.empty(0, dtype=torch.long), pos=torch.empty(0, 3))

#: name -> (molecule, stable atoms, stable, status, connected, SMILES)
BY_HAND = {
    'methane': (METHANE, 5, True, 'ok', True, '[H]C([H])([H])[H]'),
    'water': (WATER, 3, True, 'ok', True, '[H]O[H]'),
    'finished': (FINISHED, 3, True, 'ok', True, '[H]O[H]'),
    'hydrogen cyanide': (HCN, 3, True, 'ok', True, '[H]C#N'),
    'carbon dioxide': (CO2, 3, True, 'ok', True, 'O=C=O'),
    'methyl': (METHYL, 3, False, 'radical', True, '[H]C([H])[H]'),
    'CH5': (CH5, 5, False, 'valence', True, None),
    'two waters': (TWO_WATERS, 6, True, 'disconnected', False, '[H]O[H]'),
    'methane and water': (METHANE_AND_WATER, 8, True, 'disconnected', False, '[H]C([H])([H])[H]'),
    'unfinished': (UNFINISHED, 3, False, 'unfinished', False, None),
    'not finite': (NOT_FINITE, 1, False, 'not_finite', False, None),
    'unknown element': (UNKNOWN, 0, False, 'unknown_element', False, None),
    'coincident': (COINCIDENT, 1, False, 'clash', False, None),
    'one atom': (CARBON, 0, False, 'radical', True, None),
    'empty': (EMPTY, 0, False, 'empty', False, None),
    'missing': (None, 0, False, 'missing', False, None),
}
