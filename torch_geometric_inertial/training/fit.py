r"""The training loop. Step s is a function of the state before it and (seed, s), so a run that was killed and resumed
takes the same steps as one that was not."""
from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torch_geometric.data import Data
from tqdm import tqdm

from torch_geometric_inertial.files import write_atomically
from torch_geometric_inertial.training.checkpoint import load_checkpoint, save_checkpoint
from torch_geometric_inertial.training.distributed import World, join_world


class TrainingSet(Protocol):
    r"""What :func:`fit` draws batches from, such as :class:`PackedMolecules` or :class:`PackedTargets`."""
    def __len__(self) -> int: ...

    def batch(self, index: Tensor) -> Data:
        r"""The molecules :obj:`index` [B], with :obj:`z`, :obj:`pos` and :obj:`ptr`."""
        ...


@dataclass(frozen=True)
class FitConfig:
    r"""How to train.

    Args:
        num_steps (int): Optimiser steps in all.
        batch_size (int): Molecules a step, over all processes and accumulated parts.
        lr (float): Peak learning rate of AdamW.
        min_lr (float): Where the cosine ends, as a share of :obj:`lr`.
        warmup_steps (int): Steps of linear warm-up.
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
    """
    num_steps: int
    batch_size: int = 128
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
        object.__setattr__(self, 'betas', tuple(self.betas))
        for name in ('num_steps', 'batch_size', 'accumulate', 'log_every', 'save_every'):
            if getattr(self, name) < 1:
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


Evaluate = Callable[[nn.Module, int], dict[str, float]]
Augment = Callable[[Data, torch.Generator], Data]


def fit(model: nn.Module, data: TrainingSet, folder: str | Path, config: FitConfig, *,
        augment: Augment | None = None, evaluate: Evaluate | None = None, progress: bool = False) -> nn.Module:
    r"""Trains a model and returns the average of its weights (EMA), ready for use.

    If :obj:`folder` holds checkpoints of the same training, goes on from the newest.

    Args:
        model (Module): :obj:`model(batch, generator)` returns named loss terms of which :obj:`total` is minimised.
            :obj:`batch.progress` is the share of the training that is done, for weights that follow a schedule.
        data (TrainingSet): The molecules.
        folder (str or Path): Gets :obj:`checkpoint-*.pt` and :obj:`log.jsonl`.
        config (FitConfig): How to train.
        augment (callable, optional): Changes a batch before the model sees it: :obj:`augment(batch, generator)`.
        evaluate (callable, optional): Figures of the averaged model for the log: :obj:`evaluate(model, step)`.
        progress (bool): Whether to show a progress bar.

    Raises:
        FloatingPointError: If the loss or the gradient is not finite; :obj:`folder/not_finite.pt` holds the batch.
        ValueError: If the folder's checkpoint belongs to another training.
    """
    with join_world() as world:
        return Fit(model, data, Path(folder), config, world, augment, evaluate).run(progress)


class Fit:
    r"""The state of one training and the step that advances it; see :func:`fit`."""
    def __init__(self, model: nn.Module, data: TrainingSet, folder: Path, config: FitConfig, world: World,
                 augment: Augment | None, evaluate: Evaluate | None):
        if config.batch_size % (world.size * config.accumulate) != 0:
            raise ValueError(f"'batch_size' must be a multiple of processes * accumulate = "
                             f"{world.size * config.accumulate} (got {config.batch_size})")
        if len(data) < config.batch_size:
            raise ValueError(f"'batch_size' must be at most the number of molecules, {len(data)} "
                             f"(got {config.batch_size})")
        self.model, self.data, self.folder = model.to(world.device), data, folder
        self.config, self.world, self.augment, self.evaluate = config, world, augment, evaluate
        matrices = [p for p in model.parameters() if p.dim() > 1]
        others = [p for p in model.parameters() if p.dim() <= 1]
        self.optimizer = torch.optim.AdamW(
            [dict(params=matrices, weight_decay=config.weight_decay), dict(params=others, weight_decay=0.0)],
            lr=config.lr, betas=config.betas, fused=True)
        self.ema = AveragedModel(model)
        self.weights = [p.detach() for p in model.parameters()]
        self.averages = [p.detach() for p in self.ema.module.parameters()]
        self.step, self.seconds = 0, 0.0
        self.parallel = model if world.size == 1 else DistributedDataParallel(model)

    def update_average(self) -> None:
        r"""What :meth:`AveragedModel.update_parameters` does, without its sorting of the parameters in every step."""
        if int(self.ema.n_averaged) == 0:
            self.ema.update_parameters(self.model)
            return
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.averages, self.weights, 1 - decay)
        for average, buffer in zip(self.ema.module.buffers(), self.model.buffers(), strict=True):
            average.copy_(buffer)
        self.ema.n_averaged += 1

    def run(self, progress: bool) -> nn.Module:
        self.resume()
        total = self.config.num_steps if self.config.max_minutes is None else None  # time ends it, not steps
        bar = tqdm(total=total, initial=self.step, unit='step', smoothing=0.05,
                   disable=not progress or self.world.rank > 0)
        start = time.monotonic() - self.seconds
        losses: list[Tensor] = []
        for step in range(self.step, self.config.num_steps):
            if self.share_done() >= 1:
                break
            losses.append(self.advance())
            self.step = step + 1
            self.seconds = time.monotonic() - start
            bar.update()
            if self.step % self.config.log_every == 0:
                mean = torch.stack(losses).mean(dim=0).tolist()
                losses.clear()
                self.log(dict(zip(self.names, mean, strict=True), lr=self.lr, seconds=round(self.seconds, 1)))
                bar.set_postfix(loss=f'{mean[0]:.3f}')
            if self.evaluate is not None and self.config.evaluate_every and (
                    self.step % self.config.evaluate_every == 0 and self.world.rank == 0):
                self.log(self.evaluate(self.ema.module.eval(), self.step))
            if self.step % self.config.save_every == 0:
                self.save()
        bar.close()
        self.save()
        return self.ema.module.eval()

    def advance(self) -> Tensor:
        r"""One optimiser step; returns the loss terms."""
        with torch.random.fork_rng(devices=[self.world.device] if self.world.device.type == 'cuda' else []):
            seed = _mix(self.config.seed, self.step, self.world.rank)
            torch.manual_seed(seed)  # dropout; the caller's generator comes back with the context
            generator = torch.Generator(self.world.device).manual_seed(seed)
            self.parallel.train()
            terms = []
            progress = self.share_done()
            for index in self.indices():
                batch = self.data.batch(index).to(self.world.device)
                batch.progress = progress
                if self.augment is not None:
                    batch = self.augment(batch, generator)
                with torch.autocast(self.world.device.type, torch.bfloat16, self.config.precision == 'bfloat16'):
                    loss = self.parallel(batch, generator)
                if not bool(loss.total.isfinite()):
                    self.stop_on(f'loss {float(loss.total.detach())}', batch, index)
                (loss.total / self.config.accumulate).backward()
                self.names = loss._fields
                terms.append(torch.stack([term.detach() for term in loss]))
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = float(nn.utils.get_total_norm(gradients))
        if not math.isfinite(norm):
            self.stop_on(f'gradient norm {norm}', batch, index)
        if norm > self.config.max_norm:
            torch._foreach_mul_(gradients, self.config.max_norm / (norm + 1e-6))
        self.lr = self.learning_rate()
        for group in self.optimizer.param_groups:
            group['lr'] = self.lr
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.update_average()
        return torch.stack(terms).mean(dim=0)

    def indices(self) -> Iterator[Tensor]:
        r"""The molecules of this step, this process's share, in parts."""
        size, position = self.config.batch_size, self.step * self.config.batch_size
        per_epoch = len(self.data) // size * size  # the rest of an epoch's shuffle is left out
        epoch, offset = divmod(position, per_epoch)
        if getattr(self, '_epoch', None) != epoch:
            self._epoch = epoch
            generator = torch.Generator().manual_seed(_mix(self.config.seed, epoch, 0x0DD))
            self._order = torch.randperm(len(self.data), generator=generator)
        index = self._order[offset:offset + size]
        yield from index[self.world.rank::self.world.size].chunk(self.config.accumulate)

    def share_done(self) -> float:
        r"""How much of the budget is spent, in steps or in time, whichever is further."""
        share = self.step / self.config.num_steps
        if self.config.max_minutes is not None:
            seconds = torch.tensor(self.seconds, device=self.world.device)
            if self.world.size > 1:
                torch.distributed.broadcast(seconds, 0)
            share = max(share, float(seconds) / (60 * self.config.max_minutes))
        return share

    def learning_rate(self) -> float:
        c = self.config
        cosine = 0.5 * (1 + math.cos(math.pi * min(self.share_done(), 1.0)))
        return c.lr * min(1.0, (self.step + 1) / max(c.warmup_steps, 1)) * (c.min_lr + (1 - c.min_lr) * cosine)

    # What outlives the process ---------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return dict(step=self.step, seconds=self.seconds, seed=self.config.seed, batch_size=self.config.batch_size,
                    num_molecules=len(self.data), model=self.model.state_dict(), ema=self.ema.state_dict(),
                    optimizer=self.optimizer.state_dict(), config=json.dumps(asdict(self.config)))

    def save(self) -> None:
        if self.world.rank == 0:
            save_checkpoint(self.state(), self.folder)

    def resume(self) -> None:
        state = load_checkpoint(self.folder)
        if state is None:
            return
        for name, value in (('seed', self.config.seed), ('batch_size', self.config.batch_size),
                            ('num_molecules', len(self.data))):
            if state[name] != value:
                raise ValueError(f"'{self.folder}' holds a training with {name} = {state[name]} (got {value})")
        self.model.load_state_dict(state['model'])
        self.ema.load_state_dict(state['ema'])
        self.optimizer.load_state_dict(state['optimizer'])
        self.step, self.seconds = state['step'], state['seconds']
        log = self.folder / 'log.jsonl'
        if log.exists() and self.world.rank == 0:  # what came after the checkpoint will be done again
            lines = [line for line in log.read_text().splitlines(keepends=True)
                     if line.endswith('\n') and json.loads(line)['step'] <= self.step]  # the last may be torn
            write_atomically(log, lambda path: path.write_text(''.join(lines)))

    def log(self, record: dict[str, float]) -> None:
        if self.world.rank == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self.folder / 'log.jsonl', 'a') as file:
                file.write(json.dumps(dict(step=self.step, **record)) + '\n')

    def stop_on(self, what: str, batch: Data, index: Tensor) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / 'not_finite.pt'
        torch.save(dict(step=self.step, index=index, z=batch.z, pos=batch.pos, ptr=batch.ptr), path)
        raise FloatingPointError(f"step {self.step}: {what}; the batch is in '{path}'")


def _mix(*numbers: int) -> int:
    r"""A 63-bit seed from a few integers."""
    seed = 0
    for number in numbers:
        seed = (seed * 0x9E3779B97F4A7C15 + number + 0x7F4A7C15) % 2**63
        seed ^= seed >> 29
    return seed
