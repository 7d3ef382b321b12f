r"""Loads the compiled operators, ``torch.ops.inertial.*``, or says once that they are not there."""
import warnings

import torch  # noqa: F401  (the extension needs its libraries)

try:
    import torch_geometric_inertial._C  # type: ignore[import-not-found]  # noqa: F401
    COMPILED = True
except ImportError as error:
    COMPILED = False
    warnings.warn(
        f"torch_geometric_inertial runs without its compiled operators, on slower PyTorch code ({error}). "
        "To build them: pip install --no-build-isolation -e .",
        stacklevel=2,
    )
