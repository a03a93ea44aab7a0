r"""Makes forecasts with a trained run and writes netCDF files or one Zarr.

Example:
  python scripts/forecast.py --workdir=runs/demo --output=runs/demo/forecasts \
      --init_times=2002-01-25T00,2002-01-26T00 --lead_hours=120

Without --init_times the starts are those of the test period of the run's config; a
path that ends in .zarr gets the schema of WeatherBench 2, any other is a directory of
netCDF files, one per start. A command that was interrupted goes on with
--skip_existing.
"""

from absl import flags

from learning import command_line

_WORKDIR = flags.DEFINE_string('workdir', None, 'Run directory.', required=True)
_OUTPUT = flags.DEFINE_string(
    'output', None, 'Directory for netCDF files, or PATH.zarr.', required=True
)
_INIT_TIMES = flags.DEFINE_list(
    'init_times',
    None,
    'Starts, ISO 8601 (UTC), comma-separated, or latest: the newest time of the store; '
    'default: test period.',
)
_LEAD_HOURS = flags.DEFINE_string(
    'lead_hours', None, 'Longest lead time in hours; default: that of the config.'
)
_INCLUDE_INITIAL = flags.DEFINE_bool(
    'include_initial', False, 'Write the initial states as well, at 0 h.'
)
_STORE = flags.DEFINE_string(
    'store', None, 'Store of the initial states; default: that of the config.'
)
_CHECKPOINT = flags.DEFINE_integer('checkpoint', None, 'Update; default: the newest.')
_AVERAGE = flags.DEFINE_float(
    'average', None, 'Decay of the moving average of weights; default: the first.'
)
_SKIP_EXISTING = flags.DEFINE_bool(
    'skip_existing', False, 'Leave starts that are there already, whole, as they are.'
)
_OVERWRITE = flags.DEFINE_bool('overwrite', False, 'Replace forecasts that are there.')


def main() -> None:
    """Makes the forecasts that the flags describe."""
    # Imported here, so that --help answers at once.
    from weather.forecasting import forecast, run

    trained = run.load_run(
        _WORKDIR.value, update=_CHECKPOINT.value, average=_AVERAGE.value
    )
    forecast.write_all(
        trained,
        forecast.open_store(trained, _STORE.value),
        _OUTPUT.value,
        init_times=_INIT_TIMES.value,
        lead_hours=_LEAD_HOURS.value,
        include_initial=_INCLUDE_INITIAL.value,
        skip_existing=_SKIP_EXISTING.value,
        overwrite=_OVERWRITE.value,
        sources=(_WORKDIR.value,),
    )


if __name__ == '__main__':
    command_line.execute(main)
