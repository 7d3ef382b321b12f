r"""What a molecule should be like, as the token that its sequence begins with."""
from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_inertial.nn.fourier import FourierFeatures

NUM_FEATURES = 32  # of a property's value: waves of 1/2 to 64 standard deviations


def conditions_of(data: Data) -> dict[str, Tensor]:
    r"""The conditions that a batch brings along: :obj:`groups` [B, G] and :obj:`properties` [B, P], where they are
    tensors. What a molecule file says of a molecule, under the same name, is none."""
    return {name: data[name] for name in ('groups', 'properties') if isinstance(data.get(name), Tensor)}


class Condition(nn.Module):
    r"""The token in slot 0: the sum of the embeddings of all that is asked for, or the null vector.

    A row that asks for nothing is the null vector. In training, groups and properties are left out at random, so that
    any subset can be asked for, and so is the whole condition, so that the null vector is that of all molecules. (A
    training molecule whose groups are all absent or left out is the empty sum, not null: such molecules would crowd
    there.)

    Args:
        channels (int): Size of a token.
        num_groups (int): Groups :math:`G`. (default: :obj:`0`)
        properties (tuple): Names of the properties, :math:`P` of them. (default: :obj:`()`)
        dropout (float): Probability that a molecule is trained with the null vector, and that a group or a property is
            left out of another. (default: :obj:`0.1`)
        group_names (tuple): Names of the groups, or none. (default: :obj:`()`)

    Shapes:
        - **conditions:** :obj:`groups` [B, G] (1 asked for, 0 not) and :obj:`properties` [B, P] in their own units (NaN
          not asked for, or not known); each may be missing
        - **output:** [B, C]

    Raises:
        ValueError: If the shapes do not match, or there are properties before :meth:`fit_properties`.
    """
    def __init__(self, channels: int, num_groups: int = 0, properties: tuple[str, ...] = (), dropout: float = 0.1,
                 group_names: tuple[str, ...] = ()):
        super().__init__()
        self.num_groups, self.property_names, self.group_names = num_groups, tuple(properties), tuple(group_names)
        self.dropout = dropout
        self.null = nn.Parameter(torch.empty(channels))
        self.groups = nn.Parameter(torch.empty(num_groups, channels)) if num_groups > 0 else None
        num = len(self.property_names)
        self.features = FourierFeatures(NUM_FEATURES, 0.5, 64.0)
        self.values = nn.Parameter(torch.empty(num, NUM_FEATURES, channels)) if num > 0 else None
        for name in ('mean', 'std', 'low', 'high'):  # of the training set
            self.register_buffer(f'property_{name}', torch.full((num, ), torch.nan) if num > 0 else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.null, std=0.3)
        if self.groups is not None:
            nn.init.normal_(self.groups, std=0.3)
        if self.values is not None:
            nn.init.normal_(self.values, std=0.3 / NUM_FEATURES**0.5)

    @property
    def has_null(self) -> bool:
        r"""Whether training shows the null vector, without which there is no unconditional model."""
        return self.dropout > 0 or (self.groups is None and self.values is None)

    @torch.no_grad()
    def fit_properties(self, properties: Tensor) -> Condition:
        r"""Takes mean, standard deviation and range from the properties [M, P] of the training set (NaN: not known).

        Raises:
            ValueError: If the shape does not match, or a property has fewer than two different finite values.
        """
        names = self.property_names
        if properties.dim() != 2 or properties.size(1) != len(names):
            raise ValueError(f"'properties' must be [M, {len(names)}], {', '.join(names) or 'none'} "
                             f"(got {tuple(properties.shape)})")
        for i, name in enumerate(names):
            known = properties[:, i].double()
            known = known[~known.isnan()]
            if not bool(known.isfinite().all()) or known.unique().numel() < 2:
                raise ValueError(f"property '{name}' must have two different values or more, all finite "
                                 f"(got {known.unique().tolist()[:4]})")
            for buffer, value in (('mean', known.mean()), ('std', known.std()), ('low', known.min()),
                                  ('high', known.max())):
                getattr(self, f'property_{buffer}')[i] = value
        return self

    def as_tensors(self, num_samples: int, groups: Tensor | Sequence[str] | str | None = None,
                   properties: Mapping[str, float | Tensor] | None = None) -> dict[str, Tensor] | None:
        r"""Conditions in the words of a user as the tensors that :meth:`forward` reads; :obj:`None` if there are none.

        Args:
            num_samples (int): Number of molecules.
            groups (Tensor or list, optional): 0/1, [G] for all or [num_samples, G]; or the name or names of those asked
                for.
            properties (dict, optional): Value by name, for all or [num_samples] (NaN: not asked for).

        Raises:
            ValueError: If a shape does not match, a group is not 0 or 1, a name is not known, or a value is infinite.

        Warns:
            UserWarning: If a value lies outside the range of the training set.
        """
        conditions = {}
        if groups is not None:
            multi_hot = groups if isinstance(groups, Tensor) else self._named_groups(groups)
            shape = (num_samples, self.num_groups)
            if multi_hot.shape not in (shape[1:], (1, *shape[1:]), shape):
                raise ValueError(f"'groups' must be [{self.num_groups}] or [{num_samples}, {self.num_groups}] "
                                 f"(got {tuple(multi_hot.shape)})")
            if not bool(((multi_hot == 0) | (multi_hot == 1)).all()):
                raise ValueError(f"'groups' must be 0 or 1 (got {multi_hot[(multi_hot != 0) & (multi_hot != 1)][0]})")
            conditions['groups'] = multi_hot.to(self.null).expand(shape)
        if properties:
            conditions['properties'] = self._named_values(num_samples, properties)
        return conditions or None

    def _named_groups(self, names: Sequence[str] | str) -> Tensor:
        names = [names] if isinstance(names, str) else names
        if not isinstance(names, Iterable):
            raise ValueError(f"'groups' must be a tensor of 0 and 1, a name or several names (got {names!r})")
        names = list(names)
        for name in names:
            if name not in self.group_names:
                known = ', '.join(self.group_names) or 'none by name'
                raise ValueError(f"the model does not know the group '{name}' (it knows {known})")
        return torch.tensor([float(name in names) for name in self.group_names])

    def _named_values(self, num_samples: int, properties: Mapping[str, float | Tensor]) -> Tensor:
        values = self.null.new_full((num_samples, len(self.property_names)), torch.nan)
        if not isinstance(properties, Mapping):
            raise ValueError(f"'properties' must be a dict of values by name (got {properties!r})")
        for name, value in properties.items():
            if name not in self.property_names:
                known = ', '.join(self.property_names) or 'none'
                raise ValueError(f"the model does not know the property '{name}' (it knows {known})")
            try:
                column = torch.as_tensor(value, dtype=values.dtype, device=values.device)
            except (TypeError, ValueError, RuntimeError):
                raise ValueError(f"property '{name}' must be a number or [{num_samples}] (got {value!r})") from None
            if column.shape not in ((), (1, ), (num_samples, )):
                raise ValueError(f"property '{name}' must be a number or [{num_samples}] (got {tuple(column.shape)})")
            if bool(column.isinf().any()):
                raise ValueError(f"property '{name}' must be finite (got {column[column.isinf()][0]:g})")
            i = self.property_names.index(name)
            low, high = float(self.property_low[i]), float(self.property_high[i])
            outside = column[(column < low) | (column > high)]
            if outside.numel() > 0:
                warnings.warn(f"{name} = {float(outside[0]):g} is outside the training range, {low:g} to {high:g}",
                              stacklevel=2)
            values[:, i] = column
        return values

    def forward(self, conditions: Mapping[str, Tensor] | None, batch_size: int,
                generator: torch.Generator | None = None) -> Tensor:
        null = self.null.expand(batch_size, -1)
        conditions = {} if conditions is None else conditions
        groups, values = conditions.get('groups'), conditions.get('properties')
        for name, x, num in (('groups', groups, self.num_groups), ('properties', values, len(self.property_names))):
            if x is not None and x.shape != (batch_size, num):
                raise ValueError(f"'{name}' must be [{batch_size}, {num}] (got {tuple(x.shape)})")
        if self.training:  # DistributedDataParallel wants every parameter to take part
            null = null + sum(0 * parameter.sum() for parameter in (self.groups, self.values) if parameter is not None)
        if groups is None and values is None:
            return null
        out, asked = torch.zeros_like(null), null.new_zeros(batch_size, 1, dtype=torch.bool)
        if groups is not None and self.groups is not None:
            chosen = groups.to(null.dtype) * self._keep(groups, generator)
            out = out + chosen @ self.groups
            asked = asked | (groups != 0).any(dim=1, keepdim=True) | self.training
        if values is not None and self.values is not None:
            if bool(self.property_std.isnan().any()):
                raise ValueError("the range of 'properties' is not known: 'fit_properties' comes first")
            known = ~values.isnan() & self._keep(values, generator)
            unit = (values - self.property_mean) / self.property_std
            features = self.features(unit.unsqueeze(-1)).where(known.unsqueeze(-1), 0).to(null.dtype)  # [B, P, F]
            out = out + torch.einsum('bpf,pfc->bc', features, self.values)
            asked = asked | known.any(dim=1, keepdim=True)
        if self.training:
            asked = asked & self._keep(asked, generator)
        return torch.where(asked, out, null)

    def _keep(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        r"""Which elements are not left out: all of them but in training."""
        if not self.training:
            return torch.ones_like(x, dtype=torch.bool)
        return torch.rand(x.shape, generator=generator, device=x.device, dtype=torch.float32) >= self.dropout

    def __repr__(self) -> str:
        names = ', '.join(self.property_names) or 'none'
        return f'{type(self).__name__}(num_groups={self.num_groups}, properties={names}, dropout={self.dropout})'
