r"""The loss on molecules that a model does not learn from."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from torch_geometric_inertial.training.fit import Augment
from torch_geometric_inertial.training.packed import PackedMolecules


class ValidationLoss:
    r"""An :obj:`evaluate` of :func:`fit`: the terms of the loss, with :obj:`val_` before their names. The noise is the
    same each time, so that its values can be compared.

    Args:
        data (PackedMolecules): The molecules.
        augment (callable, optional): That of the training.
        batch_size (int): Molecules at a time. (default: :obj:`128`)
    """
    def __init__(self, data: PackedMolecules, augment: Augment | None = None, batch_size: int = 128):
        self.data, self.augment, self.batch_size = data, augment, batch_size

    @torch.no_grad()
    def __call__(self, model: nn.Module, step: int | None = None) -> dict[str, float]:
        device, training = next(model.parameters()).device, model.training
        generator = torch.Generator(device).manual_seed(0)
        model.eval()
        total: dict[str, float] = {}
        try:
            for index in torch.arange(len(self.data)).split(self.batch_size):
                batch = self.data.batch(index).to(device)
                loss = model(batch if self.augment is None else self.augment(batch, generator), generator)
                for name, term in zip(loss._fields, loss, strict=True):
                    total[f'val_{name}'] = total.get(f'val_{name}', 0.0) + index.numel() * float(term)
        finally:
            model.train(training)
        return {name: value / len(self.data) for name, value in total.items()}


def held_out(num: int, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    r"""The numbers of the molecules to learn from, and of those to be held out, drawn at random; both ascend.

    Raises:
        ValueError: If the fraction is not in [0, 1).
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"'validation' must be in [0, 1) (got {fraction})")
    order = torch.randperm(num, generator=torch.Generator().manual_seed(seed))
    out = int(fraction * num)
    return order[out:].sort().values, order[:out].sort().values
