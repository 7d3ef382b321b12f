r"""Models on the Hugging Face hub, through :obj:`huggingface_hub` (extra ``[hub]``), which keeps what was fetched, and
follows its own environment variables: :obj:`HF_HUB_OFFLINE=1` uses no network, :obj:`HF_HOME` says where files are
kept, :obj:`HF_ENDPOINT` another server, :obj:`HF_TOKEN` who asks.
"""
from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: ``owner/name``, or with a branch, a tag or a commit: ``owner/name@revision``.
HUB_ID = re.compile(r'(?P<repo>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>\w[\w./-]*))?')


class HubError(ValueError):
    r"""The hub lacks something, refuses, or cannot be reached."""


def fetch(hub_id: str, files: Sequence[str]) -> Path:
    r"""The folder of the files of a repository, fetched if they are not here yet.

    Raises:
        HubError: If that is no hub id, :obj:`huggingface_hub` is missing, or they cannot be fetched.
    """
    parts = HUB_ID.fullmatch(hub_id)
    if parts is None:
        raise HubError(f"a hub id must be 'owner/name' or 'owner/name@revision' (got '{hub_id}')")
    hub = _library()
    try:
        return Path(hub.snapshot_download(parts['repo'], revision=parts['revision'], allow_patterns=list(files)))
    except Exception as error:  # of the library, of its HTTP client, or of JSON where a page came instead
        raise HubError(f"'{hub_id}' cannot be fetched from the hub ({_reason(error)})") from error


def push(folder: Path, repo_id: str, *, private: bool, revision: str | None, message: str, token: str | None) -> str:
    r"""Uploads a folder in one commit; the repository, and its branch, are created if need be.

    Returns:
        str: The commit, which :func:`fetch` takes as a revision.

    Raises:
        HubError: If that is no hub id, :obj:`huggingface_hub` is missing, or the hub does not take it.
    """
    parts = HUB_ID.fullmatch(repo_id)
    if parts is None or parts['revision'] is not None:
        raise HubError(f"'repo_id' must be 'owner/name' (got '{repo_id}')")
    api = _library().HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        return str(api.upload_folder(repo_id=repo_id, folder_path=folder, revision=revision,
                                     commit_message=message).oid)
    except Exception as error:
        raise HubError(f"'{repo_id}' cannot be written to on the hub ({_reason(error)})") from error


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise HubError("the hub needs huggingface_hub: pip install 'torch_geometric_inertial[hub]'") from error
    return huggingface_hub


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ' '.join([f'{type(error).__name__}:', *lines[:2]]) if lines else type(error).__name__
