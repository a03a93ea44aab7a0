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
_OVERWRITE = flags.DEFINE_bool(
    'overwrite', False, 'Replace a climatology that is there, and compute it anew.'
)
flags.register_multi_flags_validator(
    ['workdir', 'store', 'output'],
    lambda of: bool(of['workdir']) or bool(of['store'] and of['output']),
    message='say for what: --workdir=DIR, or --store=PATH and --output=PATH',
)


def main() -> None:
    """Computes and writes the climatology."""
    # Late, so that --help answers at once.
    from weather.data import climatology, prepared_climatology, store
    from weather.workdir import Workdir

    options = {
        'start': _START.value,
        'end': _END.value,
        'overwrite': _OVERWRITE.value,
    }
    if _WORKDIR.value:
        run = Workdir(_WORKDIR.value)
        done = prepared_climatology.prepare_climatology(
            run.read_config(),
            _OUTPUT.value or run.climatology,
            store=_STORE.value,
            window_days=_WINDOW_DAYS.value,
            **options,
        )
        print(done)
        return
    dataset = store.open_dataset(_STORE.value, what='atmosphere')
    days, source = _WINDOW_DAYS.value or 61, _STORE.value
    climatology.write_climatology(
        dataset, _OUTPUT.value, window_days=days, source=source, **options
    )
    print(climatology.summary(dataset))
    print(f'climatology of {source} written to {_OUTPUT.value}')


if __name__ == '__main__':
    command_line.execute(main)
