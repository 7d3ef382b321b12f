import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """The folder of real data: what INERTIAL_DATA names, else ../shared/data beside the repository."""
    folder = Path(os.environ.get('INERTIAL_DATA', Path(__file__).parents[2] / 'shared' / 'data'))
    if not folder.is_dir():
        pytest.skip("no folder of real data (INERTIAL_DATA names another than ../shared/data)")
    return folder
