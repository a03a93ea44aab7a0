"""The flagship runs at full size on two cores and in the memory of a laptop."""

import pytest

from benchmarks.harness import start_workers

MEMORY_GIB = 20
FULL = {'size': 'full', 'precision': None}


@pytest.mark.slow
def test_the_flagship_trains_and_forecasts_within_20_gib():
    with start_workers(['benchmarks.flagship']) as team:
        (worker,) = team.workers.values()
        update = worker.prepare('update', {**FULL, 'measure': 'update', 'num_steps': 1})
        worker.release('update')
        forecast = worker.prepare('forecast', {**FULL, 'measure': 'forecast'})
        peak = worker.prepare('peak', {'measure': 'memory'})
    print(update, forecast, peak)
    assert update['updates'] == 1
    assert forecast['finite']
    assert list(forecast['shape']) == [1, 256, 256, 78]
    assert peak['process_gib'] < MEMORY_GIB
    # A new model forecasts persistence; of white noise of variance one that is wrong
    # by variance two, in units of a tendency of variance 0.01.
    assert 190 < update['loss'] < 210
