"""Rollouts that go on from update to update are rollouts."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learning.failures import Failures
from learning.sharding import make_mesh
from tests.weather import tiny
from weather.data.preparation import prepare_run
from weather.data.windows import WindowIndex
from weather.training.replay import Replay, replay_of
from weather.training.task import WeatherTask
from weather.training.trainer import make_loaders, make_model, open_training_store
from weather.workdir import Workdir

REPLAY = Replay(slots=3, batch_size=4, steps=2, max_steps=11)  # Five updates each.
NO_FAILURES = Failures(None)


def visits(slot, row):
    """(rollout, lead) at each visit of a place in the buffer."""
    places = [REPLAY.place(update) for update in range(slot, 90, REPLAY.slots)]
    assert all(place.slot == slot for place in places)
    return [(int(p.rollout[row]), int(p.lead[row])) for p in places]


@pytest.mark.parametrize('slot', range(3))
@pytest.mark.parametrize('row', range(4))
def test_a_rollout_takes_its_steps_one_after_the_other_and_gives_way(slot, row):
    seen = visits(slot, row)
    assert seen[0][1] == 0
    for (rollout, lead), (following, next_lead) in zip(seen, seen[1:], strict=False):
        if following == rollout:
            assert next_lead == lead + 2
        else:
            # All whole ones are as long as they may be, in whole updates.
            assert next_lead == 0 and (lead == 8 or rollout == seen[0][0])


def test_rollouts_are_numbered_through_and_batches_have_all_lead_times():
    began = [
        number
        for update in range(180)
        for number, lead in zip(*REPLAY.place(update)[:0:-1], strict=True)
        if lead == 0
    ]
    assert len(began) == len(set(began)) and set(range(100)) <= set(began)
    leads = [lead for update in range(60, 75) for lead in REPLAY.place(update).lead]
    assert np.unique(leads, return_counts=True)[1].tolist() == [12] * 5


def test_an_update_needs_the_window_in_which_its_rollout_stands():
    times = np.datetime64('2001-01-01', 'ns') + np.arange(40) * np.timedelta64(6, 'h')
    windows = WindowIndex(times, period=('2001-01-01', '2001-01-31'))
    for update in range(60):
        now = REPLAY.times(windows, 7, update)
        later = REPLAY.times(windows, 7, update + REPLAY.slots)
        goes_on = REPLAY.place(update + REPLAY.slots).lead > 0
        np.testing.assert_array_equal(later[goes_on, 0], now[goes_on, -1])
        np.testing.assert_array_equal(np.diff(now, axis=1), 1)
    starts = {
        start
        for update in range(300)
        for start, lead in zip(
            REPLAY.times(windows, 7, update)[:, 0],
            REPLAY.place(update).lead,
            strict=True,
        )
        if lead == 0
    }
    # Each from which ten steps can be taken.
    assert starts == set(range(30))


@pytest.fixture(scope='module')
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp('store') / 'tiny.zarr'
    tiny.write_store(path)
    return path


def make_task(store, folder, **training):
    setup = tiny.setup(store, **training)
    atmosphere = open_training_store(setup)
    prepared = prepare_run(setup, atmosphere, Workdir(folder))
    loaders = make_loaders(setup, atmosphere, prepared)
    model = make_model(setup, atmosphere, prepared)
    return WeatherTask(setup, model, loaders, make_mesh())


def batches(task, count):
    with contextlib.closing(task.batches(0, count, NO_FAILURES)) as read:
        return list(read)


def test_states_of_the_buffer_are_those_of_one_long_rollout(store, tmp_path):
    """With weights that do not move, updates only take steps."""
    task = make_task(
        store,
        tmp_path,
        batch_size=1,
        replay=1,
        replay_steps=6,
        curriculum=((0, 2),),
        learning_rate=1e-30,
        weight_decay=0.0,
        warmup_updates=0,
        num_updates=6,
    )
    # A network that begins as persistence would prove nothing.
    state = task.init()
    noise = jax.random.normal(
        jax.random.key(3), state.weights['params']['output']['knots'].shape
    )
    state.weights['params']['output']['knots'] = 0.05 * noise
    weights = jax.tree.map(jnp.copy, state.weights)
    read = batches(task, 3)
    fields = {name: values[:, 0] for name, values in read[0].fields.items()}
    expected = task.model.normalize(fields)
    for number, batch in enumerate(read):
        clocks = jnp.moveaxis(batch.clocks, 1, 0)
        states, _ = task.model.train_rollout(
            weights, expected, task.model.forcing(clocks, {})
        )
        expected = states[-1]
        state, outcome = task.update(number, state, batch)
        np.testing.assert_allclose(state.memory[0], expected, rtol=0, atol=2e-5)
    # The third update of three steps of two ends it: the next one is another.
    assert (
        replay_of(
            tiny.setup(
                store, batch_size=1, replay=1, replay_steps=6, curriculum=((0, 2),)
            ).training
        )
        .place(3)
        .lead
        == 0
    )
    assert np.isfinite(outcome.loss)


def test_a_rollout_through_which_no_gradient_goes_is_one_of_targets_further_on(
    store, tmp_path
):
    """Pushforward: the loss is that of the last steps of a longer rollout."""
    pushed = make_task(
        store, tmp_path / 'a', pushforward=2, num_updates=2, curriculum=((0, 1),)
    )
    whole = make_task(store, tmp_path / 'b', num_updates=2, curriculum=((0, 3),))
    (batch,), (other,) = batches(pushed, 1), batches(whole, 1)
    for one, two in zip(jax.tree.leaves(batch), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(one, two)
    _, found = pushed.update(0, pushed.init(), batch)
    _, expected = whole.update(0, whole.init(), other)
    np.testing.assert_allclose(found.parts, expected.parts[2:], rtol=1e-6)


def test_noise_has_the_size_that_was_asked_for_and_is_another_in_every_update(
    store, tmp_path
):
    """The first model is persistence: its error is that of the data plus the noise."""
    settings = {'num_updates': 2, 'curriculum': ((0, 1),), 'batch_size': 4}
    plain = make_task(store, tmp_path / 'a', **settings)
    noisy = make_task(store, tmp_path / 'b', noise=3.0, **settings)
    (batch,) = batches(plain, 1)
    _, clean = plain.update(0, plain.init(), batch)
    losses = []
    for update in range(2):
        state = noisy.init().replace(update=jnp.int32(update))
        losses.append(float(noisy.update(0, state, batch)[1].loss))
    # 4 samples x 128 points x 8 channels: a chi-squared of 4096, area-weighted.
    np.testing.assert_allclose(np.array(losses) - clean.loss, 9.0, rtol=0.15)
    assert losses[0] != losses[1]
