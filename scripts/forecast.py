"""Makes forecasts with a trained run and writes netCDF files or one Zarr.

Example:
  python scripts/forecast.py --workdir=runs/demo --output=runs/demo/forecasts \
      --init_times=2002-01-25T00,2002-01-26T00 --lead_hours=120

Without --init_times the starts are those of the test period of the run's config; a
path that ends in .zarr gets the schema of WeatherBench 2, any other is a directory of
netCDF files, one per start.
"""

from absl import flags

from learning import command_line

_WORKDIR = flags.DEFINE_string('workdir', None, 'Run directory.', required=True)
_OUTPUT = flags.DEFINE_string(
    'output', None, 'Directory for netCDF files, or PATH.zarr.', required=True
)
_INIT_TIMES = flags.DEFINE_list(
    'init_times', None, 'Starts, ISO 8601, comma-separated; default: test period.'
)
_LEAD_HOURS = flags.DEFINE_integer(
    'lead_hours', None, 'Longest lead time in hours; default: that of the config.'
)
_STORE = flags.DEFINE_string(
    'store', None, 'Store of the initial states; default: that of the config.'
)
_CHECKPOINT = flags.DEFINE_integer('checkpoint', None, 'Update; default: the newest.')
_OVERWRITE = flags.DEFINE_bool('overwrite', False, 'Replace forecasts that are there.')


def main() -> None:
    """Makes the forecasts that the flags describe."""
    # Imported here, so that --help answers at once.
    from weather.forecasting import forecast, run

    trained = run.load_run(_WORKDIR.value, update=_CHECKPOINT.value)
    atmosphere = forecast.open_store(trained, _STORE.value)
    forecast.write_all(
        trained,
        atmosphere,
        _OUTPUT.value,
        init_times=_INIT_TIMES.value,
        lead_hours=_LEAD_HOURS.value,
        if_exists='overwrite' if _OVERWRITE.value else 'error',
    )


if __name__ == '__main__':
    command_line.execute(main)
