r"""The device that a command is told to compute on."""
from __future__ import annotations

import torch


def usable(device: str) -> torch.device:
    r"""A device that is there.

    Raises:
        ValueError: If there is none of that name, or no GPU.
    """
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"'device' must be one that is there, such as 'cpu' or 'cuda' (got '{device}': {reason})") \
            from None
    return found
