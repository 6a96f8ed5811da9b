"""The metafiles: complete, readable by the stack, and true of the code."""
import importlib.util
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config
from test_configs import CONFIGS, PUBLISHED

import mmattn
from mmattn.complexity import CONVENTIONS, profile

ROOT = Path(mmattn.__file__).resolve().parents[1]

spec = importlib.util.spec_from_file_location(
    'make_model_zoo', ROOT / 'tools' / 'make_model_zoo.py')
zoo = importlib.util.module_from_spec(spec)
spec.loader.exec_module(zoo)

METAFILES = zoo.read()
MODELS = [model for metafile in METAFILES for model in metafile['Models']]
ROWS = [(model, row) for model in MODELS
        for row in model['Metadata'].get('Published', [])]


def name(model):
    return model['Name']


def test_every_config_has_one_entry():
    assert Counter(m['Config'] for m in MODELS) == Counter(CONFIGS)


def test_every_metafile_is_in_the_index():
    text = (ROOT / 'model-index.yml').read_text()
    paths = yaml.safe_load(text)['Import']
    assert sorted(paths) == sorted(
        str(path.relative_to(ROOT))
        for path in ROOT.glob('configs/**/metafile.yml'))
    for path, metafile in zip(paths, METAFILES):
        collection, = metafile['Collections']
        assert collection['README'] == path.replace('metafile.yml',
                                                    'README.md')
        assert set(collection['Paper']) == {'Title', 'URL'}
        for model in metafile['Models']:
            assert model['In Collection'] == collection['Name']
            assert Path(model['Config']).parent == Path(path).parent
            assert model['Name'] == Path(model['Config']).stem


def test_every_row_of_every_table_is_there():
    assert Counter((row['Paper'], row['Table']) for _, row in ROWS) == {
        ('DCANet', '1'): 27,
        ('DCANet', '2'): 6,
        ('SDA-xNet', '1'): 16,
        ('SDA-xNet', '2'): 16,
        ('SDA-xNet', '3'): 11,
        ('SDA-xNet', '3+4'): 11,
        ('Coordinate Attention', '1'): 7,
        ('Coordinate Attention', '2'): 8,
        ('Coordinate Attention', '3'): 4,
        ('Coordinate Attention', '4'): 8,
        ('Coordinate Attention', '5'): 4,
        ('AFF', '1'): 10,
        ('AFF', '2'): 3,
        ('ECA-Net', '1'): 4,
        ('ECA-Net', '2+3'): 4,
    }


def printed(row):
    """All numbers of a row, as printed."""
    return [*row.get('Metrics', {}).values()] + [
        figure['Printed'][:-1] for figure in zoo.figures(row).values()]


@pytest.mark.parametrize(
    'model', [m for m in MODELS if 'Published' in m['Metadata']], ids=name)
def test_the_header_of_a_config_prints_the_same(model):
    """Of two papers with the same network, it quotes one in full."""
    header = (ROOT / model['Config']).read_text().split('\n_base_')[0]
    header = header.replace('\n#', '')
    numbers = set(re.findall(r'\d+(?:\.\d+)?', header))
    rows = model['Metadata']['Published']
    assert all(row['Paper'] in header for row in rows)
    assert any(numbers.issuperset(printed(row)) for row in rows), (
        f'{[printed(row) for row in rows]} are not in the header')


def test_every_row_is_exact_or_explained():
    for model, row in ROWS:
        assert zoo.exact(row) or row.get('Note'), (model['Name'], row)
        for figure in zoo.figures(row).values():
            assert figure['Convention'] in CONVENTIONS, model['Name']


def test_exact_means_every_digit_rounded():
    def row(printed, counted, convention='macs'):
        return dict(FLOPs=dict(
            Printed=printed, Counted=counted, Convention=convention))

    assert zoo.exact(row('4.12G', 4115000000))
    assert zoo.exact(row('300M', 304999999))
    assert zoo.exact(row('24.37M', 25557112, 'binary'))
    assert not zoo.exact(row('4.12G', 4125000001))
    assert not zoo.exact(row('4.12G', 4129999999))  # cut off
    assert not zoo.exact(row('24.37M', 25557112))
    assert not zoo.exact({})
    assert not zoo.exact(row('1.0M', 1000000) | dict(
        Parameters=row('1.0M', 2000000)['FLOPs']))


def test_nothing_is_presented_as_trained_by_us():
    """What readers of metafiles would take for ours is absent."""
    for model in MODELS:
        assert 'Weights' not in model, model['Name']
        assert model['Results'], model['Name']  # openmim iterates over them
        for result in model['Results']:
            assert set(result) == {'Task', 'Dataset'}, model['Name']


def test_parameters_are_those_of_the_published_networks():
    entries = {model['Config']: model['Metadata'] for model in MODELS}
    for path, expected in PUBLISHED.items():
        every, training = expected if isinstance(expected, tuple) else (
            expected, expected)
        data = entries[path]
        assert data['Parameters'] == every, path
        assert data.get('Trainable', every) == training, path


def check(model):
    """Measure, and compare all figures of the entry."""
    path = ROOT / model['Config']
    pytest.importorskip(Config.fromfile(path).default_scope)
    counts = profile(path)
    now, data = counts.under('macs'), model['Metadata']
    written = (data['Parameters'], data.get('Trainable', data['Parameters']),
               data['FLOPs'])
    assert written == (now.params, now.trainable, now.macs), (
        'parameters, trainable and MACs of the metafile are not the '
        f"network's; see tools/complexity.py {model['Config']}")
    for row in data.get('Published', []):
        for key, what in (('Parameters', 'counted'), ('FLOPs', 'macs')):
            if key in row:
                now = counts.under(row[key]['Convention'])
                assert row[key]['Counted'] == getattr(now, what), (
                    f"{row['Paper']}, {row['Row']}: {key} by "
                    f"{row[key]['Convention']}")


@pytest.mark.config
@pytest.mark.parametrize(
    'model', [metafile['Models'][0] for metafile in METAFILES], ids=name)
def test_the_first_of_each_folder_is_as_measured(model):
    check(model)


@pytest.mark.config
@pytest.mark.parametrize('model', MODELS, ids=name)
def test_every_figure_is_as_measured(model):
    check(model)


def test_pages_are_written_from_the_metafiles():
    for path, text in zoo.pages().items():
        assert path.read_text() == text, (
            f'{path} is out of date: python tools/make_model_zoo.py')


def test_check_finds_an_old_page_and_leaves_it(tmp_path, monkeypatch, capsys):
    page = tmp_path / 'README.md'
    page.write_text('old')
    monkeypatch.setattr(zoo, 'ROOT', tmp_path)
    monkeypatch.setattr(zoo, 'pages', lambda: {page: 'new'})
    monkeypatch.setattr('sys.argv', ['make_model_zoo.py', '--check'])
    with pytest.raises(SystemExit) as error:
        zoo.main()
    assert error.value.code not in (0, None)
    assert capsys.readouterr().out == 'out of date: README.md\n'
    assert page.read_text() == 'old'
    monkeypatch.setattr('sys.argv', ['make_model_zoo.py'])
    zoo.main()
    assert page.read_text() == 'new'
    monkeypatch.setattr('sys.argv', ['make_model_zoo.py', '--check'])
    zoo.main()


def test_a_readme_without_the_markers_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, 'ROOT', tmp_path)
    monkeypatch.setattr(zoo, 'read', lambda: METAFILES[:1])
    path = tmp_path / METAFILES[0]['Collections'][0]['README']
    path.parent.mkdir(parents=True)
    path.write_text(zoo.BEGIN)
    with pytest.raises(ValueError, match='README.md needs one line'):
        zoo.pages()


def test_hub_finds_configs_by_the_metafiles():
    from mmengine.hub import get_config
    own = ROOT / 'mmattn' / '.mim' / 'model-index.yml'
    assert own.read_text() == (ROOT / 'model-index.yml').read_text()
    for model in (MODELS[0], MODELS[-1]):
        cfg = get_config(model['Config'].replace('configs/', 'mmattn::', 1))
        assert Path(cfg.filename).resolve() == ROOT / model['Config']
        assert cfg.model.backbone.type.startswith('mmattn.')


def test_model_index_reads_them():
    """openmim's and mmpretrain's reader."""
    load = pytest.importorskip('modelindex.load_model_index').load
    index = load(str(ROOT / 'model-index.yml'))
    assert [m.name for m in index.models] == [m['Name'] for m in MODELS]
    assert not index.check_errors
    for model, written in zip(index.models, MODELS):
        assert not model.check_errors
        assert model.metadata.parameters == written['Metadata']['Parameters']
        assert model.full_model.paper['URL']
        assert [r.metrics for r in model.results] == [None] * len(
            written['Results'])
