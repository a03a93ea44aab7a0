"""Times regridding and compares it with WeatherBench 2's own.

Example:
  python -m benchmarks.regridding --weatherbench2=PATH

From ERA5's 721x1440 points to the flagship's 256x256, both with poles. Threads share
the fields, as the blocks of `scripts/prepare_data.py` are shared. With a checkout of
google-research/weatherbench2 its ConservativeRegridder takes its turns, and the largest
difference between the two is given, on other grids too. It is compiled by XLA, which
uses every core that it may, whatever the number of threads: for one core against one,
run the whole command under `taskset -c 0`.

The last lines estimate what 42 years of six-hourly fields take: fields divided by
fields per second, beside the time that reading them takes at the bandwidth given by
--read_mb_per_s, an assumption; the longer of the two bounds the whole from below, and
decoding and writing come on top.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import datetime
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
# Others that must agree: from and to poles, an odd ratio, a finer grid, a coarser one.
AGREEMENT = (
    (SOURCE, LatLonGrid('equiangular', num_lat=32, num_lon=64)),
    (SOURCE, LatLonGrid('equiangular_with_poles', num_lat=121, num_lon=240)),
    (LatLonGrid('equiangular', num_lat=32, num_lon=64), TARGET),
)
# As many levels as a variable has.
FIELDS = 13
# 1979 to 2020, six-hourly, times the flagship's channels.
NUM_TIMES = 4 * (datetime.date(2021, 1, 1) - datetime.date(1979, 1, 1)).days
NUM_CHANNELS = 78
NUM_WORKERS = 100
# Relative: both are float32 sums of a few values.
LARGEST_DIFFERENCE, LARGEST_SHIFT = 1e-5, 1e-6
THEIRS = "WeatherBench 2's"
WINDS = 'spectral, winds'

Regrid = Callable[[np.ndarray], np.ndarray]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, writes JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--weatherbench2', type=_checkout, default=None)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--threads', type=flags.integers, default=(1, 2))
    parser.add_argument(
        '--read_mb_per_s',
        type=float,
        default=200.0,
        help='assumed of a worker: float32 values delivered, after decoding',
    )
    parser.add_argument('--output', default=OUTPUT)
    parser.add_argument('--write', action='store_true', help='into RESULTS.md')
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
        (name, threads): _rate(name, sample)
        for (name, threads), sample in samples.items()
    }
    targets = _differences(ways, options.weatherbench2, fields)
    command = flags.command('benchmarks.regridding', arguments or sys.argv[1:])
    place = results.provenance(machine.describe(), {}, command)
    parts = [
        place,
        results.table(
            ['method', 'threads', 'fields/s', 'spread', 'hours for 42 years'],
            [_row(name, threads, rate) for (name, threads), rate in rates.items()],
        ),
        results.table(['difference', 'value', 'bound', ''], [t.row() for t in targets]),
        _estimate(rates, options.read_mb_per_s),
    ]
    print('\n\n'.join(parts))
    if options.write:
        results.replace_section('regridding', '\n\n'.join(parts))
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
        WINDS: lambda fields: spectral.winds(fields, fields[::-1]).u,
    }
    if checkout is not None:
        ways[THEIRS] = _theirs(checkout, SOURCE, TARGET)
    return ways


def _rate(name: str, seconds: timing.Sample) -> timing.Sample:
    """Fields per second; a wind has two components, each a field."""
    num_fields = 2 * FIELDS if name == WINDS else FIELDS
    return seconds.map(lambda of_call: num_fields / of_call)


def _theirs(checkout: pathlib.Path, source: LatLonGrid, target: LatLonGrid) -> Regrid:
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
    source_grid, target_grid = (
        module.Grid.from_degrees(lon=grid.longitudes, lat=grid.latitudes[::-1])
        for grid in (source, target)
    )
    regridder = module.ConservativeRegridder(source=source_grid, target=target_grid)

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

    def difference(theirs: np.ndarray, mine: np.ndarray) -> float:
        return float(np.abs(theirs - mine).max() / scale)

    single = difference(ways[THEIRS](fields), ours)
    bounded = {}
    jax.config.update('jax_enable_x64', True)
    try:
        for source, target in ((SOURCE, TARGET), *AGREEMENT):
            some = fields[:, : source.num_lat, : source.num_lon]
            mine = ConservativeRegridder.create(
                source.latitudes, source.longitudes, target
            )(some)
            theirs = _theirs(checkout, source, target)(some.astype(np.float64))
            bounded[_text(source, target)] = difference(theirs, mine)
    finally:
        jax.config.update('jax_enable_x64', False)
    return [
        *targets,
        *(
            Target(f'{THEIRS}, float64, {text}', value, LARGEST_DIFFERENCE, '<=')
            for text, value in bounded.items()
        ),
        Target(f'{THEIRS}, float32, {_text(SOURCE, TARGET)}', single, None, '<='),
    ]


def _text(*grids: LatLonGrid) -> str:
    return ' to '.join(
        f'{grid.num_lat}x{grid.num_lon}'
        + ' with poles' * (grid.kind == 'equiangular_with_poles')
        for grid in grids
    )


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


def _estimate(rates: dict[tuple[str, int], timing.Sample], read_mb_per_s: float) -> str:
    most = max(threads for _, threads in rates)
    terabytes = NUM_TIMES * NUM_CHANNELS * SOURCE.num_lat * SOURCE.num_lon * 4 / 1e12
    reading = terabytes * 1e6 / read_mb_per_s / 3600
    lines = [
        f'42 years (1979 to 2020, six-hourly) are {NUM_TIMES:,} x {NUM_CHANNELS} '
        f'fields, {terabytes:.3g} TB as float32; on this machine with {most} threads, '
        f'and on {NUM_WORKERS} such workers:'
    ]
    lines += [
        f'  {name}: {_hours(rate):.2g} h, {_hours(rate) / NUM_WORKERS:.2g} h'
        for (name, threads), rate in rates.items()
        if threads == most
    ]
    lines.append(
        f'  reading at {read_mb_per_s:g} MB/s a worker, assumed and not measured: '
        f'{reading:.3g} h, {reading / NUM_WORKERS:.2g} h'
    )
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
