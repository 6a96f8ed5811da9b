"""Label maps that cannot be read are named."""
from mmengine import fileio
from mmseg.datasets.transforms import LoadAnnotations as StockLoader

from ..engine.images import ImageError, find_fault


class LoadAnnotations(StockLoader):
    """mmsegmentation's ``LoadAnnotations``, which names a bad file.

    Our tools put this in its place.

    Args:
        As mmsegmentation's.

    Raises:
        ImageError: The label map is damaged or no image.
    """

    def _load_seg_map(self, results: dict) -> None:
        path = results['seg_map_path']
        data = fileio.get(path, backend_args=self.backend_args)
        fault = find_fault(data)
        if fault:
            raise ImageError.of(path, f'label map: {fault}')
        try:
            super()._load_seg_map(results)
        # Of a damaged file Pillow raises these, OpenCV makes a None.
        except (OSError, SyntaxError, ValueError, AttributeError) as error:
            raise ImageError.of(
                path, 'label map: it cannot be read as an image '
                f'({type(error).__name__}: {error})') from error
