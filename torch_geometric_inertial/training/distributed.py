r"""What a process needs to know of its peers. Start them with :obj:`torchrun`; alone, a process is rank 0 of 1."""
from __future__ import annotations

import atexit
import os
from typing import NamedTuple

import torch
import torch.distributed as dist


class World(NamedTuple):
    r"""This process's :obj:`rank`, the number of processes, and the device that it works on."""
    rank: int
    size: int
    device: torch.device


def join_world() -> World:
    r"""Joins the process group that :obj:`torchrun` describes, or the one that is there already, until the process
    ends: a group that was left cannot be joined again while others are still in it."""
    cuda = torch.cuda.is_available()
    device = torch.device('cuda', int(os.environ.get('LOCAL_RANK', 0))) if cuda else torch.device('cpu')
    if not dist.is_available() or (not dist.is_initialized() and int(os.environ.get('WORLD_SIZE', 1)) == 1):
        return World(0, 1, device)
    if cuda:
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group('nccl' if cuda else 'gloo')
        atexit.register(_leave)
    return World(dist.get_rank(), dist.get_world_size(), device)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
