"""Runs the planet and writes it as a WeatherBench 2 store, whole or not at all."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np
import tqdm
import zarr

from learning.files import (
    MARK,
    Output,
    OutputError,
    clear_leftovers,
    read_attributes,
)
from sphere_ops import LatLonGrid
from weather.data.simulation import diagnostics, physics
from weather.data.simulation import planet as planets
from weather.outputs import PLANET
from weather.variables import VARIABLES, WEATHERBENCH_LEVELS

STEPS_PER_DAY = 4
_ATTRIBUTE_PREFIX = 'simulation_'
_DIMS = ('time', 'level', 'latitude', 'longitude')


@dataclasses.dataclass(frozen=True)
class SimulationConfig:
    """Everything that determines a simulated store.

    Attributes:
      num_days: days kept.
      spin_up_days: days simulated and discarded before; from rest, eddies need about
        30 to grow and the mean climate about 100 to settle.
      seed: of the noise in the initial state.
      max_wavenumber: triangular truncation, 21 (64x32 grid), 31 or 42 (128x64).
      start_date: date of the first time kept, at 00 UTC.
    """

    num_days: int = 730
    spin_up_days: int = 100
    seed: int = 0
    max_wavenumber: int = 21
    start_date: str = '2001-01-01'

    def __post_init__(self):
        for name, least in (('num_days', 1), ('spin_up_days', 0), ('seed', 0)):
            if getattr(self, name) < least:
                raise ValueError(
                    f'expected {name} >= {least}, got {getattr(self, name)}'
                )
        planets.Planet(self.max_wavenumber)  # knows which truncations there are
        np.datetime64(self.start_date, 'D')

    def attributes(self) -> dict[str, int | str]:
        """The configuration as attributes of a store, with the planet's version."""
        parameters = dataclasses.asdict(self) | {'planet_version': planets.VERSION}
        return {_ATTRIBUTE_PREFIX + name: value for name, value in parameters.items()}


def simulate(
    config: SimulationConfig, path: str | os.PathLike, *, overwrite: bool = False
) -> pathlib.Path:
    """Writes the simulated atmosphere to `path`, unless it is already there.

    Args:
      config: what to simulate.
      path: where the Zarr store (v2) goes; local. It appears under this name only when
        it is complete.
      overwrite: whether a simulation with other parameters may be replaced.

    Returns:
      `path`.

    Raises:
      OutputError: `path` holds something else, or a simulation with other parameters.
      FloatingPointError: the simulation became unstable.
    """
    output = Output(path, PLANET, overwrite)
    if PLANET.wrote(pathlib.Path(path)):
        differences = _differences(config, read_attributes(path))
        if not differences:
            # As `Output.check` does, which nobody asks here.
            clear_leftovers(pathlib.Path(path).parent)
            print(f'{path} already holds this simulation')
            return pathlib.Path(path)
        if not overwrite:
            raise OutputError(
                f'{path} holds another simulation: {", ".join(differences)}; say '
                '--overwrite to replace it (overwrite=True), or choose another path'
            )
    with output.replacing() as unfinished:
        _write_store(config, unfinished)
    return pathlib.Path(path)


def _differences(config: SimulationConfig, found: Mapping[str, object]) -> list[str]:
    """Parameters of a store's attributes that are not those of `config`, in words."""
    return [
        f'{name.removeprefix(_ATTRIBUTE_PREFIX)} = {found.get(name)} (wanted {value})'
        for name, value in config.attributes().items()
        if found.get(name) != value
    ]


def _write_store(config: SimulationConfig, path: pathlib.Path) -> None:
    """Simulates into a new store at `path`."""
    planet = planets.Planet(config.max_wavenumber)
    arrays = _create_store(config, planet, path)
    for day, fields in enumerate(_days(config, planet)):
        times = slice(STEPS_PER_DAY * day, STEPS_PER_DAY * (day + 1))
        for name, field in fields.items():
            arrays[name][times] = field
    zarr.consolidate_metadata(str(path))


def _days(
    config: SimulationConfig, planet: planets.Planet
) -> Iterator[Mapping[str, np.ndarray]]:
    """Yields the fields of every day kept, variable to `[time, level, lat, lon]`."""
    advance = make_day(planet)
    state = physics.initial_state(planet, config.seed)
    pair, pending = (state, state), []
    num_days = config.spin_up_days + config.num_days
    for day in tqdm.trange(num_days, desc='simulating', unit='day', mininterval=1):
        pair, fields = advance(pair)
        pending.append(fields)
        # One day behind: the caller writes it while the next is being computed.
        if day > config.spin_up_days:
            yield _checked(pending[0], day - config.spin_up_days)
        pending = pending[-1:]
    yield _checked(pending[0], config.num_days)


@functools.lru_cache(maxsize=1)
def make_day(planet: planets.Planet) -> Callable:
    """Builds the compiled simulation of one day.

    Returns:
      Function from the leapfrog pair of states to the pair a day later and the fields
      every six hours, variable to `[time, level, lat, lon]`, SI units.
    """
    step = physics.make_step(planet)
    steps_per_output = planet.numerics.steps_per_day // STEPS_PER_DAY

    def six_hours(pair, _):
        pair, _ = jax.lax.scan(
            lambda carry, _: (step(carry), None), pair, length=steps_per_output
        )
        return pair, diagnostics.diagnose(planet, pair[0])

    return jax.jit(lambda pair: jax.lax.scan(six_hours, pair, length=STEPS_PER_DAY))


def _checked(fields: Mapping[str, jax.Array], day: int) -> dict[str, np.ndarray]:
    """Fields on the host; `FloatingPointError` if the simulation blew up."""
    on_host = {name: np.asarray(field) for name, field in fields.items()}
    if not np.isfinite(on_host['temperature']).all():
        raise FloatingPointError(
            f'the simulation became unstable before day {day} of those kept: '
            'temperature is not finite; its truncation needs more steps per day in '
            'planet.NUMERICS'
        )
    return on_host


def _create_store(
    config: SimulationConfig, planet: planets.Planet, path: pathlib.Path
) -> dict[str, zarr.Array]:
    """Creates a store with coordinates and statics, and the variables still empty."""
    latitude, longitude = planet.degrees
    grid = LatLonGrid.from_latitudes_longitudes(latitude[0, ::-1], longitude[:, 0])
    # Format 2, as WeatherBench 2's own stores.
    group = zarr.open_group(path, mode='w-', zarr_format=2)
    group.attrs.update(_store_attributes(config))
    _write_coordinates(group, config, grid)
    for name, field in diagnostics.statics(planet).items():
        _create_array(group, name, _DIMS[2:], field.shape, field.shape)[:] = field
    shape = (STEPS_PER_DAY * config.num_days, len(WEATHERBENCH_LEVELS), *grid.shape)
    # A day per chunk, uncompressed: for a random five-step sample that took a third of
    # the time of one step per chunk, and compression saves a fifth of the bytes.
    chunks = (STEPS_PER_DAY, *shape[1:])
    return {
        name: _create_array(group, name, _DIMS, shape, chunks)
        for name in diagnostics.NAMES
    }


def _create_array(group: zarr.Group, name: str, dims, shape, chunks) -> zarr.Array:
    """Creates an uncompressed float32 variable with its CF attributes."""
    variable = VARIABLES[name]
    array = group.create_array(
        name,
        shape=shape,
        chunks=chunks,
        dtype='float32',
        compressors=None,
        fill_value=float('nan'),
    )
    array.attrs.update(
        _ARRAY_DIMENSIONS=list(dims),
        units=variable.units,
        standard_name=variable.standard_name,
        long_name=variable.long_name,
    )
    return array


def _write_coordinates(
    group: zarr.Group, config: SimulationConfig, grid: LatLonGrid
) -> None:
    """Writes the four coordinates; integers have no fill value, so 0 is not missing."""
    hours = 24 // STEPS_PER_DAY * np.arange(STEPS_PER_DAY * config.num_days)
    time_units = f'hours since {config.start_date}'
    coordinates = {
        'time': (hours, {'units': time_units, 'calendar': 'proleptic_gregorian'}),
        'level': (np.array(WEATHERBENCH_LEVELS), {'units': 'hPa'}),
        'latitude': (grid.latitudes, {'units': 'degrees_north'}),
        'longitude': (grid.longitudes, {'units': 'degrees_east'}),
    }
    for name, (values, attributes) in coordinates.items():
        array = group.create_array(
            name, data=values, chunks=values.shape, compressors=None, fill_value=None
        )
        array.attrs.update(attributes | {'_ARRAY_DIMENSIONS': [name]})
        array.attrs['standard_name'] = 'air_pressure' if name == 'level' else name


def _store_attributes(config: SimulationConfig) -> dict[str, int | str]:
    return {
        MARK: PLANET.name,
        'Conventions': 'CF-1.11',
        'title': 'Idealised atmosphere, six-hourly on pressure levels',
        'source': 'primitive equations (dinosaur-dycore) with Held-Suarez forcing, '
        'mountains and a humidity tracer; perpetual equinox without daily cycle',
    } | config.attributes()
