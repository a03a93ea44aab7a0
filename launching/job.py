"""What is to be run, wherever: a checked config, a run directory, the code, a name."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from learning.schema import Count, Group, Integer

_NAME = re.compile(r'[a-z]([-a-z0-9]{0,38}[a-z0-9])?')
# Neither what shells split at, nor what they do not show.
_ADDRESS = re.compile(r'[^\s\x00-\x1f\x7f"\'\\`$]+')
_IMAGE = re.compile(r'[a-z0-9][\w.:/@-]*')


class LaunchError(ValueError):
    """A launch that cannot be made; says what was expected, found, and how to mend."""


def _is_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(
            'of at most 40 lower-case letters, digits and hyphens that begins with a '
            'letter and ends with none of the hyphens'
        )
    return text


def _is_address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise ValueError('a path or an address without blanks and quotes')
    return text.rstrip('/')


def _is_image(text: str) -> str:
    if text and not _IMAGE.fullmatch(text):
        raise ValueError('an image as REGISTRY/NAME:TAG')
    return text


# Of queued resources, JobSets, workloads and SLURM jobs alike.
Name = Annotated[str, AfterValidator(_is_name)]
Address = Annotated[str, AfterValidator(_is_address)]
Image = Annotated[str, AfterValidator(_is_image)]


class Job(Group):
    """A training that is to be run to its end, however often it is interrupted.

    Attributes:
      name: of the job, wherever it is run.
      config: text of the whole config, as `train.py --print_config` writes it.
      workdir: the run directory: an address, or a folder that all workers share.
      flags: further flags for `train.py`.
      image: container image that holds the code; empty: a wheel is made of it.
      build: whether the image is built of this checkout, and pushed, before.
      restarts: how often it is started again at most.
      settled_minutes: an error within this time that comes twice running is not going
        to mend itself; one after it may well be a worker that was lost.
      grace_seconds: time from SIGTERM to the end of the machine, where the target lets
        it be chosen.
      checkout: folder of the code.
      folder: where the files of the launch are put.
    """

    name: Name
    config: Annotated[str, Field(min_length=1)]
    workdir: Address
    flags: tuple[str, ...] = ()
    image: Image = ''
    build: bool = False
    restarts: Annotated[Integer, Field(ge=0)] = 20
    settled_minutes: Annotated[Integer, Field(ge=0)] = 10
    grace_seconds: Count = 120
    checkout: Address
    folder: Address

    def arguments(self, config: str) -> list[str]:
        """The flags of `train.py`, with the config at the path `config`."""
        return [f'--config={config}', f'--workdir={self.workdir}', *self.flags]

    @property
    def has_address(self) -> bool:
        """Whether the run directory is seen from everywhere."""
        return '://' in self.workdir
