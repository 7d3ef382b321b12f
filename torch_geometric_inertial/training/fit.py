r"""The training loop. Step s is a function of the state before it and (seed, s), so a run that was killed and resumed
takes the same steps as one that was not."""
from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torch_geometric.data import Data
from tqdm import tqdm

from torch_geometric_inertial.files import locked_folder, write_atomically
from torch_geometric_inertial.models.derivatives import outside_inference_mode
from torch_geometric_inertial.models.pretrained import Pretrained
from torch_geometric_inertial.models.training_domain import TrainingDomain
from torch_geometric_inertial.training.batches import AtomBatches, Batches, MoleculeBatches, mixed
from torch_geometric_inertial.training.checkpoint import checkpoints, load_checkpoint, remove_orphans, save_checkpoint
from torch_geometric_inertial.training.distributed import World, join_world
from torch_geometric_inertial.training.fit_config import FitConfig
from torch_geometric_inertial.training.identity import check_same, hash_of, identity_of
from torch_geometric_inertial.training.log import append_record, keep_records
from torch_geometric_inertial.training.stop import NAMES, StopSignal

RECORD_FILE, LOG_FILE = 'training.json', 'log.jsonl'
WARM_UP = 0.1  #: Share of the budget that the warm-up takes at most.


class TrainingSet(Protocol):
    r"""What :func:`fit` draws batches from, such as :class:`PackedMolecules` or :class:`PackedTargets`.

    A set that is not in memory may have :obj:`digest()`, the hash of its content, and :obj:`shuffled(generator)`, a
    random order [M] in which it is read fast. One with offsets :obj:`ptr` [M + 1] can be dealt out by atoms.
    """
    def __len__(self) -> int: ...

    def batch(self, index: Tensor) -> Data:
        r"""The molecules :obj:`index` [B], with :obj:`z`, :obj:`pos` and :obj:`ptr`."""
        ...


Evaluate = Callable[[nn.Module, int], dict[str, float]]
Augment = Callable[[Data, torch.Generator], Data]


def fit(model: nn.Module, data: TrainingSet, folder: str | Path, config: FitConfig, *, augment: Augment | None = None,
        evaluate: Evaluate | None = None, progress: bool = False, allow_reshard: bool = False) -> nn.Module:
    r"""Trains a model and returns the average of its weights (EMA), ready for use.

    If :obj:`folder` holds checkpoints of the same training, goes on from the newest good one. What was really done,
    steps, molecules and minutes, stands in :obj:`folder/training.json`, in :obj:`training_record` of the returned model
    and, beside the :obj:`training_domain` of sets in memory, in the :obj:`config.json` of its :obj:`save_pretrained`.

    SIGTERM and SIGINT (Ctrl-C) end the training after the step that is under way, with a checkpoint. After SIGTERM the
    function returns as usual, and :obj:`training_record['stopped_by']` says so; the command line exits with code 143.
    After SIGINT it raises :obj:`KeyboardInterrupt`.

    Over several processes (:obj:`torchrun`) the loss of a step is the mean over the molecules of all of them.

    Args:
        model (Module): :obj:`model(batch, generator)` returns named loss terms of which :obj:`total` is minimized, each
            a mean over the molecules of the batch; over its atoms if the model has :obj:`mean_over = 'atoms'`.
            :obj:`batch.progress` is the fraction of the training that is done, for weights that follow a schedule.
        data (TrainingSet): The molecules.
        folder (str or Path): Gets :obj:`checkpoint-*.pt`, :obj:`log.jsonl`, :obj:`training.json`; all processes see it.
        config (FitConfig): How to train.
        augment (callable, optional): Changes a batch before the model sees it: :obj:`augment(batch, generator)`.
        evaluate (callable, optional): Figures of the averaged model for the log: :obj:`evaluate(model, step)`.
        progress (bool): Whether to show a progress bar.
        allow_reshard (bool): Whether another number of processes may go on, with other steps. (default: :obj:`False`)

    Raises:
        FloatingPointError: If the loss or the gradient is not finite; :obj:`folder/not_finite.pt` holds the batch.
        ValueError: If the folder holds another training, or another process trains in it.
        OSError: If the last checkpoint cannot be written. One on the way is a warning: the one before is still there.
    """
    return outside_inference_mode(model, torch.enable_grad()(lambda: Fit(
        model, data, Path(folder), config, join_world(), augment, evaluate).run(progress, allow_reshard)))


class Fit:
    r"""The state of one training and the step that advances it; see :func:`fit`."""
    def __init__(self, model: nn.Module, data: TrainingSet, folder: Path, config: FitConfig, world: World,
                 augment: Augment | None, evaluate: Evaluate | None):
        self.num_parts, self.batch_size = world.size * config.accumulate, config.batch_size
        self.sizes = data.ptr.diff() if isinstance(getattr(data, 'ptr', None), Tensor) else None
        self.batches = self._batches(data, config)
        self.mean_over = getattr(model, 'mean_over', 'molecules')
        if self.mean_over not in ('molecules', 'atoms') or (self.mean_over == 'atoms' and self.sizes is None):
            raise ValueError("'mean_over' of the model must be 'molecules' or, with data that have 'ptr', 'atoms' "
                             f"(got '{self.mean_over}')")
        self.model, self.data, self.folder = model.to(world.device), data, folder
        self.domain = TrainingDomain.of_training_set(data)
        self.config, self.world, self.augment, self.evaluate = config, world, augment, evaluate
        matrices = [p for p in model.parameters() if p.dim() > 1]
        others = [p for p in model.parameters() if p.dim() <= 1]
        self.optimizer = torch.optim.AdamW(
            [dict(params=matrices, weight_decay=config.weight_decay), dict(params=others, weight_decay=0.0)],
            lr=config.lr, betas=config.betas, fused=True)
        # a predictor may have parts that its loss does not ask for
        self.parallel = model if world.size == 1 else DistributedDataParallel(model, find_unused_parameters=True)
        self.ema = AveragedModel(model)
        self.weights, self.averages = ([p.detach() for p in m.parameters()] for m in (model, self.ema.module))
        self.step, self.seconds, self.molecules_seen = 0, 0.0, 0
        self.saved_step, self.stopped_by, self.identity = -1, '', {}  # type: int, str, dict[str, Any]

    def _batches(self, data: TrainingSet, config: FitConfig) -> Batches:
        shuffle = getattr(data, 'shuffled', None)
        if config.batch_atoms is not None:
            if self.sizes is None:
                raise ValueError(f"'batch_atoms' needs data with offsets 'ptr' (got {type(data).__name__})")
            return AtomBatches(self.sizes, config.batch_atoms, config.seed, self.num_parts, shuffle)
        if config.batch_size % self.num_parts != 0:
            raise ValueError(f"'batch_size' must be a multiple of processes * accumulate = {self.num_parts} "
                             f"(got {config.batch_size})")
        self.batch_size = min(config.batch_size, len(data) // self.num_parts * self.num_parts)
        if self.batch_size == 0:
            raise ValueError(f"'data' must hold a molecule for each of processes * accumulate = {self.num_parts} parts "
                             f"(got {len(data)})")
        if self.batch_size < config.batch_size:
            warnings.warn(f"'batch_size' is {config.batch_size}, but there are {len(data)} molecules: each step takes "
                          f'{self.batch_size}', stacklevel=4)
        return MoleculeBatches(len(data), self.batch_size, config.seed, shuffle)

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

    def run(self, progress: bool, allow_reshard: bool) -> nn.Module:
        with ExitStack() as stack:
            self.resume(stack, allow_reshard)
            stop = stack.enter_context(StopSignal())
            self._steps(progress, stop)
            self.save(last=True)
        if 'SIGINT' in (stop.name, self.stopped_by):
            raise KeyboardInterrupt
        return self._averaged()

    def _steps(self, progress: bool, stop: StopSignal) -> None:
        total = self.config.num_steps if self.config.max_minutes is None else None  # time ends it, not steps
        bar = tqdm(total=total, initial=self.step, unit='step', smoothing=0.05,
                   disable=not progress or self.world.rank > 0)
        start = time.monotonic() - self.seconds
        losses: list[Tensor] = []
        for step in range(self.step, self.config.num_steps):
            self.stopped_by = self._agreed(stop)
            if self.stopped_by or self.fraction_done() >= 1:
                break
            losses.append(self.advance())
            self.step = step + 1
            self.seconds = time.monotonic() - start
            bar.update()
            if self.step % self.config.log_every == 0:
                mean = self._mean(torch.stack(losses).mean(dim=0)).tolist()
                losses.clear()
                self.log(dict(zip(self.names, mean, strict=True), lr=self.lr, seconds=round(self.seconds, 1)))
                bar.set_postfix(loss=f'{mean[0]:.3f}', done=f'{self.fraction_done():.0%}')
            if self.evaluate is not None and self.config.evaluate_every and (
                    self.step % self.config.evaluate_every == 0 and self.world.rank == 0):
                self.log(self.evaluate(self._averaged(), self.step))
            if self.step % self.config.save_every == 0:
                self.save()
        bar.close()

    def advance(self) -> Tensor:
        r"""One optimizer step; returns the loss terms, of this process."""
        with torch.random.fork_rng(devices=[self.world.device] if self.world.device.type == 'cuda' else []):
            seed = mixed(self.config.seed, self.step, self.world.rank)
            torch.manual_seed(seed)  # dropout; the caller's generator comes back with the context
            generator = torch.Generator(self.world.device).manual_seed(seed)
            self.parallel.train()
            terms = []
            progress = self.fraction_done()
            for index, weight in self.parts():
                batch = self.data.batch(index).to(self.world.device)
                batch.progress = progress
                if self.augment is not None:
                    batch = self.augment(batch, generator)
                with torch.autocast(self.world.device.type, torch.bfloat16, self.config.precision == 'bfloat16'):
                    loss = self.parallel(batch, generator)
                if not bool(loss.total.isfinite()):
                    self.stop_on(f'loss {float(loss.total.detach())}', batch, index)
                (weight * loss.total / self.config.accumulate).backward()
                self.names = loss._fields
                terms.append(weight * torch.stack([term.detach() for term in loss]))
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

    def parts(self) -> Iterator[tuple[Tensor, float]]:
        r"""This process's molecules of the step, in parts, each with its weight in the mean over all parts."""
        index = self.batches(self.step)
        self.molecules_seen += index.numel()
        parts = self.batches.parts(index, self.num_parts)
        for part in parts[self.world.rank::self.world.size]:
            yield part, self.num_parts * self._count(part) / self._count(index)

    def _count(self, index: Tensor) -> int:
        """Of what the loss is a mean over."""
        return index.numel() if self.sizes is None or self.mean_over == 'molecules' else int(self.sizes[index].sum())

    def fraction_done(self) -> float:
        r"""How much of the budget is spent, in steps or in time, whichever is further."""
        fraction = self.step / self.config.num_steps
        if self.config.max_minutes is not None:
            seconds = torch.tensor(self.seconds, device=self.world.device)
            if self.world.size > 1:
                torch.distributed.broadcast(seconds, 0)
            fraction = max(fraction, float(seconds) / (60 * self.config.max_minutes))
        return fraction

    def learning_rate(self) -> float:
        c, step, done = self.config, self.step + 1, self.fraction_done()
        cosine = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        warm = max(step / max(c.warmup_steps, 1), step / (WARM_UP * c.num_steps), done / WARM_UP)
        return c.lr * min(1.0, warm) * (c.min_lr + (1 - c.min_lr) * cosine)

    # What the processes agree on -------------------------------------------------------------------------------

    def _mean(self, terms: Tensor) -> Tensor:
        """The mean over processes."""
        if self.world.size > 1:
            torch.distributed.all_reduce(terms)
            terms /= self.world.size
        return terms

    def _agreed(self, stop: StopSignal) -> str:
        """The name of the signal that any of the processes was sent."""
        if self.world.size == 1:
            return stop.name
        code = torch.tensor(NAMES.index(stop.name), device=self.world.device)
        torch.distributed.all_reduce(code, torch.distributed.ReduceOp.MAX)
        return NAMES[int(code)]

    # What outlives the process ---------------------------------------------------------------------------------

    def record(self) -> dict[str, Any]:
        r"""What was done so far, by this training's own count."""
        c = self.config
        size = dict(batch_size=self.batch_size) if c.batch_atoms is None else dict(batch_atoms=c.batch_atoms)
        record = dict(steps=self.step, molecules=len(self.data), molecules_seen=self.molecules_seen, **size,
                      minutes=round(self.seconds / 60, 2), lr=c.lr, seed=c.seed, precision=c.precision,
                      processes=self.world.size, identity=hash_of(self.identity))
        return record | (dict(stopped_by=self.stopped_by) if self.stopped_by else {})

    def _averaged(self) -> nn.Module:
        """The averaged model in evaluation mode; what it saves of itself says how far it was trained, and on what."""
        for part in self.ema.module.modules():
            if isinstance(part, Pretrained):
                part.training_record, part.training_domain = self.record(), self.domain
        return self.ema.module.eval()

    def save(self, last: bool = False) -> None:
        if self.world.rank > 0 or self.step == self.saved_step:
            return
        state = dict(step=self.step, seconds=self.seconds, molecules_seen=self.molecules_seen,
                     model=self.model.state_dict(), ema=self.ema.state_dict(), optimizer=self.optimizer.state_dict(),
                     training=json.dumps(self.identity), config=json.dumps(asdict(self.config)))
        text = json.dumps(dict(done=self.record(), training=self.identity), indent=2) + '\n'
        try:
            save_checkpoint(state, self.folder)
            write_atomically(self.folder / RECORD_FILE, lambda path: path.write_text(text))
            self.saved_step = self.step
        except (OSError, RuntimeError) as error:  # PyTorch's writer raises the latter
            if last:
                raise OSError(f"the checkpoint of step {self.step} cannot be written to '{self.folder}' ({error}); the "
                              'one before is still there') from error
            warnings.warn(f"the checkpoint of step {self.step} cannot be written to '{self.folder}' ({error}); the "
                          'training goes on', stacklevel=2)

    def resume(self, stack: ExitStack, allow_reshard: bool) -> None:
        r"""Makes the folder this training's own and takes up its newest checkpoint, the same on all processes."""
        needs = ('step', 'seconds', 'molecules_seen', 'model', 'ema', 'optimizer', 'training')
        state: dict[str, Any] | None = None
        problem: Exception | None = None
        if self.world.rank == 0:
            try:
                stack.enter_context(locked_folder(self.folder))
                remove_orphans(self.folder)
                self.identity = identity_of(self.model, self.data, self.config, self.augment, self.world.size)
                state = load_checkpoint(self.folder, needs)
                if state is not None:
                    check_same(self.folder, json.loads(state['training']), self.identity, allow_reshard)
                self._forget_after(-1 if state is None else state['step'])
            except Exception as error:
                problem = error
        if self.world.size > 1:
            told: list[Any] = [str(problem or ''), None if state is None else state['step'], self.identity]
            torch.distributed.broadcast_object_list(told, device=self.world.device)
            self.identity = told[2]
            if self.world.rank > 0:
                if told[0]:
                    raise ValueError(told[0])
                with warnings.catch_warnings():
                    warnings.simplefilter('ignore')
                    state = load_checkpoint(self.folder, needs)
                if told[1] != (None if state is None else state['step']):
                    raise ValueError(f"all processes must see the same '{self.folder}' (the first goes on from step "
                                     f"{told[1]}, which is not what process {self.world.rank} finds there)")
        if problem is not None:
            raise problem
        if state is not None:
            self.model.load_state_dict(state['model'])
            self.ema.load_state_dict(state['ema'])
            self.optimizer.load_state_dict(state['optimizer'])
            self.step, self.seconds, self.molecules_seen = state['step'], state['seconds'], state['molecules_seen']
            self.saved_step = self.step

    def _forget_after(self, step: int) -> None:
        """What came after the checkpoint will be done again; checkpoints that were passed over are set aside."""
        for path in checkpoints(self.folder):
            if int(path.stem.split('-')[1]) > step >= 0:
                path.replace(path.with_name(f'{path.name}.damaged'))
        keep_records(self.folder / LOG_FILE, max(step, 0))

    def log(self, record: dict[str, float]) -> None:
        if self.world.rank == 0:
            append_record(self.folder / LOG_FILE, dict(step=self.step, **record))

    def stop_on(self, what: str, batch: Data, index: Tensor) -> None:
        name = 'not_finite.pt' if self.world.size == 1 else f'not_finite-{self.world.rank}.pt'
        state = dict(step=self.step, index=index, z=batch.z, pos=batch.pos, ptr=batch.ptr)
        path = write_atomically(self.folder / name, lambda temporary: torch.save(state, temporary))
        raise FloatingPointError(f"step {self.step}: {what}; the batch is in '{path}'")
