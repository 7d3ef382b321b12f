r"""Functions in processes of their own."""
import os
import time

import pytest

from torch_geometric_inertial.chem.plain import Plain
from torch_geometric_inertial.metrics.processes import Failure, run, run_anywhere


def test_results_come_in_order_and_failures_in_their_place():
    calls = [(4, 2), (1, 0), (9, 3)]
    for workers in (1, 2):
        found = run('operator:truediv', calls, workers, 30)
        assert found[0] == 2 and found[2] == 3
        assert found[1] == Failure('perception_failed', 'ZeroDivisionError: division by zero')


def test_a_hang_and_a_crash_cost_their_own_call_only():
    started = time.monotonic()
    found = run('time:sleep', [(0, ), (300, ), (0, )], 1, 3)
    assert found == [None, Failure('timeout', 'took more than 3 s'), None] and time.monotonic() - started < 120
    crashed = run('os:_exit', [(1, ), (2, )], 1, 30)
    assert [one.status for one in crashed] == ['perception_failed'] * 2 and 'crashed' in crashed[0].message


def test_what_cannot_be_imported_is_said():
    with pytest.raises(ImportError, match=r'no_such_module:f cannot be run in a process of its own: ModuleNotFound'):
        run('no_such_module:f', [(1, )], 1, 30)
    assert run('no_such_module:f', [], 1, 30) == []


def test_the_process_is_another_and_does_not_load_torch():
    assert os.getpid() not in run('os:getpid', [()] * 3, 2, 30)
    one = Plain([6, 1], None, [(0, 1)], [1])
    calls = [(f'torch_geometric_inertial.chem.{name}', [(one, )]) for name in (
        'verdicts:judge_bonds', 'verdicts:judge_edm', 'verdicts:ring_sizes')]
    calls.append(('builtins:eval', [("'torch' in __import__('sys').modules", )]))
    assert run('torch_geometric_inertial.metrics.processes:call_all', calls, 1, 30)[-1] == [False]


def test_quick_functions_run_here_or_in_parts():
    calls = [(i, 3) for i in range(250)]
    expected = [pow(*call) for call in calls]
    assert run_anywhere(pow, calls, None) == run_anywhere(pow, calls, 2) == expected
