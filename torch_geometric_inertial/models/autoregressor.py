r"""What users call: molecules from a model, around a scaffold, with hydrogens, and how likely they are."""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from tqdm import tqdm

from torch_geometric_inertial.generation import (
    BondScaffold,
    GenerationRequest,
    SamplingConfig,
    Scaffold,
    generate_molecules,
    write_molecules,
)
from torch_geometric_inertial.models.atom_transformer import AtomTransformer
from torch_geometric_inertial.models.bonded_network import BondedNetwork
from torch_geometric_inertial.models.derivatives import outside_inference_mode
from torch_geometric_inertial.models.generator_config import GeneratorConfig
from torch_geometric_inertial.models.generator_input import (
    ORDERS,
    canonical_form,
    check_batch_domain,
    check_domain,
    check_precision,
    check_whole,
    given_first,
    given_molecules,
    hydrogen_requests,
    length_limit,
    molecule_batch,
    scaffold_of,
    wanted_numbers,
)
from torch_geometric_inertial.models.log_likelihood import LogProb, bonded_log_prob, log_prob
from torch_geometric_inertial.models.pretrained import Pretrained
from torch_geometric_inertial.nn.condition import Condition

if TYPE_CHECKING:
    from torch_geometric_inertial.chem.convert import Molecule

LIKELY = 0.3  #: Of the noise, where places are wanted that are right more often than places as varied as the data.


class AtomAutoregressor(Pretrained, nn.Module):
    r"""A generator: what users call, around a network of one of two kinds.

    An :class:`~torch_geometric_inertial.models.atom_transformer.AtomTransformer` writes element and place of one atom
    after another, as published; a :class:`~torch_geometric_inertial.models.bonded_network.BondedNetwork` writes the
    bond graph first. Subclasses make the network of their configuration.

    Args:
        network (Module): The network.
        config (GeneratorConfig): The model's configuration.
    """
    def __init__(self, network: AtomTransformer | BondedNetwork, config: GeneratorConfig):
        super().__init__()
        self.network, self.config = network, config

    @property
    def elements(self) -> tuple[int, ...]:
        r"""Atomic numbers that the model knows."""
        return self.config.elements

    @property
    def writes_bonds(self) -> bool:
        r"""Whether the model writes bonds, and reads molecules with bonds alone."""
        return isinstance(self.network, BondedNetwork)

    @property
    def condition(self) -> Condition:
        r"""What the model can be asked for."""
        return self.network.condition

    def fit_properties(self, properties: Tensor) -> AtomAutoregressor:
        r"""Tells the condition the scale and the range of the properties: [M, P] of the training set, NaN unknown."""
        self.network.fit_properties(properties)
        return self

    def forward(self, batch: Data, generator: torch.Generator | None = None) -> NamedTuple:
        r"""The training loss of a PyG :obj:`Batch` of molecules in canonical form, as named scalars of which
        :obj:`total` is minimized.

        Args:
            batch (Batch): :obj:`z` [T], :obj:`pos` [T, 3] in Å, :obj:`ptr`; bonds where the model writes them, see
                :func:`~torch_geometric_inertial.models.bonded_tokenization.read_molecules`; :obj:`groups` [B, G] and
                :obj:`properties` [B, P] where the model has them.
            generator (torch.Generator, optional): Source of the noise.
        """
        return self.network(batch, generator)

    def generate(self, num_samples: int, *, progress: bool = False, **settings) -> list[Data]:
        r"""Writes molecules. Molecule :obj:`i` is a function of :obj:`(seed, i)`, whatever the batch size, up to the
        rounding of float32 matrix products, which the flow amplifies: with the weights of the package positions of most
        molecules agree to 1e-3 Å, of nearly all to 2e-2 Å, and seldom a draw on the edge falls to the other side.

        Args:
            num_samples (int): Number of molecules.
            progress (bool): Whether to show a progress bar.
            **settings: Of :meth:`stream`.

        Returns:
            list: :class:`~torch_geometric.data.Data` with :obj:`z` [N], :obj:`pos` [N, 3] (Å) and :obj:`finished`; of
            models that write bonds also :obj:`edge_index` [2, E], :obj:`edge_attr` [E] (orders 1, 2, 3) and
            :obj:`formal_charge` [N].

        Raises:
            ValueError: On arguments out of range.
        """
        molecules = self.stream(num_samples, **settings)
        return list(tqdm(molecules, total=num_samples, unit='mol', disable=not progress))

    def stream(self, num_samples: int, *, groups: Tensor | list[str] | str | None = None,
               properties: dict | None = None, seed: int = 0, batch_size: int | None = None,
               max_atoms: int | None = None, shard: tuple[int, int] = (0, 1), index: Sequence[int] | None = None,
               **sampling) -> Iterator[Data]:
        r"""The molecules of :meth:`generate` one by one, in order; only those being written are in memory.

        Args:
            num_samples (int): Number of molecules of all shards together.
            groups (Tensor or list or str, optional): Groups asked for, 0/1, [G] for all or [num_samples, G], or their
                names; unconditional if :obj:`None`.
            properties (dict, optional): Values asked for by name, a number for all or [num_samples]; outside the range
                of the training set, warns.
            seed (int): Seed. (default: :obj:`0`)
            batch_size (int, optional): Molecules at a time, halved when memory runs out. (default: :obj:`512`, on a
                GPU :obj:`2048`)
            max_atoms (int, optional): Molecules that reach it are returned as they are, :obj:`finished=False`.
            shard (tuple): :math:`(i, n)`: the i-th of n consecutive parts; the parts in order are the whole.
            index (list, optional): The numbers of the molecules to write, each once, instead of a shard's.
            **sampling: :obj:`temperature`, :obj:`place_temperature`, :obj:`top_p`, :obj:`num_steps`, :obj:`solver`,
                :obj:`guidance_scale` and :obj:`valence_mask`, see
                :class:`~torch_geometric_inertial.generation.SamplingConfig`.

        Raises:
            ValueError: On arguments out of range.
        """
        check_whole(num_samples=num_samples, seed=seed, batch_size=batch_size)
        index = wanted_numbers(num_samples, shard, index)
        max_atoms = length_limit(self.network, max_atoms)
        config = self._sampling_config(groups, properties, sampling)
        requests = self._requests(num_samples, index, max_atoms, groups, properties)
        return self._write(requests, config, seed, batch_size, max_atoms)

    def complete(self, scaffold: Molecule | Iterable[Molecule], num_samples: int = 1, *,
                 groups: Tensor | list[str] | str | None = None, properties: dict | None = None, seed: int = 0,
                 batch_size: int | None = None, max_atoms: int | None = None, progress: bool = False,
                 strict: bool = False, **sampling) -> list[Data]:
        r"""Writes molecules around a scaffold, whose atoms stay where they are. Hydrogens that it lacks are written
        by the model, those that it has are kept: leave them out where it is to grow.

        A model that writes bonds begins with the scaffold's graph, in the order of a random walk along its bonds, and
        goes on from there; the bonds are those of the scaffold, or found from its distances
        (:func:`~torch_geometric_inertial.chem.with_bonds`). The order, and the types of its atoms, are drawn from their
        posterior (:mod:`torch_geometric_inertial.generation.scaffold_types`); of several graphs one is drawn that the
        scaffold's places allow (:mod:`torch_geometric_inertial.generation.scaffold_graphs`).

        The other models know whole molecules in a frame of their own, and the frame of a part is not that of the whole.
        So the rigid motion :math:`g` that takes the scaffold there, and the order :math:`\pi` of its atoms, are drawn
        from their posterior :math:`p(g, \pi \mid \text{scaffold}) \propto p(\text{scaffold at } g \text{ in order }
        \pi)\, q(g, \pi)`: candidates come from :math:`q`
        (:func:`~torch_geometric_inertial.generation.poses.propose_poses`), one is drawn by the likelihood that the
        model gives to its types and places
        (:func:`~torch_geometric_inertial.models.prefix_likelihood.prefix_log_prob`), and writing goes on from there.
        The result is moved back. Where hydrogens stand between the heavy atoms (:obj:`order='smiles'`), the model
        decides at each step whether to write a hydrogen or to go on to the next atom of the scaffold.

        Args:
            scaffold (Data): :obj:`z` [F] and :obj:`pos` [F, 3] in Å, in any pose and order, with or without bonds; or
                what :func:`~torch_geometric_inertial.chem.as_molecules` takes: an RDKit molecule, a list of these.
            num_samples (int): Number of molecules around each scaffold. (default: :obj:`1`)
            progress (bool): Whether to show a progress bar.
            strict (bool): Whether a scaffold larger than the training molecules (:obj:`training_domain`) is an error
                rather than a warning. (default: :obj:`False`)
            groups, properties, seed, batch_size, max_atoms, sampling: See :meth:`stream`.

        Returns:
            list: As :meth:`generate`, scaffold after scaffold; :obj:`pos` are its own coordinates and dtype, its atoms
            come first, in its order, and :obj:`fixed` [N] says which they are.

        Raises:
            ValueError: On arguments out of range, and on scaffolds that are empty, too long, not finite, of unknown
                elements, with two atoms within 0.4 Å, or, for a model that writes bonds, in several parts, of atoms
                that it does not know, or without a free valence.
        """
        check_whole(num_samples=num_samples, seed=seed, batch_size=batch_size)
        max_atoms = length_limit(self.network, max_atoms)
        config = self._sampling_config(groups, properties, sampling)
        parts, names = given_molecules(scaffold, 'scaffold')
        given = [scaffold_of(self.network, self.config.order, part, name, max_atoms, whole=False)
                 for part, name in zip(parts, names, strict=True)]
        check_domain(self.training_domain, [(name, part.z) for part, name in zip(parts, names, strict=True)], 'atoms',
                     strict)
        total = num_samples * len(parts)
        requests = self._requests(total, range(total), max_atoms, groups, properties, given)
        written = self._write(requests, config, seed, batch_size, max_atoms)
        return [given_first(data, parts[i // num_samples])
                for i, data in enumerate(tqdm(written, total=total, unit='mol', disable=not progress))]

    def add_hydrogens(self, heavy: Molecule | Iterable[Molecule], *, progress: bool = False,
                      **settings) -> Data | list[Data]:
        r"""Places the hydrogens of molecules that lack some or all; the atoms that are there stay where they are.

        A model that writes bonds takes those of the molecule, or finds them from the distances
        (:func:`~torch_geometric_inertial.chem.with_bonds`); bonds and charges settle how many hydrogens an atom lacks.
        Other models continue the heavy atoms, in their canonical order, as :meth:`complete` does, with nothing but
        hydrogens to write, where their order has the hydrogens last (:obj:`order='heavy_first'`), and decide the number
        themselves.

        Args:
            heavy (Data or list): :obj:`z` [F] and :obj:`pos` [F, 3] in Å, in any pose and order; or what
                :func:`~torch_geometric_inertial.chem.as_molecules` takes, such as RDKit molecules.
            progress (bool): Whether to show a progress bar.
            **settings: Of :meth:`stream_hydrogens`.

        Returns:
            Data or list: One for one, a list for several: the molecules of :meth:`complete`.

        Raises:
            ValueError: As :meth:`complete`, before anything is written, with the number of the molecule; and if the
                model does not know hydrogen or its order does not allow it.
        """
        molecules, names = given_molecules(heavy, 'heavy')
        written = self._hydrogens(molecules, names, True, **settings)
        out = list(tqdm(written, total=len(molecules), unit='mol', disable=not progress))
        return out[0] if names == ["'heavy'"] else out

    def stream_hydrogens(self, heavy: Molecule | Iterable[Molecule], **settings) -> Iterator[Data | ValueError]:
        r"""The molecules of :meth:`add_hydrogens` one by one, in order. One that the model cannot read does not stop
        the others: the :class:`ValueError` that says why comes in its place.

        Args:
            heavy (list): As for :meth:`add_hydrogens`; records of a file that hold no molecule and errors keep their
                places, too.
            seed, batch_size, max_atoms, strict, sampling: See :meth:`complete`; without guidance. A
                :obj:`place_temperature` of 0.3 is the default, for likely places.

        Raises:
            ValueError: On arguments out of range, and if the model does not know hydrogen or its order does not allow
                it.
        """
        from torch_geometric_inertial.chem import as_items
        molecules = as_items(heavy)
        return self._hydrogens(molecules, [f'molecule {i}' for i in range(len(molecules))], False, **settings)

    def log_prob(self, data: Molecule | Iterable[Molecule], *, canonical: bool = True, num_steps: int = 16,
                 chunk_size: int = 1024, strict: bool = False) -> LogProb:
        r"""The likelihood of a molecule or a batch, of what :meth:`generate` writes at temperature 1:

        .. math::
            \log p(M) = \sum_t \big[\log p(a_t \mid \cdot) + \log p(b_t \mid \cdot) + \log p(x_t \mid \cdot) \big]
            + \log p(\mathrm{stop} \mid \cdot)

        Types :math:`a_t`, bonds :math:`b_t` (where the model writes them) and the stop by their log-softmax (a molecule
        has an atom, so the first cannot be the stop), places by the flow of the diffusion head with the exact trace
        (:func:`~torch_geometric_inertial.nn.flow_density.flow_log_density`); the stop has no place.

        **Nothing is integrated out.** This is the density of these coordinates in this order, in this pose; the
        marginal over poses and orders would be larger. Of a model that writes bonds it is the probability of the bond
        graph as it is given (one Kekulé structure) times the density of all places but the first, which is the origin:
        3 N - 3 dimensions. The density is that of positions with Gaussian noise of 2e-3 Å, less than the sampler
        resolves.

        Args:
            data (Data or Batch): :obj:`z` [T], :obj:`pos` [T, 3] in Å, :obj:`ptr` if there are several; conditions
                where the model has them, else the unconditional likelihood; bonds as for :meth:`complete`. Or what
                :func:`~torch_geometric_inertial.chem.as_molecules` takes: a list of these, RDKit molecules, files.
            canonical (bool): Whether to put the molecules into the model's frame and order first; :obj:`False` for
                molecules that are, or for other poses and orders. (default: :obj:`True`)
            num_steps (int): Steps of the flow, of four evaluations and twelve vector-Jacobian products each.
                (default: :obj:`16`)
            chunk_size (int): Atoms whose flow is in memory at a time. (default: :obj:`1024`)
            strict (bool): Whether molecules unlike all of the training set (:obj:`training_domain`) are an error rather
                than a warning. (default: :obj:`False`)

        Returns:
            LogProb: Of the atoms in the order in which they are given.

        Raises:
            ValueError: On molecules that the model cannot read, if :obj:`num_steps` or :obj:`chunk_size` is below 1,
                and of a model in half precision or made under :class:`torch.inference_mode`.
        """
        check_precision(self, self.writes_bonds)
        data, place = molecule_batch(data, self.writes_bonds), None
        if canonical and self.config.order in ORDERS:
            data, place = canonical_form(data, self.config.order)
        score = bonded_log_prob if self.writes_bonds else log_prob
        tensors = {name: value for name, value in data.to_dict().items() if torch.is_tensor(value)}
        check_batch_domain(self.training_domain, data, strict)
        out = outside_inference_mode(self, lambda **given: score(self.network, Data.from_dict(given), num_steps,
                                                                 chunk_size), **tensors)
        if place is None:
            return out
        return out._replace(type=out.type[place], bond=out.bond[place], coord=out.coord[place])

    def _hydrogens(self, molecules: Sequence[Data | ValueError], names: Sequence[str], stop_at_errors: bool, *,
                   seed: int = 0, batch_size: int | None = None, max_atoms: int | None = None, strict: bool = False,
                   **sampling) -> Iterator[Data | ValueError]:
        check_whole(seed=seed, batch_size=batch_size)
        max_atoms = length_limit(self.network, max_atoms)
        config = self._sampling_config(None, None, dict(place_temperature=LIKELY) | sampling)
        requests = hydrogen_requests(self.network, self.config, self.training_domain, molecules, names, max_atoms,
                                     strict)
        for error in (asked for asked in requests if stop_at_errors and isinstance(asked, ValueError)):
            raise error
        written = self._write((asked for asked in requests if not isinstance(asked, ValueError)), config, seed,
                              batch_size, max_atoms)
        return (asked if isinstance(asked, ValueError) else given_first(next(written), data)
                for data, asked in zip(molecules, requests, strict=True))

    # Arguments ---------------------------------------------------------------------------------------------------

    def _sampling_config(self, groups: Tensor | list[str] | str | None, properties: dict | None,
                         sampling: dict) -> SamplingConfig:
        config = SamplingConfig(**{name: value for name, value in sampling.items() if value is not None})
        if config.guidance_scale != 1:
            if groups is None and not properties:
                raise ValueError(f"'guidance_scale' needs 'groups' or 'properties' (got {config.guidance_scale} and "
                                 f"neither)")
            if not self.condition.has_null:
                raise ValueError(f"'guidance_scale' must be 1 for a model that was trained without a null condition, "
                                 f"with condition_dropout=0 (got {config.guidance_scale})")
        if config.valence_mask and not self.writes_bonds:
            raise ValueError("'valence_mask' needs a model that writes bonds")
        return config

    def _requests(self, num_samples: int, index: Iterable[int], max_atoms: int,
                  groups: Tensor | list[str] | str | None, properties: dict | None,
                  scaffolds: Sequence[Scaffold | BondScaffold | None] = (None, )) -> Iterator[GenerationRequest]:
        r"""Those of the molecules :obj:`index` among all :obj:`num_samples`, as many around each scaffold."""
        conditions = self.condition.as_tensors(num_samples, groups, properties)
        return (GenerationRequest(i, max_atoms, conditions and {name: x[i] for name, x in conditions.items()},
                                  scaffolds[i * len(scaffolds) // num_samples]) for i in index)

    def _write(self, requests: Iterable[GenerationRequest], config: SamplingConfig, seed: int, batch_size: int | None,
               max_atoms: int) -> Iterator[Data]:
        check_precision(self, self.writes_bonds)
        if self.writes_bonds:
            return write_molecules(self.network, requests, config, seed=seed, batch_size=batch_size)
        return generate_molecules(self.network, requests, config, seed=seed, batch_size=batch_size, max_atoms=max_atoms)
