"""Times regridding and compares it with WeatherBench 2's own.

Example:
  python -m benchmarks.regridding --weatherbench2=PATH

From ERA5's 721x1440 points to the flagship's 256x256, both with poles. Threads share
the fields, as the blocks of `scripts/prepare_data.py` are shared. With a checkout of
google-research/weatherbench2 its ConservativeRegridder takes its turns, and the largest
difference between the two is given.

The last lines estimate what 42 years of six-hourly fields take: fields divided by
fields per second, and nothing else: reading and writing come on top.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import importlib.util
import pathlib
import sys
import time
import types
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks import flags, machine, results, timing
from benchmarks.results import Target
from sphere_ops.grid import LatLonGrid
from sphere_ops.regridding import ConservativeRegridder, SpectralRegridder

OUTPUT = 'runs/benchmarks/regridding.json'
SOURCE = LatLonGrid('equiangular_with_poles', num_lat=721, num_lon=1440)
TARGET = LatLonGrid('equiangular_with_poles', num_lat=256, num_lon=256)
# As many levels as a variable has.
FIELDS = 13
# 1979 to 2020, six-hourly, times the flagship's channels.
NUM_TIMES, NUM_CHANNELS = 61_368, 78
# Relative: both are float32 sums of a few values.
LARGEST_DIFFERENCE, LARGEST_SHIFT = 1e-5, 1e-6
THEIRS = "WeatherBench 2's"

Regrid = Callable[[np.ndarray], np.ndarray]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, writes JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--weatherbench2', type=_checkout, default=None)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--threads', type=flags.integers, default=(1, 2))
    parser.add_argument('--output', default=OUTPUT)
    options = parser.parse_args(arguments)
    fields = _fields()
    ways = _ways(options.weatherbench2)
    samples = timing.take_turns(
        {
            (name, threads): _clock(regrid, fields, threads)
            for name, regrid in ways.items()
            for threads in options.threads
        },
        rounds=options.rounds,
    )
    rates = {
        key: sample.map(lambda seconds: FIELDS / seconds)
        for key, sample in samples.items()
    }
    targets = _differences(ways, options.weatherbench2, fields)
    command = flags.command('benchmarks.regridding', arguments or sys.argv[1:])
    place = results.provenance(machine.describe(), {}, command)
    print(place)
    print(
        results.table(
            ['method', 'threads', 'fields/s', 'spread', 'hours for 42 years'],
            [_row(name, threads, rate) for (name, threads), rate in rates.items()],
        )
    )
    print(
        results.table(['difference', 'value', 'bound', ''], [t.row() for t in targets])
    )
    print(_estimate(rates))
    results.write_json(
        options.output,
        {
            'provenance': place,
            'fields_per_second': {
                f'{name}, {threads} threads': rate.summary()
                for (name, threads), rate in rates.items()
            },
            'differences': {target.name: target.value for target in targets},
        },
    )


def _fields() -> np.ndarray:
    """Temperatures: `[level, lat, lon]`."""
    noise = np.random.default_rng(0).normal(size=(FIELDS, *SOURCE.shape))
    return (280 + 10 * noise).astype(np.float32)


def _ways(checkout: pathlib.Path | None) -> dict[str, Regrid]:
    ours = ConservativeRegridder.create(SOURCE.latitudes, SOURCE.longitudes, TARGET)
    spectral = SpectralRegridder.create(SOURCE, TARGET)
    ways: dict[str, Regrid] = {
        'conservative': ours,
        'spectral': spectral.scalars,
        # Half as many winds as there are components.
        'spectral, winds': lambda fields: (
            spectral.winds(fields[: FIELDS // 2], fields[-(FIELDS // 2) :]).u
        ),
    }
    if checkout is not None:
        ways[THEIRS] = _theirs(checkout)
    return ways


def _theirs(checkout: pathlib.Path) -> Regrid:
    """Their regridder, as it is called on arrays; rows from the south, turned."""
    # Imported by the other regridders of that module alone.
    sys.modules.setdefault('sklearn', types.ModuleType('sklearn'))
    sys.modules['sklearn'].neighbors = None  # type: ignore[attr-defined]
    path = checkout / 'weatherbench2' / 'regridding.py'
    spec = importlib.util.spec_from_file_location('weatherbench2_regridding', path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    source, target = (
        module.Grid.from_degrees(lon=grid.longitudes, lat=grid.latitudes[::-1])
        for grid in (SOURCE, TARGET)
    )
    regridder = module.ConservativeRegridder(source=source, target=target)

    def regrid(fields: np.ndarray) -> np.ndarray:
        found = regridder.regrid_array(np.swapaxes(fields[:, ::-1], 1, 2))
        return np.swapaxes(np.asarray(found), 1, 2)[:, ::-1]

    return regrid


def _clock(regrid: Regrid, fields: np.ndarray, threads: int) -> timing.Clock:
    def clock(*, calls: int, warm_ups: int) -> float:
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(lambda _: regrid(fields), range(warm_ups * threads)):
                pass
            start = time.perf_counter()
            for _ in pool.map(lambda _: regrid(fields), range(calls * threads)):
                pass
            return (time.perf_counter() - start) / (calls * threads)

    return clock


def _differences(
    ways: dict[str, Regrid], checkout: pathlib.Path | None, fields: np.ndarray
) -> list[Target]:
    """Largest differences, relative to the largest value.

    From theirs twice: in double precision, and in single precision, in which it runs
    by default and in which the areas of its cells beside the poles lose most bits.
    """
    ours, scale = ways['conservative'](fields), np.abs(fields).max()

    def mean(grid: LatLonGrid, of: np.ndarray) -> np.ndarray:
        return of.astype(np.float64).mean(-1) @ grid.area_weights / grid.num_lat

    shift = np.abs(mean(TARGET, ours) - mean(SOURCE, fields)).max()
    targets = [Target('global mean', float(shift / scale), LARGEST_SHIFT, '<=')]
    if checkout is None:
        return targets

    def difference(theirs: np.ndarray) -> float:
        return float(np.abs(theirs - ours).max() / scale)

    single = difference(ways[THEIRS](fields))
    jax.config.update('jax_enable_x64', True)
    try:
        double = difference(_theirs(checkout)(fields.astype(np.float64)))
    finally:
        jax.config.update('jax_enable_x64', False)
    return [
        *targets,
        Target(f'{THEIRS}, in float64', double, LARGEST_DIFFERENCE, '<='),
        Target(f'{THEIRS}, in float32', single, None, '<='),
    ]


def _hours(rate: timing.Sample) -> float:
    return NUM_TIMES * NUM_CHANNELS / rate.median / 3600


def _row(name: str, threads: int, rate: timing.Sample) -> list[str]:
    return [
        name,
        str(threads),
        f'{rate.median:.0f}',
        f'{100 * rate.spread:.0f} %',
        f'{_hours(rate):.2g}',
    ]


def _estimate(rates: dict[tuple[str, int], timing.Sample]) -> str:
    most = max(threads for _, threads in rates)
    lines = [
        f'42 years (1979 to 2020, six-hourly) are {NUM_TIMES:,} x {NUM_CHANNELS} '
        f'fields; regridding alone, on this machine with {most} threads, and on 100 '
        'such workers:'
    ]
    for (name, threads), rate in rates.items():
        if threads == most:
            hours = _hours(rate)
            lines.append(f'  {name}: {hours:.2g} h, {60 * hours / 100:.2g} min')
    return '\n'.join(lines)


def _checkout(text: str) -> pathlib.Path:
    path = pathlib.Path(text).resolve()
    if not (path / 'weatherbench2' / 'regridding.py').exists():
        raise argparse.ArgumentTypeError(
            f'expected a checkout with weatherbench2/regridding.py, got {path}'
        )
    return path


if __name__ == '__main__':
    main()
