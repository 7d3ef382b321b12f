import numpy as np
import pytest
import torch

pytest.importorskip('ase')
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.calculators.singlepoint import SinglePointCalculator
from ase.filters import FrechetCellFilter
from ase.io import read
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

from torch_geometric_inertial import GeoMFormer, PaiNN, TorchMDNet
from torch_geometric_inertial.calculators import InertialCalculator
from torch_geometric_inertial.models import TrainingDomain

ELEMENTS = (1, 6, 8)
KINDS = [GeoMFormer, PaiNN, TorchMDNet]


def model(seed=0, kind=GeoMFormer, **changes):
    torch.manual_seed(seed)
    size = dict(channels=16, num_layers=2, num_kernels=8) | (dict() if kind is PaiNN else dict(heads=2))
    out = kind(**dict(elements=ELEMENTS, vector_head='conservative', **size) | changes)
    out.reference.copy_(torch.tensor([[-0.6], [-1027.1], [-2041.3]]))
    return out


def shaken(name, seed=0):
    atoms = molecule(name)
    atoms.rattle(0.05, seed=seed)
    return atoms


def periodic_model(seed=0, kind=GeoMFormer, **changes):
    ours = dict(equivariant_init='neighbors', node_rbf_sum=True) if kind is GeoMFormer else {}
    return model(seed, kind, **dict(cutoff=4.0) | ours | changes)


def ice(seed=0, pbc=True):
    """Water and carbon, crowded in a skew cell."""
    atoms = bulk('C', 'fcc', a=4.4) * (1, 1, 2) + Atoms('OH2', [[0.9, 1.8, 2.3], [1.7, 1.9, 2.9], [0.6, 2.6, 2.8]])
    atoms.pbc = pbc
    atoms.rattle(0.1, seed=seed)
    return atoms


@pytest.mark.parametrize('kind', KINDS)
def test_forces_are_the_gradient_of_the_energy(kind):
    atoms, step = shaken('CH3CH2OH'), 1e-4
    atoms.calc = InertialCalculator(model(kind=kind), 'kcal/mol', dtype=torch.float64)
    forces, expected = atoms.get_forces(), np.zeros((len(atoms), 3))
    for i, axis in np.ndindex(len(atoms), 3):
        energies = []
        for shift in (step, -step):
            moved = atoms.copy()
            moved.positions[i, axis] += shift
            energies.append(atoms.calc.predict([moved])[0]['energy'])
        expected[i, axis] = -(energies[0] - energies[1]) / (2 * step)
    np.testing.assert_allclose(forces, expected, atol=1e-6 * np.abs(forces).max())
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-10)


@pytest.mark.parametrize('unit, factor', [('eV', 1.0), ('kcal/mol', 0.0433641), ('kJ/mol', 0.01036427),
                                          ('Hartree', 27.211386)])
def test_units(unit, factor):
    net, atoms = model(), shaken('H2O')
    energy, force = net.double().eval()(torch.tensor(atoms.numbers), torch.from_numpy(atoms.positions))
    atoms.calc = InertialCalculator(net, unit, dtype=torch.float64)
    assert atoms.get_potential_energy() == pytest.approx(factor * float(energy.detach()), rel=1e-6)
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    np.testing.assert_allclose(atoms.get_forces(), factor * force.detach().numpy(), rtol=1e-6, atol=1e-9)


def test_together_is_one_by_one():
    names = ['CH3CH2OH', 'H2O', 'C', 'C6H6', 'H2O']
    molecules = [shaken(name, seed) for seed, name in enumerate(names)]
    calc = InertialCalculator([model(0), model(1)], 'eV', dtype=torch.float64)
    for atoms, together in zip(molecules, calc.predict(molecules), strict=True):
        single, = calc.predict([atoms])
        assert single.keys() == together.keys() == {'energy', 'free_energy', 'forces', 'energy_std', 'forces_std'}
        for name in single:
            np.testing.assert_allclose(together[name], single[name], rtol=1e-9, atol=1e-9)
    assert calc.predict([]) == []


def test_several_models_give_mean_and_standard_deviation():
    atoms, models = shaken('CH3CH2OH'), [model(seed) for seed in range(3)]
    each = [InertialCalculator(m, 'eV', dtype=torch.float64).predict([atoms])[0] for m in models]
    atoms.calc = InertialCalculator(models, 'eV', dtype=torch.float64)
    assert atoms.get_potential_energy() == pytest.approx(np.mean([r['energy'] for r in each]))
    deviations = atoms.calc.standard_deviations
    assert deviations['energy'] == pytest.approx(np.std([r['energy'] for r in each], ddof=1), rel=1e-6)
    np.testing.assert_allclose(atoms.get_forces(), np.mean([r['forces'] for r in each], axis=0), atol=1e-9)
    np.testing.assert_allclose(deviations['forces'], np.std([r['forces'] for r in each], axis=0, ddof=1), atol=1e-9)


def test_results_of_several_models_can_be_frozen_and_written(tmp_path):
    atoms = shaken('H2O')
    atoms.calc = InertialCalculator([model(0), model(1)], 'eV')
    forces = atoms.get_forces()
    frozen = SinglePointCalculator(atoms, **atoms.calc.results)
    np.testing.assert_array_equal(frozen.get_forces(atoms), forces)
    atoms.write(tmp_path / 'water.extxyz')
    np.testing.assert_allclose(read(tmp_path / 'water.extxyz').get_forces(), forces, atol=1e-7)


DOMAIN = TrainingDomain((9, 9), (1, 6, 8), ('C2H6O', ), (3, 3))


@pytest.mark.parametrize('name, difference', [
    ('CH3OH', r'is CH4O; all training molecules were C2H6O'), ('C6H6', 'is C6H6; all'), ('CO2', 'is CO2; all')])
def test_molecules_unlike_those_of_the_training_are_named(name, difference):
    atoms = molecule(name)
    atoms.calc = InertialCalculator(model(), 'eV', domains=[DOMAIN])
    with pytest.warns(UserWarning, match=rf'molecule 0 {difference}.*: energies and forces may be anything'):
        atoms.get_potential_energy()
    strict = InertialCalculator(model(), 'eV', domains=[DOMAIN], strict=True)
    with pytest.raises(ValueError, match=rf'molecule 1 {difference}'):
        strict.predict([molecule('CH3CH2OH'), atoms])


def test_known_molecules_give_no_warning(recwarn):
    calc = InertialCalculator(model(), 'eV', domains=[DOMAIN], strict=True)
    calc.predict([shaken('CH3CH2OH', seed) for seed in range(2)])
    assert not [w for w in recwarn if 'training' in str(w.message)]


def test_the_bundled_calculator_knows_what_it_was_trained_on():
    calc = InertialCalculator.from_pretrained('ethanol')
    assert calc.domains == (DOMAIN, )
    with pytest.warns(UserWarning, match='molecule 0 is CH4O; all training molecules were C2H6O'):
        calc.predict([molecule('CH3OH')])
    with pytest.raises(ValueError, match='molecule 0 is CH4O; all training molecules were C2H6O'):
        InertialCalculator.from_pretrained('ethanol', strict=True).predict([molecule('CH3OH')])


@pytest.mark.parametrize('where', ['default dtype', 'inference mode'])
def test_the_state_of_the_process_does_not_matter(where):
    net, atoms = periodic_model(), ice()
    expected, = InertialCalculator(net, 'eV').predict([atoms])
    try:
        if where == 'default dtype':
            torch.set_default_dtype(torch.float64)
        with torch.inference_mode(where == 'inference mode'):
            found, = InertialCalculator(net, 'eV').predict([atoms])
            atoms.calc = InertialCalculator([net, net], 'eV')
            assert atoms.get_potential_energy() == pytest.approx(expected['energy'], abs=1e-5)
    finally:
        torch.set_default_dtype(torch.float32)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5)


def test_dynamics_keeps_its_energy():
    atoms, net = shaken('H2O'), model()
    net.scale.fill_(30.0)  # so that random weights exert forces
    atoms.calc = InertialCalculator(net, 'eV', dtype=torch.float64)
    kinetic, total = [], []

    def observe():
        kinetic.append(atoms.get_kinetic_energy())
        total.append(atoms.get_total_energy())
    dynamics = VelocityVerlet(atoms, timestep=0.2 * units.fs)
    dynamics.attach(observe)
    dynamics.run(100)
    assert len(total) == 101 and np.ptp(kinetic) > 1e-3  # it moves
    assert np.ptp(total) < 0.02 * np.ptp(kinetic)


def test_total_energies_keep_their_digits():
    net, atoms = model(), shaken('CH3CH2OH')
    net.reference.mul_(1e3)
    exact, = InertialCalculator(net, 'eV', dtype=torch.float64).predict([atoms])
    single, = InertialCalculator(net, 'eV').predict([atoms])
    assert single['energy'] == pytest.approx(exact['energy'], abs=1e-3)  # of 4e6 eV; float32 has steps of 0.25
    atoms.translate([1e4, -1e4, 1e4])
    assert InertialCalculator(net, 'eV').predict([atoms])[0]['energy'] == pytest.approx(single['energy'], abs=1e-3)


@pytest.mark.parametrize('pbc', [True, [True, True, False]], ids=['bulk', 'slab'])
@pytest.mark.parametrize('kind', KINDS)
def test_stress_and_forces_of_periodic_systems(kind, pbc):
    atoms = ice(pbc=pbc)
    atoms.calc = InertialCalculator(periodic_model(kind=kind), 'kcal/mol', dtype=torch.float64)
    stress, forces = atoms.get_stress(), atoms.get_forces()
    assert stress.shape == (6, ) and np.abs(stress).max() > 1e-6
    np.testing.assert_allclose(stress, calculate_numerical_stress(atoms, eps=1e-5), atol=1e-5 * np.abs(stress).max())
    np.testing.assert_allclose(forces, calculate_numerical_forces(atoms, eps=1e-4), atol=1e-5 * np.abs(forces).max())


def test_far_images_in_float32():
    atoms, calc = ice(), InertialCalculator(periodic_model(), 'eV')
    near, = calc.predict([atoms])
    atoms.positions += np.arange(len(atoms))[:, None] * 1000 @ atoms.cell[:1]
    far, = calc.predict([atoms])
    for name in near:
        np.testing.assert_allclose(far[name], near[name], rtol=1e-4, atol=1e-5)


def test_a_cell_relaxes():
    atoms, net = ice(), periodic_model()
    net.scale.fill_(10.0)
    atoms.calc = InertialCalculator(net, 'eV', dtype=torch.float64)
    before = np.abs(FrechetCellFilter(atoms).get_forces()).max(), atoms.get_potential_energy()
    relaxation = BFGS(FrechetCellFilter(atoms), logfile=None)
    relaxation.run(fmax=0.0, steps=8)  # on a random surface atoms end up in one place
    assert atoms.get_potential_energy() < before[1]
    assert np.abs(FrechetCellFilter(atoms).get_forces()).max() < before[0]


def test_molecules_and_crystals_together():
    systems = [shaken('H2O'), ice(), ice(1, [True, True, False]), shaken('CH3CH2OH')]
    systems[2].cell[2] = 0  # as ASE has surfaces: no vector, no volume
    calc = InertialCalculator([periodic_model(0), periodic_model(1)], 'eV', dtype=torch.float64)
    for atoms, together in zip(systems, calc.predict(systems), strict=True):
        single, = calc.predict([atoms])
        assert single.keys() == together.keys() and ('stress' in single) == (atoms is systems[1])
        assert single.keys() == {f'{n}{s}' for n in ('energy', 'forces', 'stress') for s in ('', '_std')
                                 if n != 'stress' or atoms is systems[1]} | {'free_energy'}
        for name in single:
            np.testing.assert_allclose(together[name], single[name], rtol=1e-9, atol=1e-9)
    each = [InertialCalculator(periodic_model(k), 'eV', dtype=torch.float64).predict([systems[1]])[0]['stress']
            for k in range(2)]
    np.testing.assert_allclose(calc.predict(systems)[1]['stress'], np.mean(each, axis=0))
    np.testing.assert_allclose(calc.predict(systems)[1]['stress_std'], np.std(each, axis=0, ddof=1))


@pytest.mark.parametrize('net, atoms', [
    (periodic_model, shaken('H2O')), (lambda: periodic_model(vector_head='direct'), ice()),
    (lambda: periodic_model(periodic='ghost', cutoff=1.2), ice())], ids=['molecule', 'direct', 'ghost'])
def test_where_there_is_no_stress(net, atoms):
    atoms.calc = InertialCalculator(net(), 'eV')
    assert np.isfinite(atoms.get_potential_energy())
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()


def test_charge_and_spin():
    net, atoms = model(charges=(-1, 0, 1), spins=(1, 2)), shaken('H2O')
    atoms.calc = InertialCalculator(net, 'eV', dtype=torch.float64)
    energies = {}
    for charge, spin in ((0, 1), (1, 2), (-1, 2), (0, 1)):
        atoms.info.update(charge=charge, spin=spin)
        energy = atoms.get_potential_energy()
        expected, _ = net.double().eval()(torch.tensor(atoms.numbers), torch.from_numpy(atoms.positions),
                                          charge=torch.tensor([charge]), spin=torch.tensor([spin]))
        assert energy == pytest.approx(float(expected.detach()), abs=1e-9)
        energies.setdefault((charge, spin), energy)
        assert energy == energies[charge, spin]
    assert len(set(energies.values())) == 3
    atoms.info.clear()  # neutral, a singlet
    assert atoms.get_potential_energy() == energies[0, 1]
    ion = atoms.copy()
    ion.info['charge'] = np.int64(-1)
    one, other = atoms.calc.predict([atoms, ion])
    assert one['energy'] == pytest.approx(energies[0, 1]) and other['energy'] != one['energy']


def test_a_crystal_with_a_charge():
    net, atoms = periodic_model(charges=(0, 1)), ice()
    atoms.info['charge'] = 1.0
    charged, = InertialCalculator(net, 'eV').predict([atoms])
    neutral, = InertialCalculator(net, 'eV').predict([ice()])
    assert charged['energy'] != neutral['energy'] and not np.allclose(charged['stress'], neutral['stress'])


def test_tags():
    net, atoms = periodic_model(num_tags=3), ice()
    atoms.set_tags([0, 0, 1, 2, 2])
    atoms.calc, energies = InertialCalculator(net, 'eV', dtype=torch.float64), []
    for tags in ([0, 0, 1, 2, 2], [0, 1, 1, 2, 2], [0, 0, 1, 2, 2]):
        atoms.set_tags(tags)
        energies.append(atoms.get_potential_energy())
        expected, _ = net.double().eval()(torch.tensor(atoms.numbers), torch.from_numpy(atoms.positions),
                                          cell=torch.from_numpy(atoms.cell.array), pbc=torch.tensor(atoms.pbc),
                                          tags=torch.tensor(tags))
        assert energies[-1] == pytest.approx(float(expected.detach()), abs=1e-8)
    assert energies[0] == energies[2] != energies[1]
    atoms.set_tags(3)
    with pytest.raises(ValueError, match=r'molecule 0 has the tags \[3\], and the model knows 0 to 2'):
        atoms.get_potential_energy()


@pytest.mark.parametrize('fields, info, message', [
    (dict(), dict(charge=1), r"molecule 0 has info\['charge'\] = 1, and the model knows no charges"),
    (dict(), dict(spin=2), r"molecule 0 has info\['spin'\] = 2, and the model knows no spins"),
    (dict(charges=(0, 1)), dict(charge=-1), r"info\['charge'\] = -1, and the model knows only \[0, 1\]"),
    (dict(spins=(2, 4)), dict(), r"info\['spin'\] = 1, and the model knows only \[2, 4\]"),
    (dict(), dict(charge=0.5), r"info\['charge'\] must be an integer \(got 0.5\)"),
    (dict(), dict(charge='one'), r"info\['charge'\] must be an integer \(got 'one'\)"),
], ids=range(6))
def test_charges_that_are_refused(fields, info, message):
    atoms = molecule('H2O')
    atoms.info.update(info)
    with pytest.raises(ValueError, match=message):
        InertialCalculator(model(**fields), 'eV').predict([atoms])


def test_it_works_on_a_copy():
    net = model().train()
    InertialCalculator(net, 'eV', dtype=torch.float64)
    assert net.training and all(p.dtype == torch.float32 and p.requires_grad for p in net.parameters())


def test_from_folders(tmp_path):
    atoms = shaken('H2O')
    for seed in range(2):
        model(seed).save_pretrained(tmp_path / str(seed), energy_unit='kcal/mol')
    ours = InertialCalculator.from_pretrained(tmp_path / '0', tmp_path / '1').predict([atoms])[0]
    expected = InertialCalculator([model(0), model(1)], 'kcal/mol').predict([atoms])[0]
    assert ours['energy'] == expected['energy'] and ours['energy_std'] == expected['energy_std']

    model().save_pretrained(tmp_path / 'silent')
    with pytest.raises(ValueError, match=r"'energy_unit' must be given where .* \(got \['None'\]\)"):
        InertialCalculator.from_pretrained(tmp_path / 'silent')
    with pytest.raises(ValueError, match=r"'energy_unit' must be given where .* \(got \['None', 'kcal/mol'\]\)"):
        InertialCalculator.from_pretrained(tmp_path / '0', tmp_path / 'silent')
    assert InertialCalculator.from_pretrained(tmp_path / 'silent', energy_unit='eV').unit == 1.0


@pytest.mark.parametrize('atoms, message', [
    (Atoms(), 'molecule 1 has no atoms'),
    (Atoms('OH2', [[0, 0, 0], [1, 0, 0], [0, 1, 0]], cell=[9, 9, 9], pbc=[True, False, True]),
     r"molecule 1 has pbc=\[True, False, True\], which the model does not support \(periodic systems need a 'cutoff'"),
    (Atoms('NaCl', [[0, 0, 0], [2, 0, 0]]),
     r"molecule 1 has elements that the model was not trained on: Cl, Na \(it knows the atomic numbers \[1, 6, 8\]\)"),
    (Atoms('OH', [[0, 0, 0], [1, 0, 0]], pbc=True), r"molecule 1 is periodic along a lattice vector of zero length"),
], ids=range(4))
def test_molecules_that_are_refused(atoms, message):
    with pytest.raises(ValueError, match=message):
        InertialCalculator(model(), 'eV').predict([molecule('H2O'), atoms])


@pytest.mark.parametrize('models, kwargs, message', [
    ([], {}, r"'model' must be a predictor or several \(got none\)"),
    ([dict(vector_head='none')], {}, r"'model' must give one energy, a 'sum', and forces, .* 'sum' and 'none'\)"),
    ([dict(vector_head='direct', velocity='merged')], {},
     r"'model' must not read velocities \(got velocity='merged'\)"),
    ([{}, dict(elements=(1, 6))], {}, r"all models must know the same elements \(got \[1, 6, 8\] and \[1, 6\]\)"),
    ([{}, dict(charges=(0, 1))], {}, r"all models must know the same .* tags \(got .*'charge': \(0, 1\)"),
    ([{}], dict(energy_unit='Ry'), r"'energy_unit' must be one of eV, kcal/mol, kJ/mol, Hartree \(got 'Ry'\)"),
    ([{}], dict(dtype=torch.float16), r"'dtype' must be torch.float32 or torch.float64 \(got torch.float16\)"),
], ids=range(7))
def test_models_that_are_refused(models, kwargs, message):
    nets = [GeoMFormer(**dict(elements=ELEMENTS, channels=8, heads=2, num_layers=1, num_kernels=4,
                              vector_head='conservative') | changes) for changes in models]
    with pytest.raises(ValueError, match=message):
        InertialCalculator(nets, **dict(energy_unit='eV') | kwargs)
