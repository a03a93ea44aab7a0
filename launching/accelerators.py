"""TPU slices by name: what Compute Engine and Kubernetes call them, how many hosts.

From cloud.google.com/tpu/docs (a page per version) and
cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus, as of 2026.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from launching.job import LaunchError
from learning.spelling import did_you_mean


class _Version(NamedTuple):
    """A version of TPUs.

    Attributes:
      prefix: of the accelerator type in Compute Engine.
      runtime: software version of the machines.
      node_label: of nodes in Kubernetes.
      topologies: shape of a slice, by the number in its name.
      per_name: what the number in the name counts of every chip.
      single_host: most chips that one host has for itself.
    """

    prefix: str
    runtime: str
    node_label: str
    topologies: dict[int, str]
    per_name: int
    single_host: int


_PLANE = {
    1: '1x1',
    4: '2x2',
    8: '2x4',
    16: '4x4',
    32: '4x8',
    64: '8x8',
    128: '8x16',
    256: '16x16',
}
# Names count cores there, two on a chip.
_CUBE = {
    8: '2x2x1',
    16: '2x2x2',
    32: '2x2x4',
    64: '2x4x4',
    128: '4x4x4',
    256: '4x4x8',
    512: '4x8x8',
    1024: '8x8x8',
    2048: '8x8x16',
}
_VERSIONS = {
    'v4': _Version('v4', 'tpu-ubuntu2204-base', 'tpu-v4-podslice', _CUBE, 2, 4),
    'v5e': _Version(
        'v5litepod', 'v2-alpha-tpuv5-lite', 'tpu-v5-lite-podslice', _PLANE, 1, 8
    ),
    'v5p': _Version('v5p', 'v2-alpha-tpuv5', 'tpu-v5p-slice', _CUBE, 2, 4),
    'v6e': _Version('v6e', 'v2-alpha-tpuv6e', 'tpu-v6e-slice', _PLANE, 1, 8),
}
# Of a slice that more than one host holds.
_CHIPS_OF_A_HOST = 4


class Slice(NamedTuple):
    """A slice of TPUs.

    Attributes:
      accelerator_type: for `gcloud` and `xpk`.
      runtime: software version of its machines.
      node_label, topology: what its nodes are labelled with in Kubernetes.
      num_hosts: machines; each runs one process.
      chips_per_host: chips of each.
    """

    accelerator_type: str
    runtime: str
    node_label: str
    topology: str
    num_hosts: int
    chips_per_host: int


def find_slice(name: str) -> Slice:
    """The slice that is called `name`: `v5e-256`.

    Raises:
      LaunchError: there is none; names those there are.
    """
    match = re.fullmatch(r'(\w+)-(\d+)', name)
    version = _VERSIONS.get(match[1].replace('v5litepod', 'v5e') if match else '')
    if match is None or version is None:
        raise LaunchError(
            f'expected an accelerator such as v5e-256, got {name!r}'
            f'{did_you_mean(name.partition("-")[0], _VERSIONS)}; versions: '
            f'{", ".join(_VERSIONS)}'
        )
    size = int(match[2])
    if size not in version.topologies:
        sizes = ', '.join(map(str, version.topologies))
        raise LaunchError(f'expected the size of {match[1]} in {sizes}, got {size}')
    chips = size // version.per_name
    per_host = chips if chips <= version.single_host else _CHIPS_OF_A_HOST
    return Slice(
        f'{version.prefix}-{size}',
        version.runtime,
        version.node_label,
        version.topologies[size],
        chips // per_host,
        per_host,
    )
