"""The stages that are compared are stages, and the table has every way once."""

from benchmarks import long_rollouts
from learning.config_flags import read_config_file
from weather.experiment import Experiment


def test_each_way_is_a_stage_of_the_demo():
    for rollouts, longest in (
        (long_rollouts.THREE_DAYS, 12),
        (long_rollouts.TEN_DAYS, 1),
    ):
        name, text = long_rollouts.stage(60, rollouts).split('=', 1)
        setup = Experiment.from_config(
            read_config_file('configs/demo.py'), {name.removeprefix('--config.'): text}
        )
        stage = setup.training.plan()[-1]
        assert (stage.first_update, stage.last_update) == (480, 540)
        assert stage.settings.longest_rollout == longest
        assert stage.settings.replay_steps * 6 == 240
        assert stage.settings.learning_rate < setup.training.learning_rate


def test_the_table_has_a_column_for_every_lead_time_and_all_seeds_in_it():
    rmse = [
        {'model': 'spherecast', 'field': field, 'lead_hours': lead, 'rmse': lead / 10}
        for field in ('Z500', 'T850')
        for lead in long_rollouts.LEADS
    ]
    run = {'way': 'demo', 'updates': 3, 'seconds': 5.0, 'rmse': rmse}
    text = long_rollouts.report([run, run])
    row = next(line for line in text.splitlines() if line.startswith('| Z500'))
    cells = [cell.strip() for cell in row.strip('|').split('|')]
    assert cells[1:] == [
        'demo',
        '3 / 3',
        '5 / 5',
        '2 / 2',
        '7 / 7',
        '12 / 12',
        '24 / 24',
    ]
