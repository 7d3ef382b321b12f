"""The engine, with steppers that count and with a model: order, room, shards, too little memory."""
import itertools
import warnings
from dataclasses import dataclass

import pytest
import torch
from helpers.generators import FAST, same
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_geometric_inertial.generation.engine import out_of_memory, run


@dataclass(frozen=True)
class Count:
    """Counts to :obj:`length`."""
    index: int
    length: int


class Counter:
    """Gives back, for each request, itself and when it came in."""
    def __init__(self, capacity, log=None):
        self.capacity, self.now, self.log, self.rows = capacity, 0, [] if log is None else log, {}

    def enter(self, requests):
        self.rows |= {request.index: [request, 0] for request in requests}
        assert len(self.rows) <= self.capacity

    def step(self):
        self.log.append(len(self.rows))
        for row in self.rows.values():
            row[1] += 1
        done = {index: request for index, (request, steps) in self.rows.items() if steps == request.length}
        for index in done:
            del self.rows[index]
        return done


lengths = st.lists(st.integers(1, 6), max_size=12)


@given(lengths=lengths, capacity=st.integers(1, 5))
def test_every_request_is_answered_once_and_in_order(lengths, capacity):
    requests = [Count(10 * i, length) for i, length in enumerate(lengths)]
    log = []
    assert list(run(requests, lambda size: Counter(size, log), capacity)) == requests
    assert sum(log) == sum(lengths)  # no step for a sequence that is done
    assert all(size == min(capacity, len(lengths)) for size in log[:1])


@given(lengths=lengths, first=st.integers(1, 4), second=st.integers(1, 4))
def test_two_steppers_make_a_pipeline(lengths, first, second):
    requests = [Count(i, length) for i, length in enumerate(lengths)]
    assert list(run(run(requests, Counter, first), Counter, second)) == requests


def test_requests_are_taken_when_there_is_room():
    taken = []

    def endless():
        for i in itertools.count():
            taken.append(i)
            yield Count(i, 1 + i % 3)
    answers = run(endless(), Counter, 4)
    assert not taken
    assert [answer.index for answer in itertools.islice(answers, 9)] == list(range(9))
    assert len(taken) <= 9 + 4 + 2


@given(lengths=lengths, capacity=st.integers(2, 8), room=st.integers(1, 3), at=st.integers(1, 5))
def test_whatever_did_not_fit_begins_again(lengths, capacity, room, at):
    requests = [Count(i, length) for i, length in enumerate(lengths)]

    class Scarce(Counter):
        def step(self):
            if len(self.rows) > room and len(self.log) >= at:
                raise torch.OutOfMemoryError('out of memory')
            return super().step()

    log = []
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert list(run(requests, lambda size: Scarce(size, log), capacity)) == requests
    assert not log[at:] or max(log[at:]) <= room


@pytest.mark.parametrize('error', [
    torch.OutOfMemoryError('CUDA out of memory'),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError('[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried'),
], ids=lambda e: str(e)[:9])
def test_nothing_is_lost_when_memory_runs_out(make_model, error):
    model = make_model()
    expected = model.generate(24, **FAST)
    calls = []

    def scarce(module, args):
        calls.append(args[0].size(0))
        if args[0].size(0) > 3 and len(calls) > 6:  # not at once: some are done by then
            raise error
    for module in (model.network.type_stack, model.network.coord_stack):
        hook = module.register_forward_pre_hook(scarce)
        calls.clear()
        with pytest.warns(UserWarning, match='memory ran out: going on with . at a time'):
            same(model.generate(24, **FAST), expected)
        assert max(calls) == 24 and max(calls[-9:]) <= 3
        hook.remove()


def test_other_errors_and_too_little_memory_for_one_are_raised(make_model):
    model = make_model()
    for error, how_often in ((RuntimeError('shape mismatch'), 1), (torch.OutOfMemoryError('CUDA out of memory'), 3)):
        calls = []

        def broken(module, args, error=error, calls=calls):
            calls.append(args[0].size(0))
            raise error
        hook = model.network.type_stack.register_forward_pre_hook(broken)
        with warnings.catch_warnings(), pytest.raises(RuntimeError, match=str(error)):
            warnings.simplefilter('ignore')
            model.generate(5, **FAST)
        assert calls == [5, 2, 1][:how_often]
        hook.remove()
    assert not out_of_memory(RuntimeError('memory format'))


@settings(max_examples=10)
@given(num=st.integers(1, 9), parts=st.integers(1, 5))
def test_shards_in_order_are_the_whole(make_model, num, parts):
    model, settings = make_model(), dict(num_steps=2, max_atoms=6, seed=3)
    whole = model.generate(num, **settings)
    union = itertools.chain.from_iterable(model.stream(num, shard=(i, parts), **settings) for i in range(parts))
    same(list(union), whole, atol=1e-3)


def test_a_stream_begins_before_it_ends(make_model):
    model = make_model().train()
    stream = model.stream(10**9, batch_size=4, num_steps=2, max_atoms=6)
    first = list(itertools.islice(stream, 10))
    stream.close()
    assert model.training
    same(first, model.eval().generate(10, num_steps=2, max_atoms=6), atol=1e-3)
