from importlib import import_module

from torch_geometric_inertial.chem.bond_rules import BOND_RULES
from torch_geometric_inertial.chem.mol import PERCEPTIONS


def test_every_rule_has_its_function_and_every_perception_its_rule():
    names = [rule.name for rule in BOND_RULES]
    assert len(set(names)) == len(names) and set(PERCEPTIONS) < set(names)
    for rule in BOND_RULES:
        module, _, name = rule.function.rpartition('.')
        assert callable(getattr(import_module(module), name)) and rule.use and rule.source
