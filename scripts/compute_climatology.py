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
_OUTPUT = flags.DEFINE_string('output', None, 'WORKDIR/climatology.zarr, or this.')
_START = flags.DEFINE_string('start', None, 'First date, included.')
_END = flags.DEFINE_string('end', None, 'Last date, included.')
_WINDOW_DAYS = flags.DEFINE_integer('window_days', None, 'That of the run, or 61.')
_OVERWRITE = flags.DEFINE_bool('overwrite', False, 'Compute and replace it anew.')
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

    path, window_days = _OUTPUT.value, _WINDOW_DAYS.value
    period = dict(start=_START.value, end=_END.value, overwrite=_OVERWRITE.value)
    if _WORKDIR.value:
        run = Workdir(_WORKDIR.value)
        print(
            prepared_climatology.prepare_climatology(
                run.read_config(),
                path or run.climatology,
                store=_STORE.value,
                window_days=window_days,
                **period,
            )
        )
        return
    dataset = store.open_dataset(_STORE.value, what='atmosphere')
    climatology.write_climatology(
        dataset, path, window_days=window_days or 61, source=_STORE.value, **period
    )
    print(climatology.summary(dataset))
    print(f'climatology of {_STORE.value} written to {path}')


if __name__ == '__main__':
    command_line.execute(main)
