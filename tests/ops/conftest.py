import pytest
import torch
from hypothesis import settings

settings.register_profile('lean', max_examples=30, deadline=None)  # a loaded machine is no failure
settings.load_profile('lean')


@pytest.fixture
def same_for_any_threads():
    """Holds a call to bit-equal results for 1, 2, 3 and 7 threads."""
    before = torch.get_num_threads()

    def check(call):
        results = []
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            results.append(call())
        assert results[0].numel() > 0
        assert all(torch.equal(results[0], other) for other in results[1:])

    yield check
    torch.set_num_threads(before)
