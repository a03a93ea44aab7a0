"""Writes the report of a run: one HTML page with scores, curves, maps and spectra.

Example:
  python scripts/report.py --workdir=runs/demo

Shows WORKDIR/forecasts (scripts/forecast.py) and, where there are any, their scores,
WORKDIR/scores.csv (scripts/evaluate.py); scores of other forecasts are refused.
Forecasts of another origin, in the schema of WeatherBench 2:
  python scripts/report.py --workdir=runs/other --forecast=other.zarr --truth=era5.zarr
"""

from absl import flags

from learning import command_line

_WORKDIR = flags.DEFINE_string('workdir', None, 'Run directory.', required=True)
_FORECAST = flags.DEFINE_string(
    'forecast', None, 'Forecasts; WORKDIR/forecasts where not given.'
)
_TRUTH = flags.DEFINE_string(
    'truth', None, "Truth, a Zarr store; that of the run's config where not given."
)
_SCORES = flags.DEFINE_string(
    'scores',
    None,
    'Scores of the forecasts; WORKDIR/scores.csv where not given, none where empty.',
)
_OUTPUT = flags.DEFINE_string(
    'output', None, 'Path of the page; WORKDIR/report.html where not given.'
)
_OVERWRITE = flags.DEFINE_bool('overwrite', False, 'Replace a report.')


def main() -> None:
    """Writes the report that the flags describe."""
    # Late, so that --help answers at once.
    from weather.report import report

    path = report.write_report(
        _WORKDIR.value,
        forecast=_FORECAST.value,
        truth=_TRUTH.value,
        table=_SCORES.value,
        output=_OUTPUT.value,
        overwrite=_OVERWRITE.value,
    )
    print(f'report written to {path}')


if __name__ == '__main__':
    command_line.execute(main)
