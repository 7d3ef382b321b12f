r"""Named evaluation protocols. Figures of different protocols are not comparable."""
from dataclasses import dataclass

from torch_geometric_inertial.elements import ATOMIC_NUMBERS


@dataclass(frozen=True)
class Protocol:
    r"""What a set of figures means.

    Args:
        name: Its id.
        version: Raised whenever a change of rules could change a number.
        elements: Atomic numbers that a molecule may hold; another element makes it invalid.
    """
    name: str
    version: int
    elements: tuple[int, ...]


def _numbers(symbols: str) -> tuple[int, ...]:
    return tuple(sorted(ATOMIC_NUMBERS[symbol] for symbol in symbols.split()))


#: ``edm-qm9``: bonds from the EDM distance tables, elements of QM9. ``edm``: the same for all elements of the tables.
PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol('edm-qm9', 1, _numbers('H C N O F')),
        Protocol('edm', 1, _numbers('H B C N O F Al Si P S Cl As Br I Hg Bi')),
    )
}


def get_protocol(name: str) -> Protocol:
    if name not in PROTOCOLS:
        raise ValueError(f"'protocol' must be one of {sorted(PROTOCOLS)} (got {name!r})")
    return PROTOCOLS[name]
