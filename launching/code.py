"""How the code gets there: as a wheel of this checkout, or in a container image."""

from __future__ import annotations

import pathlib
import sys

from launching.job import Job, LaunchError
from launching.submission import Step

DOCKERFILE = 'launching/Dockerfile'


def train_script(job: Job) -> str:
    """The text of the command that trains, which no wheel holds."""
    return (pathlib.Path(job.checkout) / 'scripts/train.py').read_text()


def build_steps(job: Job, *, extra: str) -> list[Step]:
    """The commands that make the code ready here.

    Args:
      job: with an image, or without one.
      extra: of the package, with the accelerator's JAX: 'tpu', 'cuda' or none.
    """
    if not job.image:
        wheel = ['wheel', '--no-deps', f'--wheel-dir={job.folder}', job.checkout]
        return [
            Step(
                'A wheel of this checkout.',
                # This Python, whatever the PATH says.
                (sys.executable, '-m', 'pip', '--quiet', *wheel),
            )
        ]
    if not job.build:
        return []
    build = [
        'build',
        f'--file={job.checkout}/{DOCKERFILE}',
        f'--build-arg=EXTRA={extra}',
    ]
    return [
        Step(
            'An image of this checkout.',
            (
                'docker',
                *build,
                '--platform=linux/amd64',
                f'--tag={job.image}',
                job.checkout,
            ),
        ),
        Step('It goes to its registry.', ('docker', 'push', job.image)),
    ]


def needs_image(job: Job, where: str) -> None:
    """Raises `LaunchError` unless the job names an image."""
    if not job.image:
        raise LaunchError(
            f'expected an image of the code for {where}, got none; name one with '
            '--image=REGISTRY/NAME:TAG, and add --build_image to make it of this '
            'checkout'
        )


def needs_address(job: Job, where: str) -> None:
    """Raises `LaunchError` unless the run directory survives its machines."""
    if not job.has_address:
        raise LaunchError(
            f'expected a workdir that outlives the machines of {where}, such as '
            f'gs://BUCKET/runs/NAME, got {job.workdir}'
        )
