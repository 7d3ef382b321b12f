r"""What users call: molecules from a model, around a scaffold, with hydrogens, and how likely they are."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor
from torch_geometric.data import Data
from tqdm import tqdm

from torch_geometric_inertial.generation import GenerationRequest, SamplingConfig, Scaffold, generate_molecules
from torch_geometric_inertial.generation.scaffold import HYDROGENS
from torch_geometric_inertial.models.atom_transformer import AtomTransformer
from torch_geometric_inertial.models.log_likelihood import LogProb, log_prob, prefix_log_prob
from torch_geometric_inertial.models.pretrained import Pretrained


class AtomAutoregressor(Pretrained, AtomTransformer):
    r"""A generator that writes molecules atom by atom. Subclasses choose the
    :class:`~torch_geometric_inertial.models.atom_transformer.Parts` of the network; the writing is in
    :mod:`torch_geometric_inertial.generation`."""

    def generate(self, num_samples: int, *, progress: bool = False, **settings) -> list[Data]:
        r"""Writes molecules. Molecule :obj:`i` is a function of :obj:`(seed, i)`, whatever the batch size, up to the
        rounding of float32 matrix products, which the flow amplifies: with the weights of the package positions of most
        molecules agree to 1e-3 Å, of nearly all to 2e-2 Å, and seldom a draw on the edge falls to the other side.

        Args:
            num_samples (int): Number of molecules.
            progress (bool): Whether to show a progress bar.
            **settings: Of :meth:`stream`.

        Returns:
            list: :class:`~torch_geometric.data.Data` with :obj:`z` [N], :obj:`pos` [N, 3] (Å) and :obj:`finished`.

        Raises:
            ValueError: On arguments out of range.
        """
        molecules = self.stream(num_samples, **settings)
        return list(tqdm(molecules, total=num_samples, unit='mol', disable=not progress))

    def stream(self, num_samples: int, *, groups: Tensor | list[str] | None = None, properties: dict | None = None,
               seed: int = 0, batch_size: int | None = None, max_atoms: int | None = None,
               shard: tuple[int, int] = (0, 1), **sampling) -> Iterator[Data]:
        r"""The molecules of :meth:`generate` one by one, in order; only those being written are in memory.

        Args:
            num_samples (int): Number of molecules of all shards together.
            groups (Tensor or list, optional): Groups asked for, 0/1, [G] for all or [num_samples, G], or their names;
                unconditional if :obj:`None`.
            properties (dict, optional): Values asked for by name, a number for all or [num_samples]; outside the range
                of the training set, warns.
            seed (int): Seed. (default: :obj:`0`)
            batch_size (int, optional): Molecules at a time, halved when memory runs out. (default: :obj:`512`, on a
                GPU :obj:`2048`)
            max_atoms (int, optional): Molecules that reach it are returned as they are, :obj:`finished=False`.
            shard (tuple): :math:`(i, n)`: the i-th of n consecutive parts; the parts in order are the whole.
            **sampling: :obj:`temperature`, :obj:`top_p`, :obj:`num_steps`, :obj:`solver` and :obj:`guidance_scale`, see
                :class:`~torch_geometric_inertial.generation.SamplingConfig`.

        Raises:
            ValueError: On arguments out of range.
        """
        i, n = shard
        if not 0 <= i < n:
            raise ValueError(f"'shard' must be (i, n) with 0 <= i < n (got {tuple(shard)})")
        max_atoms = self._length_limit(max_atoms)
        index = range(num_samples * i // n, num_samples * (i + 1) // n)
        config = self._sampling_config(groups, properties, sampling)
        requests = self._requests(num_samples, index, max_atoms, groups, properties)
        return generate_molecules(self, requests, config, seed=seed, batch_size=batch_size, max_atoms=max_atoms)

    def complete(self, scaffold: Data, num_samples: int = 1, *, groups: Tensor | list[str] | None = None,
                 properties: dict | None = None, seed: int = 0, batch_size: int | None = None,
                 max_atoms: int | None = None, num_poses: int = 8, progress: bool = False, **sampling) -> list[Data]:
        r"""Writes molecules around a scaffold, whose atoms stay where they are. Hydrogens that it lacks are written
        by the model, those that it has are kept.

        The model knows whole molecules in a frame of their own, and the frame of a part is not that of the whole. So
        the rigid motion :math:`g` that takes the scaffold there, and the order :math:`\pi` of its atoms, are drawn
        from their posterior :math:`p(g, \pi \mid \text{scaffold}) \propto p(\text{scaffold at } g \text{ in order }
        \pi)\, q(g, \pi)`: :obj:`num_poses` candidates come from :math:`q`
        (:func:`~torch_geometric_inertial.generation.poses.propose_poses`), one is drawn by the likelihood that the
        model gives to its types, parents and places
        (:func:`~torch_geometric_inertial.models.log_likelihood.prefix_log_prob`), and writing goes on from there.
        The result is moved back.

        Where the model's order has hydrogens last, the heavy atoms of the scaffold are the beginning of the sequence,
        and its hydrogens, if any, take the place of the first ones that the model writes. Where hydrogens stand
        between (:obj:`order='smiles'`), the sequence begins with the first atom of the scaffold, and at each step the
        model writes a hydrogen or goes on to the next atom of the scaffold, until that is exhausted. It does so
        without knowing the rest of the scaffold, so that hydrogens of rings are forgotten: give such models the
        scaffold with its hydrogens, except where it is to grow.

        Args:
            scaffold (Data): :obj:`z` [F] and :obj:`pos` [F, 3] in Å, in any pose and order.
            num_samples (int): Number of molecules. (default: :obj:`1`)
            num_poses (int): Candidates of pose and order. (default: :obj:`8`)
            progress (bool): Whether to show a progress bar.
            groups, properties, seed, batch_size, max_atoms, **sampling: See :meth:`stream`.

        Returns:
            list: :class:`~torch_geometric.data.Data` with :obj:`z` [N], :obj:`pos` [N, 3] (Å, the scaffold's own
            coordinates and dtype; the scaffold's atoms first, in its order), :obj:`fixed` [N] and :obj:`finished`.

        Raises:
            ValueError: On arguments out of range, and on scaffolds that are empty, too long, not finite, of unknown
                elements, or with two atoms within 0.4 Å.
        """
        max_atoms = self._length_limit(max_atoms)
        config = self._sampling_config(groups, properties, sampling)
        given = Scaffold.of(self, scaffold, "'scaffold'", max_atoms, num_poses, whole=False)
        requests = self._requests(num_samples, range(num_samples), max_atoms, groups, properties, given)
        written = generate_molecules(self, requests, config, seed=seed, batch_size=batch_size, max_atoms=max_atoms)
        return [_given_first(data, scaffold)
                for data in tqdm(written, total=num_samples, unit='mol', disable=not progress)]

    def add_hydrogens(self, heavy: Data | list[Data], *, seed: int = 0, batch_size: int | None = None,
                      max_atoms: int | None = None, num_poses: int = 8, progress: bool = False,
                      canonical: Callable[[Data], Data] | None = None, **sampling) -> Data | list[Data]:
        r"""Places the hydrogens of molecules that lack some or all; the atoms that are there stay where they are.

        As :meth:`complete`, with nothing but hydrogens to write: plain continuation of the heavy atoms, for models
        whose order has the hydrogens last (:obj:`order='heavy_first'`). The frame of the heavy atoms is near that of
        the molecule, so the poses are drawn around it. The model decides how many hydrogens each atom takes: it sees
        neither bonds nor charges. Models of other orders are refused: where hydrogens stand between
        (:obj:`order='smiles'`), each would have to be decided before the heavy atoms that follow are seen, and the
        sequence begins with one.

        The order of :obj:`heavy_first` is that of the heavy atoms alone, so :obj:`canonical` finds it for molecules
        that have no hydrogens yet; without it, the atoms are taken to be in that order, or in another that the
        likelihood prefers.

        Args:
            heavy (Data or list): :obj:`z` [F] and :obj:`pos` [F, 3] in Å, in any pose and order.
            canonical (callable, optional): Puts atoms in the order of the training set, such as
                :obj:`Compose([InertialFrame(), CanonicalOrder(order='heavy_first')])`.
            num_poses, progress, seed, batch_size, max_atoms, **sampling: See :meth:`complete`; without guidance.

        Returns:
            Data or list: As given: :obj:`z` [N], :obj:`pos` [N, 3] (the given atoms first), :obj:`fixed` [N] and
            :obj:`finished`.

        Raises:
            ValueError: As :meth:`complete`, and if the model does not know hydrogen or its order does not allow it.
        """
        max_atoms = self._length_limit(max_atoms)
        config = self._sampling_config(None, None, sampling)
        if 1 not in self.elements:
            raise ValueError(f"'add_hydrogens' needs a model that knows hydrogen (got elements {self.elements})")
        if HYDROGENS.get(self.config.order) not in ('last', 'anywhere'):
            raise ValueError(f"'add_hydrogens' needs a model whose order has the hydrogens last, as 'heavy_first' (got "
                             f"order '{self.config.order}', in which they are written before all heavy atoms are seen)")
        molecules = [heavy] if isinstance(heavy, Data) else list(heavy)
        allowed = torch.zeros(self.stop + 1, dtype=torch.bool)
        allowed[[self.elements.index(1), self.stop]] = True
        requests = []
        for i, data in enumerate(molecules):
            name = "'heavy'" if isinstance(heavy, Data) else f"molecule {i} of 'heavy'"
            given = Scaffold.of(self, data, name, max_atoms, num_poses, whole=True)
            given = given if canonical is None else given.reorder(canonical)
            requests.append(GenerationRequest(i, max_atoms, None, given, allowed))
        written = generate_molecules(self, requests, config, seed=seed, batch_size=batch_size, max_atoms=max_atoms)
        written = tqdm(written, total=len(requests), unit='mol', disable=not progress)
        out = [_given_first(data, given) for data, given in zip(written, molecules, strict=True)]
        return out[0] if isinstance(heavy, Data) else out

    def log_prob(self, data: Data, *, num_steps: int = 16, chunk_size: int = 1024) -> LogProb:
        r"""The likelihood of a molecule or a batch, of what :meth:`generate` writes at temperature 1:

        .. math::
            \log p(M) = \sum_t \big[\log p(a_t \mid <t) + \log p(\pi_t \mid a_t, <t) + \log p(x_t \mid \pi_t, a_t, <t)
            \big] + \log p(\mathrm{stop} \mid \le N)

        Elements, parents and the stop by their log-softmax (a molecule has an atom, so the first cannot be the stop),
        places by the flow of the diffusion head with the exact trace
        (:func:`~torch_geometric_inertial.nn.flow_density.flow_log_density`); the stop has no place.

        **Nothing is integrated out.** This is the density of these coordinates in this order, in the pose that is
        given: put molecules into the model's frame and order first, as for training. The marginal over poses and
        orders would be larger. In models with parents it is the joint probability with the parents that the distances
        define (:func:`~torch_geometric_inertial.nn.local_frame.find_parents`), a lower bound of the sum over parents.
        The density is that of positions with Gaussian noise of 2e-3 Å, less than the sampler resolves.

        Args:
            data (Data or Batch): :obj:`z` [T], :obj:`pos` [T, 3] in Å, :obj:`ptr` if there are several; conditions
                where the model has them, else the unconditional likelihood.
            num_steps (int): Steps of the flow, of four evaluations and twelve vector-Jacobian products each.
                (default: :obj:`16`)
            chunk_size (int): Atoms whose flow is in memory at a time. (default: :obj:`1024`)

        Raises:
            ValueError: On molecules that the model cannot read, and if :obj:`num_steps` or :obj:`chunk_size` is
                below 1.
        """
        return log_prob(self, data, num_steps, chunk_size)

    def prefix_log_prob(self, data: Data, noise: Tensor) -> Tensor:
        r"""How likely the beginnings of molecules are, up to a constant [B]; see
        :func:`~torch_geometric_inertial.models.log_likelihood.prefix_log_prob`."""
        return prefix_log_prob(self.encode(data), self.head, noise)

    # Arguments ---------------------------------------------------------------------------------------------------

    def _length_limit(self, max_atoms: int | None) -> int:
        if max_atoms is None:
            return self.max_atoms
        if max_atoms < 1:
            raise ValueError(f"'max_atoms' must be at least 1 (got {max_atoms})")
        if max_atoms > self.max_atoms:
            raise ValueError(f"'max_atoms' must be at most {self.max_atoms}, the model's own (got {max_atoms})")
        return max_atoms

    def _sampling_config(self, groups: Tensor | list[str] | None, properties: dict | None,
                         sampling: dict) -> SamplingConfig:
        config = SamplingConfig(**{name: value for name, value in sampling.items() if value is not None})
        if config.guidance_scale != 1:
            if groups is None and not properties:
                raise ValueError(f"'guidance_scale' needs 'groups' or 'properties' (got {config.guidance_scale} and "
                                 f"neither)")
            if not self.condition.has_null:
                raise ValueError(f"'guidance_scale' must be 1 for a model that was trained without a null condition, "
                                 f"with condition_dropout=0 (got {config.guidance_scale})")
        return config

    def _requests(self, num_samples: int, index: Iterable[int], max_atoms: int, groups: Tensor | list[str] | None,
                  properties: dict | None, scaffold: Scaffold | None = None) -> Iterator[GenerationRequest]:
        r"""Those of the molecules :obj:`index` among all :obj:`num_samples`."""
        if num_samples < 1:
            raise ValueError(f"'num_samples' must be at least 1 (got {num_samples})")
        conditions = self.condition.as_tensors(num_samples, groups, properties)
        return (GenerationRequest(i, max_atoms, conditions and {name: x[i] for name, x in conditions.items()}, scaffold)
                for i in index)


def _given_first(data: Data, given: Data) -> Data:
    r"""A molecule with what was given first, in its order and dtype."""
    data.pos = data.pos.to(given.pos.dtype)
    data.z[:given.num_nodes], data.pos[:given.num_nodes] = given.z.cpu(), given.pos.cpu()
    return data
