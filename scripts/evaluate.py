r"""Scores forecasts against truth, persistence and climatology, as WeatherBench 2 does.

Any stores in WeatherBench 2 schema: Zarr, or netCDF files of scripts/forecast.py.

Example:
  python scripts/evaluate.py --forecast=runs/demo/forecasts --truth=data/planet.zarr \
      --climatology=runs/demo/climatology.zarr --output=runs/demo/scores.csv
"""

from absl import flags

from learning import command_line

_FORECAST = flags.DEFINE_string('forecast', None, 'Forecasts.', required=True)
_TRUTH = flags.DEFINE_string('truth', None, 'Truth, a Zarr store.', required=True)
_CLIMATOLOGY = flags.DEFINE_string(
    'climatology', None, 'Climatology; without it there is no ACC.'
)
_OUTPUT = flags.DEFINE_string('output', None, 'Scores, a CSV file.', required=True)
_MODEL_NAME = flags.DEFINE_string('model_name', 'spherecast', 'Column "model".')
_BASELINES = flags.DEFINE_list(
    'baselines',
    None,
    'Among persistence, climatology; all that the stores allow. Empty: none.',
)
_REGIONS = flags.DEFINE_list('regions', None, 'Names of regions; all.')
_LEAD_HOURS = flags.DEFINE_list('lead_hours', None, 'Lead times in hours; all.')
_CHANNELS = flags.DEFINE_enum(
    'channels',
    'all',
    ['all', 'headline'],
    'All variables and levels that forecasts and truth share, or those of the '
    'headline: Z500, T850, Q700, wind at 850 hPa.',
)


def main() -> None:
    """Scores, writes the table and prints a summary."""
    # Late, so that --help answers at once.
    import numpy as np

    from weather.evaluation import evaluate

    hours = _LEAD_HOURS.value
    scores = evaluate.evaluate(
        _FORECAST.value,
        _TRUTH.value,
        _CLIMATOLOGY.value,
        levels=evaluate.HEADLINE if _CHANNELS.value == 'headline' else None,
        regions=_REGIONS.value,
        lead_times=hours and np.array(hours, int) * np.timedelta64(1, 'h'),
        model=_MODEL_NAME.value,
        baselines=_BASELINES.value,
    )
    evaluate.write_scores(scores, _OUTPUT.value)
    print(evaluate.format_scores(scores))


if __name__ == '__main__':
    command_line.execute(main)
