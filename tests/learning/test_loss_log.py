"""Every update is in the log once, whatever happened in between."""

import math

import pytest

from learning import copies
from learning.addresses import contents, place
from learning.loss_log import LossLog, Stopwatch
from tests import emulator


@pytest.fixture
def bucket():
    with emulator.standing_in():
        yield place(f'gs://{emulator.BUCKET}/run')


def write(folder, first, *updates):
    files = folder / 'metrics.csv', folder / 'tensorboard'
    with LossLog(*files, first_update=first, num_updates=9) as log:
        for update in updates:
            log.advance()
            log.write(update, 2, {'loss': 1 / update})


def rows(folder):
    return (folder / 'metrics.csv').read_text().splitlines()


def test_a_resumed_training_drops_what_it_makes_again(tmp_path):
    write(tmp_path, 0, 1, 2, 3)
    write(tmp_path, 2, 3, 4)
    assert rows(tmp_path) == [
        'update,num_steps,name,value',
        '1,2,loss,1',
        '2,2,loss,0.5',
        '3,2,loss,0.33333333',
        '4,2,loss,0.25',
    ]


def test_a_line_cut_short_by_a_crash_is_dropped(tmp_path):
    write(tmp_path, 0, 1)
    with (tmp_path / 'metrics.csv').open('a') as file:
        file.write('2,2,lo')
    write(tmp_path, 2)
    assert rows(tmp_path) == ['update,num_steps,name,value', '1,2,loss,1']


def test_in_a_bucket_a_resumed_training_drops_what_it_makes_again_too(bucket):
    write(bucket, 0, 1, 2, 3)
    write(bucket, 2, 3)
    assert [line[:8] for line in rows(bucket)[1:]] == [
        '1,2,loss',
        '2,2,loss',
        '3,2,loss',
    ]
    assert len([name for name in contents(bucket) if 'events' in name]) == 2


def test_in_a_bucket_rows_are_there_when_a_checkpoint_is(bucket, monkeypatch, caplog):
    files = bucket / 'metrics.csv', bucket / 'tensorboard'
    with LossLog(*files, first_update=0, num_updates=9) as log:
        log.write(1, 2, {'loss': 1.0})
        assert len(rows(bucket)) == 1  # Not yet.
        log.flush()
        assert len(rows(bucket)) == 2
        monkeypatch.setattr(copies, 'SEND_SECONDS', 0.0)
        log.write(2, 2, {'loss': 1.0})
        assert len(rows(bucket)) == 3
        # What a bucket does not take now it may take later.
        monkeypatch.setattr(copies, 'send', refuse)
        log.write(3, 2, {'loss': 1.0})
        assert 'cannot send the log' in caplog.text
        with pytest.raises(OSError, match='503'):
            log.flush()
        monkeypatch.undo()
    assert len(rows(bucket)) == 4


def refuse(*_):
    raise OSError('503')


def test_tensorboard_reads_the_values_at_their_updates(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    write(tmp_path, 1, 2, 3)
    (path,) = (tmp_path / 'tensorboard').glob('events.*')
    data, events = path.read_bytes(), []
    while data:  # A record: length, its checksum, content, its checksum.
        length = int.from_bytes(data[:8], 'little')
        events.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    values = {e.step: e.summary.value[0] for e in events if e.summary.value}
    assert {step: v.tag for step, v in values.items()} == {2: 'loss', 3: 'loss'}
    assert values[2].simple_value == 0.5
    # What an earlier start wrote from update 2 on is not shown.
    assert [e.step for e in events if e.session_log.status] == [2]


def test_the_stopwatch_counts_what_it_was_started_for():
    watch = Stopwatch(5)
    assert math.isnan(watch.rate(5))
    assert watch.rate(7) > 0


def test_a_stopwatch_tells_how_long_was_waited_since_it_was_started(monkeypatch):
    now = [100.0]
    monkeypatch.setattr('learning.loss_log.time.perf_counter', lambda: now[0])

    def slow():
        for number in range(4):
            now[0] += 1.0
            yield number

    stopwatch = Stopwatch(0)
    assert math.isnan(stopwatch.waiting(0))
    shares = []
    for update, _ in enumerate(stopwatch.waited_for(slow()), start=1):
        now[0] += 3.0 if update == 2 else 0.0
        shares.append(stopwatch.waiting(update))
        if update == 3:
            stopwatch.start(update)
    assert shares == [1.0, 2 / 5, 3 / 6, 1.0]
