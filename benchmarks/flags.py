"""What the command lines of the benchmarks have in common."""

import argparse
import pathlib
import re
from collections.abc import Sequence


def command(module: str, arguments: Sequence[str]) -> str:
    """A command line as anybody could give it: where folders were is of no interest."""
    line = ' '.join([f'python -m {module}', *arguments])
    line = re.sub(
        r'--(official|weatherbench2|planet|workdir|folder)[= ]\S+', r'--\1=PATH', line
    )
    return re.sub(r' --output[= ]\S+', '', line)


def integers(text: str) -> tuple[int, ...]:
    """Of a flag: `'16,64'`."""
    return tuple(map(int, text.split(',')))


def checkout(text: str) -> pathlib.Path:
    """Of the flag --official: a checkout of google-research/spherical-cnn.

    Raises:
      argparse.ArgumentTypeError: If it is none.
    """
    path = pathlib.Path(text).resolve()
    if not (path / 'spherical_cnn' / 'layers.py').exists():
        raise argparse.ArgumentTypeError(
            f'expected a checkout with spherical_cnn/layers.py, got {path}'
        )
    return path
