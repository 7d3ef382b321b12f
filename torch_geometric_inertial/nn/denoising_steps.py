r"""A denoising network at conditions and noise levels that are known beforehand, as in sampling."""
from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from torch_geometric_inertial.nn.denoising_mlp import DenoisingMLP
from torch_geometric_inertial.nn.pair_field import NeighborContext, PairFieldSteps

ROWS = 256  #: Rows of a product that uses the machine well: that many (step, atom) pairs are modulated at a time.


class DenoisingSteps:
    r"""Evaluates a :class:`DenoisingMLP` step after step, in float32 or more, without gradients; what does not
    depend on the coordinate is computed once.

    An additive modulation is one product an atom and one table of the steps. The others are computed for several steps
    at a time, which reads the weights of their products less often.

    Args:
        network (DenoisingMLP): See there.
        noise_level (Tensor): :math:`\ln \sigma / 4` of the steps [S, 1].
        cond (Tensor): Conditions [T, W].
        neighbors (NeighborContext, optional): The atoms around.
    """
    def __init__(self, network: DenoisingMLP, noise_level: Tensor, cond: Tensor, neighbors: NeighborContext | None):
        self.network, self.cond = network, cond
        self.noise = network.noise_mlp(network.noise_fourier(noise_level))  # [S, W] or [S, 5W]
        self.field = None
        if network.field is not None and neighbors is not None:
            self.field = PairFieldSteps(network.field, noise_level, neighbors)
        first = network.coord_mlp[0]
        self.coord_bias = network.coord_linear.bias + first.bias
        self.coord_weight = network.coord_linear.weight.mT.contiguous(), first.weight.mT
        self.additive = network.modulation == 'additive'
        if self.additive:
            self._split_additive()
        else:
            self.chunk = max(1, ROWS // cond.size(0))
            self.start, self.table = -self.chunk, list[Tensor]()

    def __call__(self, step: int, u: Tensor, x: Tensor) -> Tensor:
        r"""Scaled coordinates [T, 3] and coordinates [T, 3] in Å to [T, 3]."""
        network, width = self.network, (self.network.channels, )
        e = torch.addmm(self.coord_bias, u, self.coord_weight[0])
        e.addmm_(network.coord_fourier(u), self.coord_weight[1])
        for layer in network.coord_mlp[1:]:
            e = layer(e)
        force = None
        if self.field is not None:
            message, force = self.field(step, x)
            e += message
        modulations = self._sums(step) if self.additive else self._products(step)
        for block in network.blocks:
            shift, scale, gate = next(modulations)
            h = nn.functional.layer_norm(e, width, eps=block.norm.eps)
            h = block.mlp[0](torch.addcmul(shift, h, scale, out=h))
            e.addcmul_(gate, block.mlp[2](nn.functional.silu(h, inplace=True)))
        shift, scale = next(modulations)
        h = nn.functional.layer_norm(e, width, eps=network.final_norm.eps)
        out = network.final_linear(torch.addcmul(shift, h, scale, out=h))
        return out if force is None else out.add_(force)

    def _split_additive(self) -> None:
        r"""Both summands of shift, scale (with the norm's own) and gate: of atoms [3, T, W], steps [S, 3, 1, W]."""
        network = self.network
        y, noise = nn.functional.silu(self.cond), self.noise.unflatten(-1, (5, 1, -1))
        self.of_atom, self.of_step = [], []
        for block, linear in zip(network.blocks, network.modulations, strict=True):
            atom, step = linear(y).unflatten(-1, (3, -1)).movedim(1, 0).contiguous(), noise[:, :3].clone()
            atom[1] += 1
            for part in (atom, step.movedim(1, 0)):  # (γ h + β)(1 + s) + b, h the norm without its γ and β
                part[0].addcmul_(part[1], block.norm.bias)
                part[1] *= block.norm.weight
            self.of_atom.append(atom)
            self.of_step.append(step)
        atom = network.final_modulation(y).unflatten(-1, (2, -1)).movedim(1, 0).contiguous()
        atom[1] += 1
        self.of_atom.append(atom)
        self.of_step.append(noise[:, 3:])
        self.sum = torch.empty_like(self.of_atom[0])

    def _sums(self, step: int) -> Iterator[tuple[Tensor, ...]]:
        for of_atom, of_step in zip(self.of_atom, self.of_step, strict=True):
            yield torch.add(of_atom, of_step[step], out=self.sum[:of_atom.size(0)]).unbind()

    def _products(self, step: int) -> Iterator[tuple[Tensor, ...]]:
        if not self.start <= step < self.start + self.chunk:
            self.start = step
            noise = self.noise[step:step + self.chunk].unsqueeze(1)
            self.table = list(self.network.modulate(self.cond, noise))
        blocks, final = self.table[:-1], self.table[-1]
        for block, modulation in zip(self.network.blocks, blocks, strict=True):
            shift, scale, gate = modulation[step - self.start].chunk(3, dim=-1)
            scale = 1 + scale
            yield torch.addcmul(shift, scale, block.norm.bias), scale.mul_(block.norm.weight), gate
        shift, scale = final[step - self.start].chunk(2, dim=-1)
        yield shift, 1 + scale
