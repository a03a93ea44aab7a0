r"""Computes mean and spread by day of the year and hour, as WeatherBench 2 does.

For a run: its training period, written to climatology.zarr in the run directory. For
any store: all its times, or those between two dates.

Examples:
  python scripts/compute_climatology.py --workdir=runs/demo
  python scripts/compute_climatology.py --store=data/era5.zarr \
      --start=1990-01-01 --end=2019-12-31 --output=data/climatology.zarr
"""

from absl import flags

from learning import command_line

_WORKDIR = flags.DEFINE_string('workdir', None, 'Run directory, made by train.py.')
_STORE = flags.DEFINE_string('store', None, 'Atmosphere, a Zarr store.')
_OUTPUT = flags.DEFINE_string(
    'output', None, 'Zarr store to write; WORKDIR/climatology.zarr where not given.'
)
_START = flags.DEFINE_string('start', None, 'First date, included.')
_END = flags.DEFINE_string('end', None, 'Last date, included.')
_WINDOW_DAYS = flags.DEFINE_integer(
    'window_days', None, 'Width of the window; that of the run, or 61.'
)
flags.register_multi_flags_validator(
    ['workdir', 'store', 'output'],
    lambda of: bool(of['workdir']) or bool(of['store'] and of['output']),
    message='say for what: --workdir=DIR, or --store=PATH and --output=PATH',
)


def main() -> None:
    """Computes and writes the climatology."""
    # Late, so that --help answers at once.
    from weather import workdir
    from weather.data import climatology, store

    source, levels, options, period, window = _STORE.value, None, None, (None, None), 61
    path = _OUTPUT.value
    if _WORKDIR.value:
        run = workdir.Workdir(_WORKDIR.value)
        setup = run.read_config()
        levels, options = setup.data.channels.levels, setup.data.storage_options
        source, period = source or setup.data.store, setup.data.train
        window, path = setup.climatology.window_days, path or run.climatology
    climatology.write_climatology(
        store.open_store(source, levels=levels, storage_options=options),
        path,
        start=_START.value or period[0],
        end=_END.value or period[1],
        window_days=_WINDOW_DAYS.value or window,
        source=source,
    )
    print(f'climatology of {source} written to {path}')


if __name__ == '__main__':
    command_line.execute(main)
