import pytest

from benchmarks import timing


class Recorder:
    """Operations whose durations are given, and who was asked for what when."""

    def __init__(self, durations):
        self.durations, self.turns = durations, []

    def clock(self, label):
        def clock(*, calls, warm_ups):
            self.turns.append((label, calls, warm_ups))
            return self.durations[label]

        return clock

    def clocks(self):
        return {label: self.clock(label) for label in self.durations}


def test_operations_take_turns_in_the_order_given():
    recorder = Recorder({'a': 1.0, 'b': 1.0, 'c': 1.0})
    timing.take_turns(recorder.clocks(), rounds=3)
    measured = [label for label, *_ in recorder.turns][6:]  # After two to calibrate.
    assert measured == ['a', 'b', 'c'] * 3


def test_a_turn_lasts_as_long_as_asked_and_slow_operations_run_once():
    recorder = Recorder({'fast': 0.004, 'slow': 7.0})
    timing.take_turns(recorder.clocks(), rounds=1, least_seconds=0.05)
    assert recorder.turns[-2:] == [('fast', 13, 1), ('slow', 1, 0)]


def test_a_clock_that_stands_still_does_not_run_for_ever():
    recorder = Recorder({'a': 0.0})
    timing.take_turns(recorder.clocks(), rounds=1)
    assert recorder.turns[-1] == ('a', timing.MOST_CALLS, 1)


def test_a_sample_has_one_value_per_round():
    recorder = Recorder({'a': 0.25})
    assert timing.take_turns(recorder.clocks(), rounds=4)['a'].values == (0.25,) * 4


def test_median_minimum_and_spread():
    sample = timing.Sample((5.0, 1.0, 2.0, 3.0, 4.0))
    assert (sample.median, sample.minimum) == (3.0, 1.0)
    assert sample.spread == pytest.approx((4 - 2) / 3)


def test_a_ratio_does_not_see_a_machine_that_slows_down():
    machine = (1.0, 3.0, 10.0)
    fast = timing.Sample(tuple(machine))
    slow = timing.Sample(tuple(2 * speed for speed in machine))
    ratio = timing.ratio(slow, fast)
    assert ratio.median == 2 and ratio.spread == 0
    assert fast.spread > 0


def test_samples_add_round_by_round():
    total = timing.Sample((1.0, 2.0)) + timing.Sample((10.0, 20.0))
    assert total.values == (11.0, 22.0)


def test_samples_of_different_lengths_do_not_mix():
    with pytest.raises(ValueError):
        timing.ratio(timing.Sample((1.0,)), timing.Sample((1.0, 2.0)))


def test_summary_is_what_json_keeps():
    summary = timing.Sample((1.0, 2.0)).summary()
    assert summary['values'] == [1.0, 2.0] and summary['median'] == 1.5
