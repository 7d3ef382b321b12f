import pytest
from helpers.generators import real_molecules, small_model
from hypothesis import settings

settings.register_profile('lean', max_examples=20, deadline=None)  # a loaded machine is no failure
settings.load_profile('lean')


@pytest.fixture(scope='session')
def qm9():
    return real_molecules()


@pytest.fixture(scope='session')
def make_model():
    return small_model
