r"""Five charged particles in free space: the N-body problem that equivariant networks are compared on."""
from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch_geometric.data import Data

from torch_geometric_inertial.datasets.checked import CheckedInMemoryDataset

NUM_PARTICLES = 5
TIME_STEP = 1e-3
MAX_FORCE = 0.1 / TIME_STEP  #: Each Cartesian component of a force is cut off here.
INITIAL_SPEED = 0.5
BOX = 5.0  #: Initial positions beyond it are reflected; there are no walls later.
SEED = 43
NUM_FRAMES = 49  #: Frames that the original stores a trajectory; it draws (zero) noise for them.
INPUT_STEP, TARGET_STEP = 3100, 4100  #: Frames 30 and 40, one time unit apart.
DRAWN = dict(train=10_000, val=2_000, test=2_000)  #: Trajectories drawn a split, one stream of random numbers.
KEPT = dict(train=3_000, val=2_000, test=2_000)  #: Of which the protocol "nbody_small" uses the first.

#: SHA-256 of the float64 arrays of each split (see :func:`digest`), as simulated with OpenBLAS on x86-64.
SHA256 = dict(
    train='805ae9eae4d0a0f3a14199432ef19eebce3140510330ee9b221ee4a6e5ebfc10',
    val='c0744ff4256a60e239680d2df6d661b8f9d06b72bb107dd2b0c7074820139d6c',
    test='4aff95fc87966914ae5a0c4ae4d830b4e8359139b40667c39dc6fc661ae563db',
)


class Trajectories(NamedTuple):
    r"""Numpy arrays: charges [B, P], and the states [B, 3, P] at two times; forces cut off in between [B]."""
    charge: np.ndarray
    pos: np.ndarray
    vel: np.ndarray
    target: np.ndarray
    encounter: np.ndarray


def draw_initial(num: int, rng: np.random.RandomState) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Charges ±1 [num, P], positions from N(0, 1) and velocities of one speed [num, 3, P]."""
    charge, pos, vel = (np.empty((num, *shape, NUM_PARTICLES)) for shape in ((), (3, ), (3, )))
    for i in range(num):
        charge[i] = rng.choice([-1.0, 0.0, 1.0], size=(NUM_PARTICLES, 1), p=[0.5, 0, 0.5])[:, 0]
        pos[i] = rng.randn(3, NUM_PARTICLES)
        direction = rng.randn(3, NUM_PARTICLES)
        vel[i] = direction * INITIAL_SPEED / np.sqrt((direction**2).sum(axis=0))
        for _ in ('position', 'velocity'):  # observation noise of amplitude 0 in the original: it moves the stream on
            rng.randn(NUM_FRAMES, 3, NUM_PARTICLES)
    over, under = pos > BOX, pos < -BOX
    pos = np.where(over, 2 * BOX - pos, np.where(under, -2 * BOX - pos, pos))
    return charge, pos, np.where(over | under, -vel, vel)


def coulomb_forces(charge: np.ndarray, pos: np.ndarray) -> np.ndarray:
    r""":math:`F_i = \sum_{j \ne i} q_i q_j (x_i - x_j) / |x_i - x_j|^3`, [B, P] and [B, 3, P] to [B, 3, P].

    Squared distances are :math:`|a|^2 + |b|^2 - 2 a \cdot b` with a matrix product, as in the original. Close
    encounters amplify the last bit: any other order of operations changes one trajectory in twenty visibly.
    """
    rows = np.ascontiguousarray(pos.transpose(0, 2, 1))
    square = (rows**2).sum(axis=-1)
    distance2 = square[:, :, None] + square[:, None, :] - 2 * (rows @ pos)
    own = np.arange(pos.shape[-1])
    distance2[:, own, own] = 1
    strength = charge[:, :, None] * charge[:, None, :] / np.power(distance2, 1.5)
    strength[:, own, own] = 0
    force = [(strength * (pos[:, a, :, None] - pos[:, a, None, :])).sum(axis=-1) for a in range(3)]
    return np.stack(force, axis=1)


def simulate(charge: np.ndarray, pos: np.ndarray, vel: np.ndarray, chunk: int = 250) -> Trajectories:
    r"""Integrates by symplectic Euler steps of 0.001 up to step 4,100 and returns the states at 3,100 and 4,100.

    Args:
        charge: Charges [B, P].
        pos: Positions [B, 3, P].
        vel: Velocities [B, 3, P].
        chunk: Trajectories at a time, so that their arrays stay in the cache. (default: :obj:`250`)
    """
    parts = [_simulate(charge[i:i + chunk], pos[i:i + chunk], vel[i:i + chunk]) for i in range(0, len(charge), chunk)]
    return Trajectories(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _simulate(charge: np.ndarray, pos: np.ndarray, vel: np.ndarray) -> Trajectories:
    encounter = np.zeros(len(charge), dtype=bool)
    start: tuple[np.ndarray, np.ndarray] | None = None
    force = coulomb_forces(charge, pos)
    for step in range(1, TARGET_STEP + 1):
        vel = vel + TIME_STEP * force.clip(-MAX_FORCE, MAX_FORCE)
        pos = pos + TIME_STEP * vel
        if step == INPUT_STEP:
            start = pos, vel
        force = coulomb_forces(charge, pos)
        if start is not None:
            encounter |= (np.abs(force) > MAX_FORCE).any(axis=(1, 2))
    assert start is not None
    return Trajectories(charge, *start, pos, encounter)


def digest(data: Trajectories) -> str:
    r"""SHA-256 of charges, positions, velocities and targets, little-endian float64 in that order."""
    total = hashlib.sha256()
    for array in data[:4]:
        total.update(np.ascontiguousarray(array, dtype='<f8').tobytes())
    return total.hexdigest()


def generate_splits() -> Iterator[tuple[str, Trajectories]]:
    r"""The three splits of the published protocol, from one stream of random numbers (half a minute)."""
    rng = np.random.RandomState(SEED)  # the protocol's own generator; global state is not touched
    for split, num in DRAWN.items():
        initial = draw_initial(num, rng)
        charge, pos, vel = (array[:KEPT[split]] for array in initial)
        data = simulate(charge, pos, vel)
        if digest(data) != SHA256[split]:
            warnings.warn(
                f"the simulated {split} split differs in the last bits from the one that published figures of this "
                "package refer to (another BLAS); close encounters amplify that in one trajectory of twenty",
                stacklevel=2,
            )
        yield split, data


class NBody(CheckedInMemoryDataset):
    r"""Charged particles: from positions and velocities, predict the positions one time unit later.

    The protocol "nbody_small" of EGNN (Satorras et al. 2021), which SEGNN, CGENN, PONITA and GeoMFormer (arXiv:
    2406.16853, Table 6) report on: 3,000 / 2,000 / 2,000 trajectories of 5 unit masses with charges ±1, simulated here
    (nothing is downloaded). Each item is a :class:`~torch_geometric.data.Data` with :obj:`pos` [5, 3], :obj:`vel`
    [5, 3], :obj:`charge` [5] (±1), :obj:`z` [5] (0 for negative, 1 for positive), the target positions :obj:`y` [5, 3]
    and :obj:`encounter` [1]: whether a force was cut off between input and target.

    Args:
        root: Folder where the simulated splits are kept.
        split: :obj:`'train'`, :obj:`'val'` or :obj:`'test'`.
        transform: Applied to an item whenever it is read.
        pre_transform: Applied to every item once, before it is stored.
        pre_filter: Which items to keep.
    """
    def __init__(
        self,
        root: str,
        split: str = 'train',
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
    ):
        if split not in DRAWN:
            raise ValueError(f"'split' must be 'train', 'val' or 'test' (got '{split}')")
        super().__init__(root, transform, pre_transform, pre_filter)
        self.load_checked(self.processed_paths[list(DRAWN).index(split)])

    @property
    def processed_file_names(self) -> list[str]:
        return [f'n_body_{split}.pt' for split in DRAWN]

    def process(self) -> None:
        for (_, data), path in zip(generate_splits(), self.processed_paths, strict=True):
            items = [_item(*row) for row in zip(*data, strict=True)]
            if self.pre_filter is not None:
                items = [item for item in items if self.pre_filter(item)]
            if self.pre_transform is not None:
                items = [self.pre_transform(item) for item in items]
            self.save(items, path)


def _item(charge: np.ndarray, pos: np.ndarray, vel: np.ndarray, target: np.ndarray, encounter: np.bool_) -> Data:
    q = torch.from_numpy(charge).float()
    x, v, y = (torch.from_numpy(array.T.copy()).float() for array in (pos, vel, target))
    return Data(z=(q > 0).long(), charge=q, pos=x, vel=v, y=y, encounter=torch.tensor([bool(encounter)]))
