from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """The folder of real data beside the repository."""
    folder = Path(__file__).parents[2] / 'shared' / 'data'
    if not folder.is_dir():
        pytest.skip(f'no shared data beside the repository (looked for ../{folder.parent.name}/{folder.name})')
    return folder
