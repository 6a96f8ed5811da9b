"""tools/make_report.py on small logs of the form that mmengine writes."""
import base64
import importlib.util
import json
import math
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

import mmattn
from mmattn.engine.launch import UsageError
from mmattn.visualization.report import (find_pictures, make_report,
                                         results_table)
from mmattn.visualization.run_logs import find_logs, read_run

ROOT = Path(mmattn.__file__).resolve().parents[1]


def train(step, loss, **more):
    return dict(lr=0.1 / step, data_time=0.1, loss=loss, loss_cls=loss / 2,
                time=0.2, iter=step, memory=7, step=step, **more)


def val(step, **metrics):
    return dict(**metrics, data_time=0.1, time=0.2, step=step)


def write(log, lines):
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    return log


def scalars(work_dir, name, lines):
    return write(work_dir / name / 'vis_data' / 'scalars.json', lines)


LINES = [train(10, 4.), train(20, 3., grad_norm=9.), val(1, mAP=0.5),
         train(30, 2.), val(2, mAP=0.7), train(40, 1.), val(3, mAP=0.6)]


@pytest.fixture
def work_dir(tmp_path):
    scalars(tmp_path / 'run', '20260102_000000', LINES)
    return tmp_path / 'run'


# -- what a log says -------------------------------------------------------


def test_curves_and_their_places(work_dir):
    run = read_run(work_dir, 'run')
    assert run.curves == {
        'Losses': dict(
            loss=[(10, 4.), (20, 3.), (30, 2.), (40, 1.)],
            loss_cls=[(10, 2.), (20, 1.5), (30, 1.), (40, .5)]),
        # step counts epochs here; the place is the training's
        'Metrics': dict(mAP=[(20, 0.5), (30, 0.7), (40, 0.6)]),
        'Learning rate': dict(lr=[(s, 0.1 / s) for s in (10, 20, 30, 40)]),
        'Gates': {},
        'Others': dict(grad_norm=[(20, 9.)]),
    }
    assert (run.lines, run.earlier) == (7, 0)


def test_gates_are_curves_and_no_results(tmp_path):
    # GateHealthHook's lines come before the training's of that iteration.
    key = 'gates/backbone.layer1/saturation'
    lines = [dict(step=s, **{key: s / 100}) for s in (10, 20)]
    scalars(tmp_path, '1', [lines[0], train(10, 4.), lines[1], train(20, 3.),
                            val(1, mAP=0.5)])
    run = read_run(tmp_path, 'a')
    assert run.curves['Gates'] == {key: [(10, 0.1), (20, 0.2)]}
    assert [row[0] for row in results_table([run])[1]] == ['mAP']


def test_best_and_last(tmp_path):
    scalars(tmp_path, '1', [
        train(10, 4., epoch=1), val(1, mAP=0.5, loss=3., acc=math.nan),
        train(20, 3., epoch=2), val(2, mAP=0.7, loss=1., acc=0.1),
        train(30, 3., epoch=3), val(3, mAP=0.6, loss=2., acc=math.nan)])
    header, rows = results_table([read_run(tmp_path, 'a')])
    assert header[2:] == ['best', 'at iteration', 'epoch', 'last',
                          'evaluations']
    assert rows[0] == ['mAP', 'a', 0.7, 20, 2, 0.6, 3]
    assert rows[1] == ['loss', 'a', 1., 20, 2, 2., 3]  # less is better
    assert rows[2][:5] == ['acc', 'a', 0.1, 20, 2]


def test_the_newest_training_and_the_tests_after_it(work_dir):
    scalars(work_dir, '20260101_000000', [train(10, 9.)])
    scalars(work_dir, '20260103_000000', [])  # died at once
    for day in (4, 5):
        name = f'2026010{day}_000000'
        write(work_dir / name / f'{name}.json', [dict(mAP=day / 10, time=.1)])
    run = read_run(work_dir, 'run')
    assert run.log.parts[-3] == '20260102_000000' and run.earlier == 1
    assert run.curves['Metrics'] == {
        'mAP': [(20, 0.5), (30, 0.7), (40, 0.6)],
        'test mAP': [(40, 0.4), (40, 0.5)]}


def test_a_work_dir_of_tests_only(tmp_path):
    for day in (4, 5):
        write(tmp_path / f'0{day}' / f'0{day}.json', [dict(mAP=day / 10)])
    run = read_run(tmp_path, 'run')
    assert run.curves['Metrics'] == dict(mAP=[(0, 0.5)])


def test_one_run_s_own_folder(work_dir):
    log, = find_logs(work_dir / '20260102_000000')
    assert find_logs(work_dir) == [log]


# -- the page --------------------------------------------------------------


def images(page):
    """The pictures on a page, decoded."""
    return [
        cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), -1)
        for data in re.findall(r'<img src="data:image/\w+;base64,([^"]+)"',
                               page)
    ]


def test_the_page_needs_no_other_file(work_dir, tmp_path):
    scalars(tmp_path / 'b' / 'run', '1', LINES[:3])
    folder = work_dir / '20260102_000000' / 'vis_data' / 'vis_image'
    folder.mkdir()
    cv2.imwrite(str(folder / 'a<b.png'), np.full((51, 970, 3), 9, np.uint8))
    out = tmp_path / 'report.html'
    make_report([str(work_dir), str(tmp_path / 'b' / 'run')], str(out))
    page = out.read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources and all(s.startswith('data:image/') for s in sources)
    assert 'http' not in page
    titles = re.findall('<h2>(.*?)</h2>', page)
    same = f'{tmp_path.name}/run'
    assert titles == ['Best results', 'Losses', 'Metrics', 'Learning rate',
                      f'Pictures: {same}']
    assert f'<td>{same}</td>' in page and '<td>b/run</td>' in page
    assert '<td>0.7</td><td>30</td>' in page
    losses, metrics, rate, picture = images(page)
    assert losses.shape[1] > metrics.shape[1]  # two plots, one plot
    assert picture.shape == (25, 480, 3)
    assert 'a&lt;b.png' in page


def test_runs_are_drawn_in_one_plot(work_dir, tmp_path):
    pages = []
    scalars(tmp_path / 'other', '1', [train(s, 5.) for s in (10, 40)])
    for work_dirs in ([work_dir], [work_dir, tmp_path / 'other']):
        make_report(list(map(str, work_dirs)), str(tmp_path / 'r.html'))
        pages.append(images((tmp_path / 'r.html').read_text()))
    one, two = pages
    assert one[0].shape == two[0].shape and (one[0] != two[0]).any()
    # matplotlib's second colour, blue first
    orange = np.array([14, 127, 255])
    assert not (one[0][..., :3] == orange).all(-1).any()
    assert (two[0][..., :3] == orange).all(-1).any()


def test_pictures_are_spread_over_the_newest_run(tmp_path):
    for run, count in (('1', 9), ('2', 7), ('3', 0)):
        (tmp_path / run).mkdir()
        for i in range(count):
            (tmp_path / run / f'{i}.png').touch()
    names = [p.relative_to(tmp_path).as_posix()
             for p in find_pictures(tmp_path, 3)]
    assert names == ['2/0.png', '2/2.png', '2/4.png']
    assert len(find_pictures(tmp_path, 99)) == 7
    assert find_pictures(tmp_path, 0) == []


# -- bad input -------------------------------------------------------------


def refused(work_dir, message, out='r.html'):
    with pytest.raises(UsageError, match=message):
        make_report([str(work_dir)], str(work_dir.parent / out))


def test_no_folder_no_log_no_numbers(tmp_path):
    refused(tmp_path / 'gone', "gone' is not a folder")
    (tmp_path / 'none' / 'vis_data').mkdir(parents=True)
    refused(tmp_path / 'none', "none' holds no log")
    scalars(tmp_path / 'bare', '1', [])
    refused(tmp_path / 'bare', 'scalars.json holds no losses and no metrics')


@pytest.mark.parametrize('line', ['{"loss": 1.2, "it', '[1]', '3', '\x00'])
def test_a_damaged_line_is_named(tmp_path, line):
    log = scalars(tmp_path / 'run', '1', LINES)
    log.write_text(f'{log.read_text()}\n{line}')
    refused(tmp_path / 'run', r'scalars\.json, line 9: .* not a JSON object')


def test_a_damaged_picture_and_a_page_that_cannot_be_written(work_dir):
    refused(work_dir, 'cannot be written: ', out='gone/r.html')
    (work_dir / 'a.jpg').touch()
    refused(work_dir, r'a.jpg cannot be read as a picture \(the file is empty')
    (work_dir / 'a.jpg').unlink()
    _, whole = cv2.imencode('.png', np.zeros((51, 97, 3), np.uint8))
    (work_dir / 'b.png').write_bytes(whole.tobytes()[:-9])
    refused(work_dir, r'b.png cannot be read as a picture .*truncated')
    assert not (work_dir.parent / 'r.html').exists()


def test_a_work_dir_named_twice(work_dir):
    with pytest.raises(UsageError, match='named twice'):
        make_report([str(work_dir), f'{work_dir}/'], 'r.html')


def test_command(work_dir, tmp_path, capsys):
    spec = importlib.util.spec_from_file_location(
        'make_report', ROOT / 'tools' / 'make_report.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    out = tmp_path / 'r.html'
    tool.main([str(work_dir), '-o', str(out)])
    assert out.is_file() and capsys.readouterr().out == f'see {out}\n'
    with pytest.raises(SystemExit) as end:
        tool.main([str(tmp_path / 'gone')])
    assert end.value.code.startswith('make_report.py: error: work dir ')
    with pytest.raises(SystemExit):
        tool.main([str(work_dir), '--pictures', '-1'])
