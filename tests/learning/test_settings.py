"""Stages follow each other; what is over stays as it was."""

import pytest

from learning.settings import NextStage
from tests.learning.toy import Settings

NEXT = {'num_updates': 4, 'learning_rate': 0.1}


def settings(*stages, **values):
    return Settings(num_updates=10, stages=stages, **values)


def test_a_stage_says_only_what_it_does_otherwise():
    first, second, third = settings(
        NEXT, {'num_updates': 2, 'decay': 'none'}, decay='linear'
    ).plan()
    assert [s.first_update for s in (first, second, third)] == [0, 10, 14]
    assert [s.last_update for s in (first, second, third)] == [10, 14, 16]
    assert [s.settings.learning_rate for s in (first, second, third)] == [0.3, 0.1, 0.1]
    assert [s.settings.decay for s in (first, second, third)] == [
        'linear',
        'linear',
        'none',
    ]
    # A warm-up is not inherited.
    assert (first.settings.warmup_updates, second.settings.warmup_updates) == (2, 0)


def test_updates_belong_to_stages():
    whole = settings(NEXT)
    assert whole.total_updates == 14
    numbers = [whole.stage_of(update).number for update in (0, 9, 10, 13, 99)]
    assert numbers == [1, 1, 2, 2, 2]


def test_what_a_stage_does_not_say_is_not_written():
    assert settings(NEXT).model_dump(mode='json')['stages'] == [
        {'num_updates': 4, 'learning_rate': 0.1, 'warmup_updates': 0}
    ]
    assert NextStage(num_updates=1).model_dump() == {
        'num_updates': 1,
        'warmup_updates': 0,
    }


@pytest.mark.parametrize(
    ('before', 'after', 'done'),
    [
        (settings(), settings(NEXT), 10),
        (settings(), settings(NEXT), 3),
        (settings(), Settings(num_updates=20), 10),
        (settings(), Settings(num_updates=5), 4),
        (settings(NEXT), settings({'num_updates': 9, 'learning_rate': 0.1}), 14),
        (settings(NEXT), settings({'num_updates': 9, 'decay': 'none'}), 10),
        (settings(NEXT), settings(), 10),
    ],
)
def test_a_run_may_be_lengthened_and_its_future_may_change(before, after, done):
    before.check_successor(after, done)


@pytest.mark.parametrize(
    ('before', 'after', 'done', 'words'),
    [
        (settings(), Settings(num_updates=5), 6, '6 updates are done'),
        (settings(NEXT), settings(), 11, '11 updates are done'),
        (
            settings(NEXT, NEXT),
            settings(NEXT | {'learning_rate': 1.0}, NEXT),
            15,
            r'stage 2 \(updates 10 to 14\) is over .*learning_rate: 0.1 -> 1.0',
        ),
        (
            settings(NEXT, NEXT),
            settings(NEXT | {'num_updates': 5}, NEXT),
            15,
            'stage 2 .* is over and would change: num_updates: 4 -> 5',
        ),
        (
            settings(NEXT),
            Settings(num_updates=12, stages=(NEXT,)),
            11,
            'stage 1 .*num_updates: 10 -> 12',
        ),
        (
            settings(NEXT),
            settings(NEXT | {'accumulate': 2}),
            11,
            'stage 2 .* has begun and would change: accumulate: 1 -> 2',
        ),
        (settings(NEXT), Settings(num_updates=30), 12, 'stage 1 .*: 10 -> 30'),
    ],
)
def test_a_past_that_would_change_is_refused(before, after, done, words):
    with pytest.raises(ValueError, match=words):
        before.check_successor(after, done)
