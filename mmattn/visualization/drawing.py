"""Pictures and the page that shows them."""
import base64
import html
from pathlib import Path
from typing import Optional, Sequence, Tuple

import cv2
import numpy as np

STYLE = """\
body { font-family: sans-serif; margin: 2em; color: #222 }
img { max-width: 100%; border: 1px solid #ddd }
figure { display: inline-block; margin: 0 1em 1em 0; vertical-align: top;
         max-width: 100% }
figcaption { font-size: 85%; color: #555 }
td, th { padding: 2px 8px; text-align: right; font-size: 85% }
th { border-bottom: 1px solid #aaa }"""


def overlay(image: np.ndarray, heat: np.ndarray,
            strength: float = 0.5) -> np.ndarray:
    """A map from 0 to 1 in colours over a picture of any size."""
    heat = cv2.resize(heat.astype(np.float32), image.shape[1::-1])
    heat = (heat.clip(0, 1) * 255).astype(np.uint8)
    colours = cv2.applyColorMap(heat, cv2.COLORMAP_JET)
    return cv2.addWeighted(colours, strength, image, 1 - strength, 0)


def stretched(heat: np.ndarray) -> np.ndarray:
    """A map stretched to 0 to 1; a constant one is 0."""
    low, high = float(heat.min()), float(heat.max())
    if high <= low:
        return np.zeros_like(heat, dtype=np.float32)
    return (heat - low) / (high - low)


def save_grid(path: Path,
              rows: Sequence[Sequence[Optional[np.ndarray]]],
              titles: Sequence[Sequence[str]],
              width: float = 3.) -> None:
    """Pictures (blue first) in a grid, each with its title.

    Args:
        path: The PNG.
        rows: The pictures; None leaves a place empty but for its title.
        titles: Theirs.
        width: Of one, in inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    shapes = [p.shape for row in rows for p in row if p is not None]
    height = width * (shapes[0][0] / shapes[0][1] if shapes else 1) + 0.35
    columns = max(map(len, rows))
    figure = Figure((width * columns, height * len(rows)), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for ax in axes.flat:
        ax.axis('off')
    for axes_row, row, row_titles in zip(axes, rows, titles):
        for ax, picture, title in zip(axes_row, row, row_titles):
            ax.set_title(title, fontsize=8)
            if picture is not None:
                ax.imshow(picture[..., ::-1])
    save(figure, path)


def new_figure(rows: int, columns: int, size: Tuple[float, float]):
    """A figure without a window, and its axes as a 2-D array."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    figure = Figure((size[0] * columns, size[1] * rows), dpi=110)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def save(figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, bbox_inches='tight')


def table_html(header: Sequence[str], rows: Sequence[Sequence]) -> str:
    """A table of text and numbers."""

    def cells(tag: str, row: Sequence) -> str:
        texts = (f'{v:.4g}' if isinstance(v, float) else str(v) for v in row)
        return ''.join(f'<{tag}>{html.escape(t)}</{tag}>' for t in texts)

    body = ''.join(f'<tr>{cells("td", row)}</tr>' for row in rows)
    return f'<table><tr>{cells("th", header)}</tr>{body}</table>'


def write_page(out: Path) -> Path:
    """Put all pictures below a folder on one page that needs no other file.

    Every subfolder is a section; a file ``table.html`` in it is shown above
    its pictures.

    Returns:
        ``out/index.html``.
    """
    title = html.escape(out.resolve().name)
    parts = [f'<!doctype html><html lang="en"><meta charset="utf-8"><title>'
             f'{title}</title><style>{STYLE}</style><h1>{title}</h1>']
    for folder in sorted({p.parent for p in out.rglob('*.png')}):
        section = folder.relative_to(out).as_posix()
        parts.append(f'<h2>{html.escape(section)}</h2>')
        table = folder / 'table.html'
        if table.is_file():
            parts.append(table.read_text())
        for picture in sorted(folder.glob('*.png')):
            data = base64.b64encode(picture.read_bytes()).decode()
            parts.append(
                f'<figure><img src="data:image/png;base64,{data}">'
                f'<figcaption>{html.escape(picture.stem)}</figcaption>'
                '</figure>')
    out.mkdir(parents=True, exist_ok=True)
    page = out / 'index.html'
    page.write_text('\n'.join(parts), encoding='utf-8')
    return page
