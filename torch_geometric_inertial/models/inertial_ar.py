r"""InertialAR (Li et al., arXiv:2510.27497): an autoregressive generator of molecules in their inertial frame."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torch_geometric_inertial.models.atom_transformer import Parts
from torch_geometric_inertial.models.autoregressor import AtomAutoregressor
from torch_geometric_inertial.models.generator_config import GeneratorConfig
from torch_geometric_inertial.nn.atom_embedding import AtomEmbedding, ReleasedAtomEmbedding
from torch_geometric_inertial.nn.condition import Condition
from torch_geometric_inertial.nn.denoising_mlp import MODULATIONS
from torch_geometric_inertial.nn.diffusion_head import DiffusionHead
from torch_geometric_inertial.nn.fourier import FourierFeatures
from torch_geometric_inertial.nn.geo_rope_geometry import GeoRoPEGeometry
from torch_geometric_inertial.nn.local_frame import LocalFrameBuilder
from torch_geometric_inertial.nn.nystrom import NystromFeatures, NystromKernel
from torch_geometric_inertial.nn.transformer_block import CausalStack


@dataclass(frozen=True)
class InertialARConfig(GeneratorConfig):
    r"""Everything that defines an :class:`InertialAR`, beside the fields of :class:`GeneratorConfig`.

    Args:
        order (str): The :class:`~torch_geometric_inertial.transforms.CanonicalOrder` that the model reads and writes.
        type_layers (int): Layers up to the type of the next atom.
        coord_layers (int): Layers from there to the condition of its place.
        modulation (str): How the condition and the noise level modulate the diffusion head, see
            :class:`~torch_geometric_inertial.nn.denoising_mlp.DenoisingMLP`: :obj:`'additive'` in the presets,
            :obj:`'each'` in :obj:`paper`, :obj:`'shared'` in the bundled weights.
        coordinate_target (str): See :class:`~torch_geometric_inertial.nn.LocalFrameBuilder`.
        num_neighbors (int): Atoms around the parent that the head is told of.
        environment_channels (int): Width of their messages; 0 for none (as without a parent).
        valence_channels (int): Width of the valence features; 0 for none.
        pair_channels (int): Width of the messages from the atoms around to a coordinate that is being denoised; 0 for
            none (as without a parent).
        fusion (str): See :class:`~torch_geometric_inertial.nn.GeoRoPEAttention`. :obj:`'heads'` (:obj:`paper`) comes
            with the rest of the released arrangement: its token embedding, a second stack that sees no geometry, and a
            diffusion head with 512 Fourier features per component.
        widths (tuple): Nyström kernel widths, Å.
        num_landmarks (int): Nyström landmarks.
    """
    type_layers: int = 3
    coord_layers: int = 2
    modulation: str = 'additive'
    coordinate_target: str = 'local'
    num_neighbors: int = 12
    environment_channels: int = 80
    valence_channels: int = 32
    pair_channels: int = 32
    fusion: str = 'score'
    widths: tuple[float, ...] = (1.0, 2.0, 4.0)
    num_landmarks: int = 128

    def __post_init__(self):
        super().__post_init__()
        self.check(at_least_one=('type_layers', 'coord_layers', 'num_neighbors', 'num_landmarks'),
                   not_negative=('environment_channels', 'valence_channels', 'pair_channels'))
        if self.modulation not in MODULATIONS:
            raise ValueError(f"'modulation' must be one of {', '.join(MODULATIONS)} (got '{self.modulation}')")
        if self.order not in ('smiles', 'heavy_first', 'rank'):
            raise ValueError(f"'order' must be 'smiles', 'heavy_first' or 'rank' (got '{self.order}')")


PRESETS = {
    'tiny': InertialARConfig(channels=128, heads=4, type_layers=3, coord_layers=1, head_channels=128, head_layers=3,
                             environment_channels=64, pair_channels=0),
    'small': InertialARConfig(),
    'base': InertialARConfig(channels=512, heads=8, type_layers=6, coord_layers=4, head_channels=512, head_layers=6,
                             environment_channels=256),
    'paper': InertialARConfig(elements=tuple(range(1, 119)), num_groups=1000, channels=1536, heads=24, type_layers=6,
                              coord_layers=6, head_channels=1536, head_layers=10, modulation='each',
                              coordinate_target='absolute', fusion='heads', widths=(1.5, ), num_landmarks=768,
                              sigma_data=1.4, noise_mean=-1.2, noise_std=1.2, context_noise=0.0, valence_channels=0,
                              coord_weight=4.0),
}
InertialARConfig.presets = PRESETS


class InertialAR(AtomAutoregressor):
    r"""Types by a causal transformer with GeoRoPE attention, places by a second one and a diffusion head.

    Reads molecules that :class:`~torch_geometric_inertial.InertialFrame` and
    :class:`~torch_geometric_inertial.CanonicalOrder` (:obj:`order=config.order`) have put into canonical form.

    Args:
        config (InertialARConfig, optional): The model; or give its fields as keywords.
    """
    config_class = InertialARConfig

    def __init__(self, config: InertialARConfig | None = None, **kwargs):
        c = InertialARConfig.of(config, kwargs)
        released = c.fusion == 'heads'
        num_types, head_size = len(c.elements) + 1, c.channels // c.heads
        frame_builder = LocalFrameBuilder(c.coordinate_target, c.num_neighbors)
        pair_channels = c.pair_channels if frame_builder.has_parent else 0
        if released:
            embedding: nn.Module = ReleasedAtomEmbedding(
                c.channels, num_types, c.max_atoms, NystromFeatures(c.widths, c.num_landmarks))
            geometry, coord_geometry = (GeoRoPEGeometry(head_size, None, rotary=rotary) for rotary in (True, False))
        else:
            embedding = AtomEmbedding(c.channels, num_types, c.max_atoms, frame_builder.has_parent)
            geometry = coord_geometry = GeoRoPEGeometry(head_size, NystromKernel(c.widths, c.num_landmarks))
        type_head = nn.Sequential(nn.RMSNorm(c.channels, eps=1e-5), nn.Linear(c.channels, c.channels, bias=False),
                                  nn.GELU(), nn.Linear(c.channels, num_types, bias=False))
        nn.init.zeros_(type_head[-1].weight)
        stack = dict(dropout=c.dropout, channels=c.channels, heads=c.heads)
        head: dict[str, Any] = {}
        if released:
            head = dict(coord_fourier=FourierFeatures(512, 0.1, 8.0), coord_layers=2,
                        noise_fourier=FourierFeatures(c.head_channels, 0.2, 8.0))
        super().__init__(
            Parts(
                embedding=embedding,
                condition=Condition(c.channels, c.num_groups, c.properties, c.condition_dropout, c.group_names),
                type_geometry=geometry,
                type_stack=CausalStack(c.type_layers, geometry=geometry, fusion=c.fusion, **stack),
                type_head=type_head,
                coord_geometry=coord_geometry,
                coord_stack=CausalStack(c.coord_layers, geometry=coord_geometry, **stack),
                frame_builder=frame_builder,
                head=DiffusionHead(c.head_channels, c.channels, c.head_layers, sigma_data=c.sigma_data,
                                   noise_mean=c.noise_mean, noise_std=c.noise_std,
                                   modulation=c.modulation, pair_channels=pair_channels, **head),
                skip=True,
                stop_place=False,
                environment_channels=c.environment_channels if frame_builder.has_parent else 0,
                valence_channels=c.valence_channels,
                pair_channels=pair_channels,
            ), c)

    @torch.no_grad()
    def fit_landmarks(self, pos: Tensor, *, seed: int = 0) -> InertialAR:
        r"""Puts the Nyström landmarks where atoms are: [N, 3] of the training set, in the canonical frame, Å."""
        for module in self.modules():
            if isinstance(module, NystromFeatures):
                module.fit(pos, seed=seed)
        return self

    def __repr__(self) -> str:
        total = sum(p.numel() for p in self.parameters())
        return f"{type(self).__name__}({total:,} parameters, coordinate_target='{self.config.coordinate_target}')"
