import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data

from torch_geometric_inertial.chem import read_jsonl, read_sdf, read_xyz, sdf, write_jsonl, write_sdf, write_xyz

WATER = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]), name='water')
CO2 = Data(z=torch.tensor([8, 6, 8]), pos=torch.tensor([[-1.17, 0, 0], [0.0, 0, 0], [1.17, 0, 0]]))
NAN = Data(z=torch.tensor([1]), pos=torch.full((1, 3), float('nan')))

V2000 = """hydroxide and proton
  by hand

  3  2  0  0  0  0            999 V2000
    0.0000    0.0000    0.0000 O   0  5  0
    0.9600    0.0000    0.0000 H   0  0  0
    5.0000    0.0000    0.0000 H   0  3  0
  1  2  1  0
  1  3  2  0
M  END
$$$$
"""
V3000 = """ion

  comment
  0  0  0     0  0            999 V3000
M  V30 BEGIN CTAB
M  V30 COUNTS 2 1 0 0 0
M  V30 BEGIN ATOM
M  V30 7 N 0.5 0 -
M  V30 0 0 CHG=1
M  V30 9 H 1.5 0 0 0
M  V30 END ATOM
M  V30 BEGIN BOND
M  V30 1 1 7 9
M  V30 END BOND
M  V30 END CTAB
M  END
"""


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4), seed=st.integers(0, 1000), scale=st.floats(0.1, 500))
@pytest.mark.parametrize('write, read', [(write_sdf, read_sdf), (write_xyz, read_xyz)])
def test_there_and_back(write, read, sizes, seed, scale, tmp_path_factory):
    generator = torch.Generator().manual_seed(seed)
    molecules = [Data(z=torch.randint(1, 119, (n,), generator=generator),
                      pos=torch.randn(n, 3, generator=generator) * scale) for n in sizes]
    path = tmp_path_factory.mktemp('io') / 'file'
    assert write(molecules, path) == len(sizes)
    step = 5.1e-5 if write is write_sdf else 1e-6
    for a, b in zip(molecules, read(path), strict=True):
        assert a.z.tolist() == b.z.tolist()
        torch.testing.assert_close(a.pos, b.pos, atol=step, rtol=1e-6)


def test_sdf_keeps_bonds_charges_and_names(tmp_path):
    ion = WATER.clone()
    ion.edge_index, ion.edge_attr = torch.tensor([[0, 1], [1, 0]]), torch.tensor([1, 1])
    ion.formal_charge, ion.title = torch.tensor([-1, 0, 1]), 'an\nion'
    write_sdf([WATER, CO2, ion], tmp_path / 'a.sdf')
    water, co2, back = read_sdf(tmp_path / 'a.sdf')
    assert water.title == 'water' and co2.title == 'molecule 1' and back.title == 'an ion'
    assert water.edge_index.tolist() == [[0, 0, 1, 2], [1, 2, 0, 0]]
    assert co2.edge_attr.tolist() == [2, 2, 2, 2]
    assert back.edge_index.tolist() == [[0, 1], [1, 0]] and back.formal_charge.tolist() == [-1, 0, 1]
    write_sdf([ion], tmp_path / 'b.sdf', perception='edm')
    assert read_sdf(tmp_path / 'b.sdf')[0].num_edges == 4
    write_sdf([water, co2, back], tmp_path / 'c.sdf')
    assert (tmp_path / 'a.sdf').read_text() == (tmp_path / 'c.sdf').read_text()


def test_rdkit_reads_our_sdf(tmp_path):
    Chem = pytest.importorskip('rdkit.Chem')
    many = Data(z=torch.full((1200,), 6), pos=torch.arange(3600.0).view(1200, 3))
    write_sdf([WATER, CO2, many], tmp_path / 'a.sdf')
    water, co2, big = Chem.SDMolSupplier(str(tmp_path / 'a.sdf'), removeHs=False)
    assert water.GetProp('_Name') == 'water' and Chem.MolToSmiles(water) == '[H]O[H]'
    assert Chem.MolToSmiles(co2) == 'O=C=O' and co2.GetConformer().Is3D()
    assert big.GetNumAtoms() == 1200


@pytest.mark.parametrize('far', [123456.5, -99999.25])
def test_coordinates_too_wide_for_v2000_are_written_as_v3000(far, tmp_path):
    wide = WATER.clone()
    wide.pos = wide.pos + torch.tensor([far, 0, 0])
    for write, read, name in ((write_sdf, read_sdf, 'a.sdf'), (write_xyz, read_xyz, 'a.xyz')):
        write([WATER, wide], tmp_path / name)
        for a, b in zip([WATER, wide], read(tmp_path / name), strict=True):
            torch.testing.assert_close(a.pos, b.pos, atol=2e-2, rtol=0)
    kinds = [line[-5:] for line in (tmp_path / 'a.sdf').read_text().splitlines() if line.endswith('000')]
    assert kinds[0] == 'V2000' and kinds[1] == 'V3000'


def test_we_read_rdkit_s_files(tmp_path):
    Chem = pytest.importorskip('rdkit.Chem')
    from rdkit.Chem import AllChem

    mol = Chem.AddHs(Chem.MolFromSmiles('C[N+](C)(C)CC(=O)[O-]'))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    for block in (Chem.MolToMolBlock(mol), Chem.MolToV3KMolBlock(mol)):
        (tmp_path / 'a.mol').write_text(block)
        data, = read_sdf(tmp_path / 'a.mol')
        assert data.z.tolist() == [atom.GetAtomicNum() for atom in mol.GetAtoms()]
        assert data.formal_charge.tolist() == [atom.GetFormalCharge() for atom in mol.GetAtoms()]
        assert data.num_edges == 2 * mol.GetNumBonds()
    (tmp_path / 'a.xyz').write_text(Chem.MolToXYZBlock(mol))
    torch.testing.assert_close(read_xyz(tmp_path / 'a.xyz')[0].pos, data.pos, atol=1e-3, rtol=0)


def test_v2000_and_v3000_by_hand(tmp_path):
    (tmp_path / 'a.sdf').write_text(V2000 + V3000)
    old, new = read_sdf(tmp_path / 'a.sdf')
    assert old.z.tolist() == [8, 1, 1] and old.formal_charge.tolist() == [-1, 0, 1]
    assert old.title == 'hydroxide and proton'
    assert old.edge_attr.tolist() == [1, 2, 1, 2]
    assert new.z.tolist() == [7, 1] and new.formal_charge.tolist() == [1, 0]
    assert new.pos.tolist() == [[0.5, 0, 0], [1.5, 0, 0]] and new.edge_index.tolist() == [[0, 1], [1, 0]]
    (tmp_path / 'b.sdf').write_text(V2000.replace('M  END', 'M  CHG  1   2  -2\nM  END').replace('\n', '\r\n'))
    assert read_sdf(tmp_path / 'b.sdf')[0].formal_charge.tolist() == [0, -2, 0]


@pytest.mark.parametrize('rdkit', [True, False], ids=['RDKit', 'by hand'])
@pytest.mark.parametrize('text, message', [
    (V2000.replace('M  END', 'M  CHG  1   2 200\nM  END'), 'line 10: CHG must be from -15 to 15 \\(got 200\\)'),
    (V2000.replace('M  END', 'M  ISO  2   1  18   2  -5\nM  END'), 'line 10: ISO must be from 0 to 999 \\(got -5\\)'),
    (V3000.replace('CHG=1', 'CHG=2-\nM  V30 55'), 'line 8: CHG must be from -15 to 15 \\(got 255\\)'),
    (V3000.replace('CHG=1', 'MASS=70000'), 'line 8: MASS must be from 0 to 999 \\(got 70000\\)'),
])
def test_charges_and_masses_that_rdkit_would_store_as_others(rdkit, text, message, tmp_path, monkeypatch):
    if not rdkit:
        monkeypatch.setattr(sdf, '_rdkit', lambda: None)
    (tmp_path / 'a.sdf').write_text(text)
    with pytest.raises(ValueError, match=f"a.sdf: record 0 .*{message}"):
        read_sdf(tmp_path / 'a.sdf')


@pytest.mark.parametrize('field, value', [('formal_charge', 16), ('isotope', 1000), ('num_radical_electrons', -1)])
def test_what_no_file_holds_is_not_written_and_not_read(field, value, tmp_path):
    strange = WATER.clone()
    strange[field] = torch.tensor([0, value, 0])
    for write in (write_sdf, write_xyz, write_jsonl):
        with pytest.raises(ValueError, match=rf"^molecule 1: '{field}' must be whole .* \(got {value} at atom 1\)"):
            write([WATER, strange], tmp_path / 'a')
    (tmp_path / 'a.jsonl').write_text(f'{{"z": [1], "pos": [[0, 0, 0]], "{field}": [{value}]}}\n')
    with pytest.raises(ValueError, match=f"a.jsonl: record 0.*'{field}' must be 1 whole numbers from"):
        read_jsonl(tmp_path / 'a.jsonl')
    (tmp_path / 'a.xyz').write_text(f'1\nProperties=species:S:1:pos:R:3:{field}:I:1\nC 0 0 0 {value}\n')
    with pytest.raises(ValueError, match=f"a.xyz: record 0.*'{field}' must be whole numbers"):
        read_xyz(tmp_path / 'a.xyz')


@pytest.mark.parametrize('charge', ['nan', '1e400', '0.5', 'many', '1000000'])
def test_a_total_charge_that_is_none(charge, tmp_path):
    (tmp_path / 'a.xyz').write_text(f'1\nProperties=species:S:1:pos:R:3 charge={charge}\nC 0 0 0\n')
    with pytest.raises(ValueError, match=r"a.xyz: record 0.*'charge' must be a whole number from -1000 to 1000"):
        read_xyz(tmp_path / 'a.xyz')


def test_xyz_is_read_with_tolerance(tmp_path):
    text = '2\nname\n6 1.0D-1 2.0*^-1 3e0 0.5 extra\ncl -1 0 .5\n\n1\n\nD 0 0 0\n\n\n'
    (tmp_path / 'a.xyz').write_text(text)
    first, second = read_xyz(tmp_path / 'a.xyz')
    assert first.z.tolist() == [6, 17] and first.title == 'name'
    torch.testing.assert_close(first.pos, torch.tensor([[0.1, 0.2, 3.0], [-1.0, 0.0, 0.5]]))
    assert second.z.tolist() == [1] and second.title == ''


@pytest.mark.parametrize('write', [write_sdf, write_xyz])
@pytest.mark.parametrize('bad, message', [
    (None, r'molecule 1 is missing \(got None\)'),
    (NAN, 'molecule 1 has a position that is not finite, at atom 0'),
    (Data(z=torch.tensor([0]), pos=torch.zeros(1, 3)), 'molecule 1 has no element at atom 0'),
    (Data(z=torch.ones(0), pos=torch.zeros(0, 3)), 'molecule 1 has no atoms'),
    (Data(z=torch.tensor([1])), "molecule 1 needs atomic numbers 'z' and positions 'pos'"),
])
def test_bad_molecules_are_refused_and_the_old_file_stays(write, bad, message, tmp_path):
    path = tmp_path / 'molecules'
    path.write_text('old')
    with pytest.raises(ValueError, match=message):
        write([WATER, bad], path)
    assert path.read_text() == 'old'
    with pytest.warns(UserWarning, match=f'left out 1 molecule.*{message}'):
        assert write([WATER, bad, CO2], path, on_error='skip') == 2
    assert [file.name for file in tmp_path.iterdir()] == ['molecules']


def bad_sdf(text, old, new):
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize('text, message', [
    ('', 'the file is empty'),
    ('\n\n\n', 'the file is empty'),
    ('name\n', "record 0 \\('name'\\), line 1: the record ends before its counts line"),
    ('a\nb\nc\nnope\n', "record 0 .'a'., line 4: expected a counts line of V2000 or V3000 \\(got 'nope'\\)"),
    (bad_sdf(V2000, '  3  2', '  9  2'), 'line 10: the record ends before its 9 atoms and 2 bonds'),
    (bad_sdf(V2000, '  3  2', '  x  2'), "line 4: expected a whole number \\(got '  x'\\)"),
    (bad_sdf(V2000, '0.9600', '   nan'), "line 6: a coordinate must be finite \\(got 'nan'\\)"),
    (bad_sdf(V2000, '0.9600', 'zero..'), 'line 6: expected a coordinate'),
    (bad_sdf(V2000, ' O  ', ' Xx '), "line 5: no such element, 'Xx'"),
    (bad_sdf(V2000, ' O   0  5  0', ''), 'line 5: expected an atom'),
    (bad_sdf(V2000, '  1  2  1', '  1  7  1'), 'line 8: a bond between atoms 1 and 7 of 3'),
    (bad_sdf(V2000, '  1  2  1', '  1  2  8'), 'line 4: the molecule has a bond of type'),
    (V2000 + bad_sdf(V3000, 'M  V30 END CTAB\n', ''),
     "record 1 .'ion'., line 26: the record ends before 'M  V30 END CTAB'"),
    (bad_sdf(V3000, 'COUNTS 2', 'COUNTS 3'), r'expected the declared \[3, 1\] atoms and bonds \(got \[2, 1\]\)'),
    (bad_sdf(V3000, '1 1 7 9', '1 1 7 1'), "line 13: a bond of an atom that is not there, '1'"),
    (bad_sdf(V3000, '1 1 7 9', '1 1 7'), 'line 13: expected a bond'),
    (bad_sdf(V3000, '9 H 1.5 0 0 0', '9 H 1.5'), 'line 10: expected an atom'),
    ('a\n\n\n  0  0  0  0  0  0            999 V2000\nM  END\n', 'line 4: the molecule has no atoms'),
])
def test_bad_sdf(text, message, tmp_path):
    (tmp_path / 'bad.sdf').write_text(text)
    with pytest.raises(ValueError, match=f'bad.sdf: .*{message}'):
        read_sdf(tmp_path / 'bad.sdf')


@pytest.mark.parametrize('text, message', [
    ('', 'the file is empty'),
    ('two\n\nH 0 0 0\n', "record 0, line 1: expected a whole number \\(got 'two'\\)"),
    ('0\n\n', 'record 0, line 1: the molecule has no atoms'),
    ('3\n\nH 0 0 0\n', 'record 0, line 1: the file ends before the 3 atoms of line 1'),
    ('1\n\nH 0 0\n', 'line 3: expected an element and three coordinates'),
    ('1\n\nQ 0 0 0\n', "line 3: no such element, 'Q'"),
    ('1\n\n119 0 0 0\n', "line 3: no such element, '119'"),
    ('1\n\nH 0 inf 0\n', "line 3: a coordinate must be finite in single precision"),
    ('1\n\nH 0 0 0\n1\n\nH 0 0 x\n', "record 1, line 6: expected a coordinate \\(got 'x'\\)"),
])
def test_bad_xyz(text, message, tmp_path):
    (tmp_path / 'bad.xyz').write_text(text)
    with pytest.raises(ValueError, match=f'bad.xyz: .*{message}'):
        read_xyz(tmp_path / 'bad.xyz')


def test_bad_records_can_be_left_out(tmp_path):
    (tmp_path / 'a.sdf').write_text(V2000 + bad_sdf(V2000, ' O ', ' Xx ') + V3000)
    with pytest.warns(UserWarning, match="left out 1 molecule.*record 1 .'hydroxide.*line 16: no such element, 'Xx'"):
        assert [data.num_nodes for data in read_sdf(tmp_path / 'a.sdf', on_error='skip')] == [3, 2]


def test_bad_arguments(tmp_path):
    for call in (lambda: write_xyz([WATER], tmp_path / 'x', 'ignore'), lambda: read_sdf(tmp_path / 'x', 'ignore')):
        with pytest.raises(ValueError, match="'on_error' must be 'raise' or 'skip' \\(got 'ignore'\\)"):
            call()
    with pytest.raises(ValueError, match="'perception' must be None, 'data' or 'edm' \\(got 'rdkit'\\)"):
        write_sdf([WATER], tmp_path / 'x', perception='rdkit')


def test_data_items_are_read_as_numbers(tmp_path):
    path = tmp_path / 'own.sdf'
    write_sdf([Data(z=torch.tensor([8]), pos=torch.zeros(1, 3))] * 3, path)
    first, second, third = path.read_text().split('$$$$\n')[:3]
    path.write_text(f'{first}>  <gap>  (1)\n6.5\n\n>  <smell>\nnone\n\n$$$$\n{second}$$$$\n{third}> <gap>\n\n$$$$\n')
    values = torch.cat([data.gap for data in read_sdf(path, fields=['gap'])])
    assert values[0] == 6.5 and values[1:].isnan().all()
    assert 'gap' not in read_sdf(path)[0]
    with pytest.raises(ValueError, match=r"record 0 \('molecule 0'\), line 1: <smell> must be a .* \(got 'none'\)"):
        read_sdf(path, fields=['smell'])
    with pytest.raises(ValueError, match=r"'fields' must not be one of z, pos, .* \(got 'pos'\)"):
        read_sdf(path, fields=['pos'])


def test_a_stream_is_written_as_it_comes(tmp_path):
    """One molecule is in memory at a time, and a stream that breaks leaves the last good file."""
    alive = []

    class Counted(Data):
        def __init__(self, **fields):
            super().__init__(**fields)
            alive.append(1)

        def __del__(self):
            alive.pop()

    def stream(num):
        for _ in range(num):
            assert len(alive) <= 1
            yield Counted(z=WATER.z, pos=WATER.pos)

    for write in (write_sdf, write_jsonl):
        assert write(stream(50), tmp_path / 'a') == 50
        before = (tmp_path / 'a').read_text()

        def broken():
            yield WATER
            raise KeyError('the source broke')
        with pytest.raises(KeyError):
            write(broken(), tmp_path / 'a')
        assert (tmp_path / 'a').read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ['a']
