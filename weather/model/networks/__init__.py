"""The networks, one file a variant; `model.network` of a config names the file.

A variant is a module here with these names:

- `Network(sizes, num_scalars, num_vectors, use_running_average)`: a Flax module whose
  call takes normalised fields by spin and the transforms, and returns the tendency, in
  units of its spread, by spin;
- `Transforms.create(grid, sizes, spins)`: the tables that it needs, a pytree.

A third lets weights pass between networks of other widths or variables, see
`weather.model.transfer`; without it only what has the same shape does:

- `axis_names(path, sizes, inputs, outputs)`: what stands along a parameter's axes.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from learning.spelling import did_you_mean


def names() -> tuple[str, ...]:
    """The variants there are."""
    # By the files that are there: a new network is one, and no list grows.
    return tuple(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """Returns the module of a variant.

    Raises:
      ValueError: there is none of that name; names the nearest.
    """
    if name not in names():
        raise ValueError(
            f'expected model.network to be one of {", ".join(names())}, got {name!r}'
            f'{did_you_mean(name, names())}'
        )
    return importlib.import_module(f'{__name__}.{name}')
