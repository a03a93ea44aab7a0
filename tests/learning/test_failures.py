"""What fails is gone back from, a bounded number of times, and written down."""

import json

import numpy as np
import pytest

from learning.failures import Failures, TrainingFailed
from tests.learning import toy


def failure(update):
    facts = {'loss': float('nan'), 'gradient_norm': 1.0, 'parts': [1.0, 2.0]}
    return TrainingFailed(update, 'failed', facts)


def test_the_order_of_an_update_counts_failures_that_lie_before_it(tmp_path):
    failures = Failures.read(tmp_path / 'failures.json')
    assert failures.order(0) == 0
    failures.add(failure(17), 10, ['2001-01-01'])
    failures.add(failure(15), 10, [])
    failures.add(failure(40), 30, ['2001-03-01'])
    again = Failures.read(tmp_path / 'failures.json')
    assert [again.order(update) for update in (9, 10, 29, 30, 99)] == [0, 2, 2, 3, 3]
    assert again.left_out(29) == ('2001-01-01',)
    assert again.left_out(30) == ('2001-01-01', '2001-03-01')
    assert again.changes_after(0) == [10, 30] and again.changes_after(10) == [30]
    assert len(again.in_a_row(10)) == 2 and len(again.in_a_row(30)) == 1


def test_a_damaged_list_is_named(tmp_path):
    place = tmp_path / 'failures.json'
    place.write_text('[{')
    with pytest.raises(ValueError, match=r'failures of a run in .*failures.json'):
        Failures.read(place)


def spoilt(updates, orders=(0,)):
    """Batches of NaN in some updates, in the first order or in more."""

    def spoil(update, batch, order=0):
        if update in updates and order in orders:
            return batch[0], batch[1] * np.nan
        return batch

    return spoil


def test_one_bad_batch_is_gone_back_from_and_passed(tmp_path):
    settings = toy.Settings(max_failures=3)
    first, second = spoilt({12}), spoilt({22}, orders=(0, 1))
    state = toy.train(
        tmp_path,
        settings,
        spoil=lambda update, batch, order=0: second(
            update, first(update, batch, order), order
        ),
    )
    assert int(state.update) == 30
    assert all(np.isfinite(array).all() for array in toy.arrays(state))
    (first, second) = json.loads((tmp_path / 'failures.json').read_text())
    assert (first['update'], first['back_to']) == (13, 10)
    assert (second['update'], second['back_to']) == (23, 20)
    assert first['facts']['batch'] == 12 and np.isnan(first['facts']['loss'])
    assert not (tmp_path / 'failures.md').exists()


def test_a_training_that_failed_and_was_killed_ends_like_one_that_only_failed(tmp_path):
    """What it goes back to, and in which order it goes on, is on the disk."""
    settings = toy.Settings(max_failures=3)
    expected = toy.train(tmp_path / 'one', settings, spoil=spoilt({12}))

    class Killed(Exception):
        pass

    bad = spoilt({12})

    def dies(update, batch, order=0):
        if update == 18:
            raise Killed
        return bad(update, batch, order)

    with pytest.raises(Killed):
        toy.train(tmp_path / 'two', settings, spoil=dies)
    # Killed before the checkpoint after the failure: it goes on from before it.
    found = toy.train(tmp_path / 'two', settings, spoil=bad)
    for one, other in zip(toy.arrays(found), toy.arrays(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def test_three_failures_in_a_row_end_it_with_a_report(tmp_path):
    settings = toy.Settings(max_failures=3)
    always = spoilt(range(12, 99), orders=range(9))
    with pytest.raises(TrainingFailed, match='failure 3 after update 10.*failures.md'):
        toy.train(tmp_path, settings, spoil=always)
    assert len(json.loads((tmp_path / 'failures.json').read_text())) == 3
    report = (tmp_path / 'failures.md').read_text()
    assert '# Training failed 3 times after update 10' in report
    assert report.count('| 13 | nan |') == 3


def test_a_failure_before_the_first_checkpoint_goes_back_to_the_beginning(tmp_path):
    state = toy.train(tmp_path, toy.Settings(max_failures=2), spoil=spoilt({1}))
    assert int(state.update) == 30
    (entry,) = json.loads((tmp_path / 'failures.json').read_text())
    assert entry['back_to'] == 0
