"""Config files, as our tools read them."""
import argparse
import os
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction


class UsageError(Exception):
    """A wrong command line or config; the tools print it and end."""


class Options(DictAction):
    """``KEY=VALUE ...``; another form is an error of the command line."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any,
                 values: Any, option_string: str = None) -> None:
        for text in values:
            if '=' not in text:
                parser.error(f'{option_string}: {text!r} is not KEY=VALUE')
        super().__call__(parser, namespace, values, option_string)


def require_file(path: str, what: str) -> None:
    """Raise UsageError unless ``path`` is a file or names a remote one."""
    if '://' not in path and not Path(path).is_file():
        raise UsageError(
            f'{what} {path!r} is not a file (looked from {os.getcwd()}); '
            'check the path')


def read_config(path: str) -> Config:
    """Read a config.

    Raises:
        UsageError: It is not a file, or cannot be read.
    """
    require_file(path, 'config')
    try:
        return Config.fromfile(path)
    except Exception as error:  # a config is code
        raise UsageError(f'config {path} cannot be read: '
                         f'{type(error).__name__}: {error}') from error


def require_model(cfg: Config) -> None:
    """Raise UsageError unless a config has a model."""
    model = cfg.get('model')
    if not isinstance(model, dict):
        raise UsageError(
            f'config {cfg.filename} has no model' +
            (f', but model = {model!r}' if model is not None else ''))
