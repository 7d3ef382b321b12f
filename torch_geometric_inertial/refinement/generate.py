r"""Molecules of which none fails: those that do are drawn again, and all may be relaxed."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from torch_geometric.data import Data
from tqdm import tqdm

from torch_geometric_inertial.metrics.evaluate import judge
from torch_geometric_inertial.metrics.protocol import get_protocol
from torch_geometric_inertial.models import AtomAutoregressor
from torch_geometric_inertial.refinement.relax import method_of, relax_items

KEEP = ('all', 'ok')
PROTOCOLS = ('edm-qm9', 'edm-geom')  #: Of models that write no bonds: the first that knows all their elements.
CHUNK = 256  #: Molecules that are judged together.
SEED_STEP = 1_000_003  #: Between attempts. Generators of PyTorch look at the last 32 bits of a seed alone.


@dataclass
class RefinementCounts:
    r"""What became of the molecules that were drawn.

    Attributes:
        drawn: How many were drawn.
        failed: Of those that failed, how many for which reason: a status of
            :data:`~torch_geometric_inertial.metrics.STATUSES`, or ``'not_relaxed'``.
        missing: The numbers of the molecules that failed in every attempt.
    """
    drawn: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    missing: set[int] = field(default_factory=set)

    @property
    def fraction_failed(self) -> float:
        r"""Of the molecules that were drawn, from 0 to 1."""
        return self.failed.total() / max(self.drawn, 1)

    def __str__(self) -> str:
        reasons = ', '.join(f'{count} {name}' for name, count in self.failed.most_common())
        return (f'{self.failed.total()} of {self.drawn} molecules drawn failed ({100 * self.fraction_failed:.1f} %'
                f'{": " + reasons if reasons else ""})')


def generate_refined(model: AtomAutoregressor, num_samples: int, *, keep: str = 'ok', relax: str | None = None,
                     progress: bool = False, **settings) -> tuple[list[Data], RefinementCounts]:
    r"""The molecules of :func:`stream_refined`, and what became of all that were drawn.

    Example:
        >>> molecules, counts = generate_refined(model, 100, relax='mmff')
    """
    counts = RefinementCounts()
    molecules = stream_refined(model, num_samples, keep=keep, relax=relax, counts=counts, **settings)
    return list(tqdm(molecules, total=num_samples, unit='mol', disable=not progress)), counts


def stream_refined(model: AtomAutoregressor, num_samples: int, *, keep: str = 'ok', relax: str | None = None,
                   attempts: int = 20, workers: int | None = None, counts: RefinementCounts | None = None,
                   shard: tuple[int, int] = (0, 1), seed: int = 0, **settings) -> Iterator[Data]:
    r"""Writes molecules one by one, in order. Those that fail are drawn again, and those that are written may be
    relaxed. Figures of such molecules are not those of the model: the fraction that failed is in the counts.

    Molecule :obj:`i` is that of the first attempt :obj:`k` that does not fail, which is molecule :obj:`i` of
    :meth:`~torch_geometric_inertial.AtomAutoregressor.stream` with the seed ``seed + 1_000_003 * k``: a function of
    :obj:`(seed, i)`, whatever the shard and the batch size.

    Args:
        model: The generator.
        num_samples: Number of molecules of all shards together.
        keep: ``'ok'``: molecules that are not ``ok`` are drawn again, by the protocol ``'bonds'`` where the model
            writes bonds, else by ``'edm-qm9'`` or, for more elements, ``'edm-geom'``; after the relaxation, too, which
            may break a bond or fail. ``'all'``: nothing is drawn again.
        relax: The method of :func:`relax`, ``'mmff'`` or ``'xtb'``.
        attempts: How often each is drawn before it is left out.
        workers: Processes to judge and to relax in. (default: one)
        counts: Where to count.
        shard, seed, settings: See :meth:`~torch_geometric_inertial.AtomAutoregressor.stream`.

    Yields:
        Data: What the model writes. With ``keep='ok'`` also ``attempt``, counted from 0. Relaxed, ``pos`` [N, 3] is at
        the minimum, ``pos_generated`` [N, 3] what the model wrote (Å), and there are ``energy_drop`` (kcal/mol) and
        ``rmsd`` (Å), which a molecule that could not be relaxed lacks.

    Raises:
        ValueError: On arguments out of range; in the end, if all attempts of all molecules failed.
        ImportError: Without RDKit, or without the packages of the method.
    """
    check_refinement(keep, relax, attempts=attempts, workers=workers)
    counts = RefinementCounts() if counts is None else counts
    model.stream(num_samples, shard=shard, seed=seed, **settings)  # refuses arguments before anything is drawn
    first, end = (num_samples * k // shard[1] for k in (shard[0], shard[0] + 1))
    return _refined(model, num_samples, range(first, end), keep, relax, attempts if keep == 'ok' else 1, workers,
                    counts, seed, settings)


def check_refinement(keep: str, relax: str | None, **numbers: int | None) -> None:
    r"""Refuses what :func:`stream_refined` cannot do.

    Raises:
        ValueError: On arguments out of range.
        ImportError: If a package that the relaxation needs is not there.
    """
    if keep not in KEEP:
        raise ValueError(f"'keep' must be one of {', '.join(KEEP)} (got {keep!r})")
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise ValueError(f"'{name}' must be at least 1 (got {value})")
    if relax is not None:
        method_of(relax)


def _refined(model: AtomAutoregressor, num_samples: int, numbers: range, keep: str, relax: str | None, attempts: int,
             workers: int | None, counts: RefinementCounts, seed: int, settings: dict) -> Iterator[Data]:
    written = 0
    for start in range(0, len(numbers), CHUNK):
        chunk = numbers[start:start + CHUNK]
        done: dict[int, Data] = {}
        for attempt in range(attempts):
            left = [i for i in chunk if i not in done]
            if not left:
                break
            drawn = list(model.stream(num_samples, index=left, seed=seed + SEED_STEP * attempt, **settings))
            counts.drawn += len(drawn)
            status, molecules = _refine(model, drawn, keep, relax, workers)
            counts.failed.update(name for name in status if name != 'ok')
            for i, name, data in zip(left, status, molecules, strict=True):
                if name == 'ok' or keep == 'all':
                    done[i] = data
                    if keep == 'ok':
                        data.attempt = attempt
        counts.missing.update(i for i in chunk if i not in done)
        written += len(done)
        yield from (done[i] for i in chunk if i in done)
    if not written and len(numbers):
        raise ValueError(f'no molecule is left after {attempts} attempts: {counts}')


def _refine(model: AtomAutoregressor, drawn: list[Data], keep: str, relax: str | None,
            workers: int | None) -> tuple[list[str], list[Data]]:
    r"""The status of each molecule, and the molecule, relaxed where that could be done."""
    status = _status(model, drawn, workers) if keep == 'ok' else ['ok'] * len(drawn)
    if relax is None:
        return status, drawn
    molecules, good = list(drawn), [i for i, name in enumerate(status) if name == 'ok']
    for i, data in zip(good, relax_items([drawn[i] for i in good], relax, workers), strict=True):
        if isinstance(data, Data):
            data.pos_generated = drawn[i].pos
            molecules[i] = data
        else:
            status[i] = 'not_relaxed'
    if keep == 'ok':
        good = [i for i in good if status[i] == 'ok']
        for i, name in zip(good, _status(model, [molecules[i] for i in good], workers), strict=True):
            status[i] = name
    return status, molecules


def _status(model: AtomAutoregressor, molecules: list[Data], workers: int | None) -> list[str]:
    if not molecules:
        return []
    if model.writes_bonds:
        name = 'bonds'
    else:
        name = next((name for name in PROTOCOLS if set(model.elements) <= set(get_protocol(name).elements)),
                    PROTOCOLS[-1])
    return list(judge(molecules, get_protocol(name), workers=workers).status)
