"""Writes the report of a run: one HTML page with scores, curves, maps and spectra.

Example:
  python scripts/report.py --workdir=runs/demo

Needs WORKDIR/scores.csv (scripts/evaluate.py) and WORKDIR/forecasts
(scripts/forecast.py). Forecasts of another origin, in the schema of WeatherBench 2:
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
_OUTPUT = flags.DEFINE_string(
    'output', None, 'Path of the page; WORKDIR/report.html where not given.'
)


def main() -> None:
    """Writes the report that the flags describe."""
    # Late, so that --help answers at once.
    from weather.evaluation import report

    path = report.write_report(
        _WORKDIR.value,
        forecast=_FORECAST.value,
        truth=_TRUTH.value,
        output=_OUTPUT.value,
    )
    print(f'report written to {path}')


if __name__ == '__main__':
    command_line.execute(main)
