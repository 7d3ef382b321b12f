r"""Models on disk: a folder of :obj:`config.json`, :obj:`model.safetensors` and a model card. No pickle."""
from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from torch_geometric_inertial.files import reading, sha256_of, write_all_atomically
from torch_geometric_inertial.models.hub import HUB_ID, HubError, fetch, push
from torch_geometric_inertial.models.training_domain import TrainingDomain

BUNDLED = Path(__file__).parent.parent / 'weights'  #: Models that come with the package, one folder a name.
FILES = CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = 'config.json', 'model.safetensors', 'README.md'

Model = TypeVar('Model', bound='Pretrained')


class Pretrained:
    r"""Saving and loading for a model class that has :obj:`config` and :obj:`config_class`.

    A model that :func:`~torch_geometric_inertial.training.fit` returned has a :obj:`training_record`, what the trainer
    counted, and a :obj:`training_domain`, what its molecules were; both are stored with it, and the latter is loaded,
    so that the model can say where it is asked about something else.
    """
    config: Any
    config_class: Any
    training_record: dict[str, Any] | None = None
    training_domain: TrainingDomain | None = None

    def save_pretrained(self, folder: str | Path, *, card: str | None = None, dtype: torch.dtype | None = None,
                        **facts) -> Path:
        r"""Writes the model to a folder; all files are written whole, or none is.

        Args:
            folder (str or Path): Where to; created if need be.
            card (str, optional): The model card, Markdown. A short one is written for a model with a
                :obj:`training_record`, from what stands in the configuration file.
            dtype (torch.dtype, optional): Of the stored parameters, such as :obj:`torch.float16`.
            **facts: What else the configuration file should say (data, units, license): JSON-able. What the trainer
                counted itself, such as :obj:`steps`, goes before what :obj:`training` says.
        """
        assert isinstance(self, nn.Module)
        folder = Path(folder)
        parameters = {name for name, _ in self.named_parameters()}
        tensors = {name: tensor.detach().to('cpu', dtype if dtype and name in parameters else tensor.dtype).contiguous()
                   for name, tensor in self.state_dict().items()}
        if self.training_record is not None:
            facts['training'] = {**facts.get('training', {}), **self.training_record}
        if self.training_domain is not None:
            facts.setdefault('training_domain', self.training_domain.to_dict())
        if self.training_record is not None and card is None:
            card = model_card(self, facts)
        config = dict(model=type(self).__name__, units='angstrom', config=self.config.to_dict(), **facts)
        json.dumps(config)  # what cannot be written fails before anything is

        def write_weights(path: Path) -> None:  # before the configuration, which holds their hash
            save_file(tensors, path)
            config['sha256'] = sha256_of(path)

        files: dict[Path, Callable[[Path], Any]] = {
            folder / WEIGHTS_FILE: write_weights,
            folder / CONFIG_FILE: lambda path: path.write_text(json.dumps(config, indent=2) + '\n')}
        if card is not None:
            files[folder / CARD_FILE] = lambda path: path.write_text(card)
        write_all_atomically(files)
        return folder

    @classmethod
    def from_pretrained(cls: type[Model], name_or_folder: str | Path, *, device: str | torch.device = 'cpu') -> Model:
        r"""Loads a model in evaluation mode: of this class, or of a subclass where this is a base class.

        Args:
            name_or_folder (str or Path): A bundled name such as :obj:`'qm9'`, a folder, or an id of the Hugging Face
                hub: :obj:`owner/name`, better :obj:`owner/name@commit`, which stays what it is. It needs
                :obj:`huggingface_hub`.
            device (str or torch.device): Where to. (default: :obj:`'cpu'`)

        Raises:
            ValueError: If there is no such model, it is of another class, or its weights are damaged, incomplete, of
                other shapes, or a pickle.
        """
        return cls._load(locate(name_or_folder), device)

    @classmethod
    def from_hub(cls: type[Model], repo_id: str, *, revision: str | None = None,
                 device: str | torch.device = 'cpu') -> Model:
        r"""Loads a model from the Hugging Face hub, whatever folder of that name is here.

        Args:
            repo_id (str): :obj:`owner/name`.
            revision (str, optional): A commit, which stays what it is, a tag or a branch. (default: the newest)
            device (str or torch.device): Where to. (default: :obj:`'cpu'`)

        Raises:
            ValueError: As :meth:`from_pretrained` does, or if the model cannot be fetched.
        """
        return cls._load(fetch(repo_id if revision is None else f'{repo_id}@{revision}', FILES), device)

    def push_to_hub(self, repo_id: str, *, private: bool = False, revision: str | None = None,
                    commit_message: str | None = None, token: str | None = None, **kwargs) -> str:
        r"""Saves the model to the Hugging Face hub, in one commit: all of it arrives, or nothing.

        Args:
            repo_id (str): :obj:`owner/name`; created if need be.
            private (bool): Whether a new repository is hidden from others. (default: :obj:`False`)
            revision (str, optional): A branch; created if need be. (default: the main one)
            commit_message (str, optional): What the history says.
            token (str, optional): Who writes. (default: who is logged in, or :obj:`HF_TOKEN`)
            **kwargs: Of :meth:`save_pretrained`: :obj:`card`, :obj:`dtype`, facts.

        Returns:
            str: The commit; :obj:`from_pretrained(f'{repo_id}@{commit}')` loads it.

        Raises:
            ValueError: If the hub does not take it.
        """
        message = f'{type(self).__name__} of torch_geometric_inertial' if commit_message is None else commit_message
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, **kwargs)
            return push(Path(folder), repo_id, private=private, revision=revision, message=message, token=token)

    @classmethod
    def _load(cls: type[Model], folder: Path, device: str | torch.device) -> Model:
        try:
            with reading(folder / CONFIG_FILE) as path:
                facts = json.loads(path.read_text())
        except OSError as error:
            raise ValueError(f"'{folder}' holds no model: {error}") from error
        if not isinstance(facts, dict):
            raise ValueError(f"'{folder / CONFIG_FILE}' must hold a JSON object (got {type(facts).__name__})")
        kind = next((kind for kind in _family(cls) if kind.__name__ == facts.get('model')), None)
        if kind is None:
            raise ValueError(f"'{folder}' holds a model of class '{facts.get('model')}' (asked for '{cls.__name__}')")
        for name, what, types in (('config', 'an object', dict), ('units', "'angstrom'", str),
                                  ('sha256', 'a string', str)):
            value = facts.get(name, types())
            if not isinstance(value, types) or (name == 'units' and value not in ('', 'angstrom')):
                raise ValueError(f"'{name}' in '{folder / CONFIG_FILE}' must be {what} (got {value!r})")
        try:
            config = kind.config_class(**facts['config'])
        except (KeyError, TypeError) as error:
            raise ValueError(f"'{folder / CONFIG_FILE}' does not describe a {kind.__name__}: {error}") from error
        with torch.inference_mode(False):  # parameters made in it would have no derivatives ever
            model = kind(config)  # type: ignore[call-arg]
        assert isinstance(model, nn.Module)
        model.training_domain = TrainingDomain.of_facts(facts)
        tensors = read_weights(folder / WEIGHTS_FILE, facts.get('sha256'))
        own = model.state_dict()
        for what, names in (('lack', own.keys() - tensors.keys()), ('have unknown', tensors.keys() - own.keys())):
            if names:
                more = f' and {len(names) - 10} more' if len(names) > 10 else ''
                raise ValueError(f"the weights in '{folder}' {what} {', '.join(map(repr, sorted(names)[:10]))}{more}")
        for name, tensor in own.items():
            if tensor.shape != tensors[name].shape:
                raise ValueError(f"'{name}' in '{folder}' must be {tuple(tensor.shape)} (got "
                                 f"{tuple(tensors[name].shape)})")
        with torch.inference_mode(False):
            model.load_state_dict(tensors)
            return model.to(device).eval()


def read_weights(path: Path, sha256: str | None = None) -> dict[str, torch.Tensor]:
    r"""The tensors of a safetensors file, refused with the reason if it is anything else, or has another SHA-256 than
    the given one."""
    if not path.is_file():
        raise ValueError(f"there is no weights file '{path}'")
    with reading(path), open(path, 'rb') as file:
        start = file.read(2)
    if start in (b'PK', b'\x80\x02', b'\x80\x03', b'\x80\x04', b'\x80\x05'):
        raise ValueError(f"'{path}' is a pickle or zip archive, which can run code; weights must be safetensors")
    if sha256 is not None and (found := sha256_of(path)) != sha256:
        raise ValueError(f"'{path}' is truncated or damaged: '{CONFIG_FILE}' beside it names a file with SHA-256 "
                         f'{sha256} (got {found}); delete both, and fetch them again')
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"'{path}' is truncated or damaged: {error}; delete it, and fetch it again") from error


def model_card(model: nn.Module, facts: dict[str, Any]) -> str:
    r"""A card of what a configuration file says, with the front matter that the Hugging Face hub reads.

    Args:
        model (Module): The model.
        facts (dict): What else stands in the file: :obj:`training` and, if known, :obj:`license`, :obj:`data`,
            :obj:`training_domain`, :obj:`validation` and others.
    """
    kind = type(model).__name__
    front = dict(library_name='torch_geometric_inertial', license=str(facts.get('license', '')).lower(),
                 tags=['molecules', 'pytorch-geometric', kind.lower()])
    about = {name: value for name, value in facts.items() if name not in ('license', 'training', 'training_domain')}
    domain = TrainingDomain.of_facts(facts)
    if domain is not None:
        about['learned from'] = domain
    lines = [f'- {name}: {value}' for name, value in (about | facts['training']).items()]
    return '\n'.join(['---', *(f'{name}: {json.dumps(value)}' for name, value in front.items() if value), '---', '',
                      f'# {kind}', '', f'{sum(p.numel() for p in model.parameters()):,} parameters; '
                      f"`{kind}.from_pretrained(folder)` loads them. What was done:", '', *lines, ''])


def _family(cls: type[Model]) -> Iterator[type[Model]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _family(child)


def locate(name_or_folder: str | Path) -> Path:
    r"""The folder of a model: one here, one that comes with the package, or one fetched from the hub.

    Raises:
        ValueError: If there is none.
    """
    folder = Path(name_or_folder)
    if folder.is_dir():
        return folder
    if (BUNDLED / folder).is_dir() and len(folder.parts) == 1:
        return BUNDLED / folder
    bundled = ', '.join(sorted(path.name for path in BUNDLED.iterdir())) if BUNDLED.is_dir() else 'none'
    if not HUB_ID.fullmatch(str(name_or_folder)):
        raise ValueError(f"'name_or_folder' must be a bundled model ({bundled}), a folder, or a hub id "
                         f"(got '{name_or_folder}')")
    try:
        return fetch(str(name_or_folder), FILES)
    except HubError as error:
        raise ValueError(f"'{name_or_folder}' is no folder here, and {error}; bundled are {bundled}") from error
