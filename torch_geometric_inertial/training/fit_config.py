r"""How :func:`~torch_geometric_inertial.training.fit` trains."""
from __future__ import annotations

import ast
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True)
class FitConfig:
    r"""How to train.

    Args:
        num_steps (int): Optimizer steps in all.
        batch_size (int): Molecules per step, over all processes and accumulated parts.
        batch_atoms (int, optional): Atoms per step at most, in the place of :obj:`batch_size`: as many molecules as
            that holds, dealt out so that the processes have nearly the same number of atoms.
        lr (float): Peak learning rate of AdamW.
        min_lr (float): Where the cosine ends, as a fraction of :obj:`lr`.
        warmup_steps (int): Steps of linear warm-up, which takes a tenth of the budget at most.
        betas (tuple): Of AdamW.
        weight_decay (float): Of matrices; vectors have none.
        max_norm (float): Gradients are clipped to this norm.
        accumulate (int): Parts that a batch is split into, to save memory.
        ema_decay (float): Decay of the weight average, warmed up as :obj:`min(ema_decay, (1 + s) / (10 + s))`.
        precision (str): :obj:`'float32'` or :obj:`'bfloat16'` (autocast).
        seed (int): Seed of data order and noise.
        log_every (int): Steps between lines of the log.
        save_every (int): Steps between checkpoints.
        evaluate_every (int): Steps between evaluations; 0 for none.
        max_minutes (float, optional): Stop after this time, all runs together, with the learning rate annealed to it.

    Raises:
        ValueError: If a field is of another type or out of range.

    Example:
        >>> config = FitConfig(num_steps=10_000).with_words(['lr=1e-3', 'max_minutes=30'])
    """
    num_steps: int
    batch_size: int = 128
    batch_atoms: int | None = None
    lr: float = 2e-3
    min_lr: float = 0.01
    warmup_steps: int = 200
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 1e-4
    max_norm: float = 1.0
    accumulate: int = 1
    ema_decay: float = 0.999
    precision: str = 'float32'
    seed: int = 0
    log_every: int = 50
    save_every: int = 500
    evaluate_every: int = 0
    max_minutes: float | None = None

    def __post_init__(self):
        for field in fields(self):
            value, kind = getattr(self, field.name), str(field.type)
            if value is None and 'None' in kind:
                continue
            if kind.startswith('int') and (not isinstance(value, int) or isinstance(value, bool)):
                raise ValueError(f"'{field.name}' must be a whole number (got {value!r})")
            if kind.startswith('float') and (not isinstance(value, int | float) or isinstance(value, bool)):
                raise ValueError(f"'{field.name}' must be a number (got {value!r})")
            if kind.startswith('float') and math.isinf(value):
                raise ValueError(f"'{field.name}' must be finite (got {value!r})")
        if not (isinstance(self.betas, tuple | list) and len(self.betas) == 2
                and all(isinstance(beta, int | float) and 0 <= beta < 1 for beta in self.betas)):
            raise ValueError(f"'betas' must be two numbers in [0, 1) (got {self.betas!r})")
        object.__setattr__(self, 'betas', tuple(self.betas))
        for name in ('num_steps', 'batch_size', 'batch_atoms', 'accumulate', 'log_every', 'save_every'):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"'{name}' must be at least 1 (got {getattr(self, name)})")
        for name in ('warmup_steps', 'evaluate_every', 'weight_decay', 'min_lr'):
            if not getattr(self, name) >= 0:
                raise ValueError(f"'{name}' must not be negative (got {getattr(self, name)})")
        for name in ('lr', 'max_norm'):
            if not getattr(self, name) > 0:
                raise ValueError(f"'{name}' must be positive (got {getattr(self, name)})")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"'ema_decay' must be in [0, 1) (got {self.ema_decay})")
        if self.precision not in ('float32', 'bfloat16'):
            raise ValueError(f"'precision' must be 'float32' or 'bfloat16' (got '{self.precision}')")
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise ValueError(f"'max_minutes' must be positive (got {self.max_minutes})")

    @classmethod
    def preset(cls, name: str) -> FitConfig:
        r"""The schedule that GeoMFormer was trained with (arXiv:2406.16853): :obj:`'pcqm4mv2'`, :obj:`'molecule3d'`,
        :obj:`'oc20_is2re'` or :obj:`'oc20_is2rs'`. The learning rate falls along a cosine instead of a line.

        Raises:
            ValueError: If there is none of that name.
        """
        if name not in PRESETS:
            raise ValueError(f"'name' must be one of {', '.join(PRESETS)} (got '{name}')")
        return PRESETS[name]

    def with_words(self, words: Iterable[str]) -> FitConfig:
        r"""This configuration with the changes of a command line: words such as :obj:`'lr=1e-3'`.

        Raises:
            ValueError: If a word is no :obj:`field=value`, there is no such field, or the value is none of it.
        """
        changes = {}
        for word in words:
            name, _, value = word.partition('=')
            if name not in {field.name for field in fields(self)}:
                raise ValueError("'words' must be like 'lr=1e-3', with a field of FitConfig on the left "
                                 f"(got '{word}')")
            try:
                changes[name] = ast.literal_eval(value)
            except (ValueError, SyntaxError):
                changes[name] = value
        return replace(self, **changes)


_CONFORMERS = FitConfig(num_steps=1_500_000, batch_size=1024, lr=2e-4, warmup_steps=150_000, betas=(0.9, 0.999),
                        weight_decay=0.0, max_norm=5.0)
_OC20 = FitConfig(num_steps=1_000_000, batch_size=128, lr=2e-4, min_lr=0.0, warmup_steps=60_000, betas=(0.9, 0.98),
                  weight_decay=0.0, max_norm=5.0, ema_decay=0.9999)
PRESETS = {
    'pcqm4mv2': _CONFORMERS,
    'molecule3d': replace(_CONFORMERS, num_steps=1_000_000, lr=3e-4, warmup_steps=60_000),
    'oc20_is2re': _OC20,
    'oc20_is2rs': replace(_OC20, batch_size=64),
}
