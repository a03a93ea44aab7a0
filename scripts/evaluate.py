r"""Scores forecasts against truth, persistence and climatology, as WeatherBench 2 does.

Any stores in WeatherBench 2 schema: Zarr, or netCDF files of scripts/forecast.py.

Example:
  python scripts/evaluate.py --forecast=runs/demo/forecasts --truth=data/planet.zarr \
      --climatology=runs/demo/climatology.zarr --output=runs/demo/scores.csv
"""

from absl import flags

from learning import command_line

_FORECAST = flags.DEFINE_string('forecast', None, 'Forecasts.', required=True)
_TRUTH = flags.DEFINE_string('truth', None, 'Truth, a store.', required=True)
_CLIMATOLOGY = flags.DEFINE_string(
    'climatology', None, 'Climatology; without it there is no ACC.'
)
_OUTPUT = flags.DEFINE_string('output', None, 'Scores, a CSV file.', required=True)
_OVERWRITE = flags.DEFINE_bool('overwrite', False, 'Replace scores that are there.')
_MODEL_NAME = flags.DEFINE_string('model_name', 'spherecast', 'Column "model".')
_BASELINES = flags.DEFINE_list(
    'baselines', None, 'Among persistence, climatology; all. Empty: none.'
)
_REGIONS = flags.DEFINE_list('regions', None, 'Names of regions; all.')
_LEAD_HOURS = flags.DEFINE_list('lead_hours', None, 'Lead times in hours; all.')
_CHANNELS = flags.DEFINE_enum(
    'channels',
    'all',
    ['all', 'headline'],
    'All that forecasts and truth share, or Z500, T850, Q700, wind at 850 hPa.',
)


def main() -> None:
    """Scores, writes the table and prints a summary."""
    # Late, so that --help answers at once.
    from learning.files import Output
    from weather.evaluation import evaluate, score_file
    from weather.outputs import SCORES

    sources = _FORECAST.value, _TRUTH.value, _CLIMATOLOGY.value
    read = tuple(filter(None, sources))
    output = Output(_OUTPUT.value, SCORES, _OVERWRITE.value, read)
    score_file.check_output(output)
    scores = evaluate.evaluate(
        *sources,
        levels=evaluate.HEADLINE if _CHANNELS.value == 'headline' else None,
        regions=_REGIONS.value,
        lead_times=score_file.lead_times(_LEAD_HOURS.value),
        model=_MODEL_NAME.value,
        baselines=_BASELINES.value,
    )
    evaluate.write_scores(scores, output)
    print(evaluate.format_scores(scores))


if __name__ == '__main__':
    command_line.execute(main)
