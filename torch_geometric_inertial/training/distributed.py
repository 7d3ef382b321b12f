r"""What a process needs to know of its peers. Start them with :obj:`torchrun`; alone, a process is rank 0 of 1."""
from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.distributed as dist


class World(NamedTuple):
    r"""This process's :obj:`rank`, the number of processes, and the device that it works on."""
    rank: int
    size: int
    device: torch.device


@contextmanager
def join_world() -> Iterator[World]:
    r"""Joins the process group that :obj:`torchrun` describes, for as long as the context lasts."""
    cuda = torch.cuda.is_available()
    device = torch.device('cuda', int(os.environ.get('LOCAL_RANK', 0))) if cuda else torch.device('cpu')
    if int(os.environ.get('WORLD_SIZE', 1)) == 1:
        yield World(0, 1, device)
        return
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group('nccl' if cuda else 'gloo')
    try:
        yield World(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()
