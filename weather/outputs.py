"""The kinds of things that commands write, and how the first version's look."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

from learning.files import FOLDER_METADATA, Kind, read_attributes

# Attributes of forecasts that tell which belong together, and to which scores: digest
# of the config, checkpoint and its digest, and where the initial states came from.
TIES = ('config_hash', 'checkpoint', 'checkpoint_digest', 'initial_states')

# Of a folder of examples in ArrayRecord: what all its files of records are called, and
# the netCDF file of coordinates and of fields that never change beside them.
RECORDS = '.array_record-'
COORDINATES_FILE = 'coordinates.nc'

# Version 0.1 put no marks; these are what its files say of themselves. Its scores and
# reports are recognised by how they begin.
_SCORES_BEGIN = b'model,variable,level,region,lead_time_hours,metric,value'
_REPORT_BEGINS = b'<title>Forecast report'


def _says(**expected: str) -> Callable[[pathlib.Path], bool]:
    """Whether the attributes of a store or netCDF file begin as expected."""

    def test(path: pathlib.Path) -> bool:
        found = read_attributes(path)
        return all(
            name in found and str(found[name]).startswith(begin)
            for name, begin in expected.items()
        )

    return test


def _holds(expected: bytes) -> Callable[[pathlib.Path], bool]:
    def test(path: pathlib.Path) -> bool:
        if not path.is_file():
            return False
        with path.open('rb') as file:
            return expected in file.read(2048)

    return test


_ANY_FORECAST = _says(source='spherecast', history='', title='Forecasts of spherecast')

STATISTICS = Kind(
    'statistics',
    'statistics of an atmosphere',
    _says(title='Statistics of an atmosphere', source='spherecast'),
)
CLIMATOLOGY = Kind(
    'climatology',
    'a climatology',
    _says(title='Climatology by day', software='spherecast'),
)
SCORES = Kind('scores', 'a table of scores', _holds(_SCORES_BEGIN))
REPORT = Kind('report', 'a report', _holds(_REPORT_BEGINS))
FAULTS = Kind('faults', 'a list of faults')
FORECAST = Kind('forecast', 'a forecast', _ANY_FORECAST)
FORECASTS = Kind('forecasts', 'a store of forecasts', _ANY_FORECAST)
EXAMPLES = Kind(
    'examples',
    'a TensorFlow data set of examples',
    is_part=lambda path: (
        path.name in ('dataset_info.json', 'features.json', FOLDER_METADATA)
        or path.name == COORDINATES_FILE
        or RECORDS in path.name
    ),
)
PREPARED = Kind('prepared', 'a prepared store')
PLANET = Kind('planet', 'a simulated planet', _says(simulation_planet_version=''))
