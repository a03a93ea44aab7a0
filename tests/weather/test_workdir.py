"""A run directory is one experiment: what may change is recorded, the rest refused."""

import json

import pytest

from tests.weather import tiny
from weather.workdir import Workdir, WorkdirError

STORE = 'atmosphere.zarr'


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A present folder in which the relative store stands."""
    (tmp_path / STORE).mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def setup():
    return tiny.setup(STORE)


@pytest.fixture
def files(setup) -> Workdir:
    """A run that has a checkpoint after update 6."""
    files = Workdir('run')
    files.claim(setup)
    (files.checkpoints / '6').mkdir(parents=True)
    return files


def record(files: Workdir) -> dict:
    return json.loads(files.config.read_text())['run']


def test_the_same_experiment_again_changes_nothing(files, setup):
    before = files.config.read_bytes()
    assert files.claim(setup) == setup
    assert files.config.read_bytes() == before
    assert files.known_digests() == (setup.digest,)


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('data.store', 'moved.zarr'),
        ('data.storage_options', {'token': 'anon'}),
        ('data.cache_gb', 3.0),
        ('data.prefetch_gb', 3.0),
        ('data.num_threads', 7),
        ('data.preparation', 'prepared'),
        ('model.remat', 'none'),
        ('training.log_every', 7),
        ('training.validate_every', 7),
        ('training.validation_batches', 7),
        ('training.checkpoint_every', 7),
        ('training.keep_checkpoints', 7),
        ('training.keep_best', 7),
        ('training.max_loss_ratio', 7.0),
        ('forecast.lead_hours', 48),
        ('forecast.init_every_hours', 48),
        ('forecast.batch_size', 48),
    ],
)
def test_keys_of_the_machine_may_change_and_are_recorded(files, setup, key, value):
    changed = setup.with_changes({key: value})
    assert files.claim(changed) == changed
    assert files.read_config() == changed
    (entry,) = record(files)['history']
    assert entry['update'] == 6
    (line,) = files.history()
    assert f'{entry["time"]} after update 6: {key}' in line and ' -> ' in line
    (name,) = entry['changes']
    assert name.startswith(key)
    assert entry['changes'][name][1] in (value, 'anon')
    assert files.known_digests() == (setup.digest,)


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('data.variables.temperature', (500,)),
        ('data.statics', ('land_sea_mask',)),
        ('data.train', ('2001-01-01', '2001-01-06')),
        ('data.validation', ('2001-01-09', '2001-01-09')),
        ('grid.num_lat', 9),
        ('model.num_blocks', 2),
        ('model.network', 'another'),
        ('loss.variable_weights.temperature', 2.0),
        ('training.seed', 7),
        ('training.batch_size', 4),
        ('training.learning_rate', 1e-4),
        ('training.beta2', 0.99),
        ('training.ema_ramp', 20.0),
    ],
)
def test_keys_of_science_may_not_change_once_trained(files, setup, key, value):
    before = files.config.read_bytes()
    changed = setup.with_changes({key: value})
    assert changed.digest != setup.digest
    with pytest.raises(WorkdirError, match=f'{key}: .* -> .*another --workdir'):
        files.claim(changed)
    assert files.config.read_bytes() == before


def test_a_run_may_become_longer_and_knows_its_earlier_digest(files, setup, caplog):
    longer = setup.with_changes({'training.num_updates': 30})
    files.claim(longer)
    assert 'from update 6 on the learning rate follows' in caplog.text
    assert files.known_digests() == (setup.digest, longer.digest)
    # Saved before the change, and after it.
    for one in (setup, longer):
        files.check_checkpoint({'config': one.to_dict()})


def test_a_run_may_not_become_shorter_than_it_is(files, setup):
    files.claim(setup.with_changes({'training.num_updates': 6}))
    with pytest.raises(WorkdirError, match='6 updates are done, more than the 5 of'):
        files.claim(setup.with_changes({'training.num_updates': 5}))


def test_a_config_may_be_corrected_before_anything_is_trained(setup):
    files = Workdir('run')
    files.claim(setup)
    files.statistics.touch()
    files.claim(setup.with_changes({'training.batch_size': 4}))
    assert files.statistics.exists()
    corrected = setup.with_changes({'data.train': ('2001-01-01', '2001-01-06')})
    files.claim(corrected)
    # They were those of another period.
    assert not files.statistics.exists()
    assert files.read_config() == corrected
    assert len(record(files)['history']) == 2


def test_results_keep_a_config_as_training_does(setup):
    files = Workdir('run')
    files.claim(setup)
    files.climatology.mkdir()
    with pytest.raises(WorkdirError, match='training.seed'):
        files.claim(setup.with_changes({'training.seed': 7}))


def test_checkpoints_of_another_experiment_are_refused(files, setup):
    other = setup.with_changes({'training.learning_rate': 1e-4, 'data.cache_gb': 9.0})
    with pytest.raises(WorkdirError) as refused:
        files.check_checkpoint({'config': other.to_dict()})
    assert 'training.learning_rate: 0.0001 -> 0.01' in str(refused.value)
    assert 'cache_gb' not in str(refused.value)


def test_what_is_refused_because_of_checkpoints_claims_nothing(files, setup):
    checkpoint = {'config': setup.to_dict()}
    files.config.unlink()
    with pytest.raises(WorkdirError, match='training.seed: 0 -> 7'):
        files.claim(setup.with_changes({'training.seed': 7}), checkpoint)
    assert not files.config.exists()
    assert files.claim(setup, checkpoint) == setup


def test_a_config_edited_by_hand_does_not_adopt_the_checkpoints(files, setup):
    text = files.config.read_text().replace('"seed": 0', '"seed": 1')
    files.config.write_text(text)
    with pytest.raises(WorkdirError, match='training.seed: 0 -> 1'):
        files.check_checkpoint({'config': setup.to_dict()})


def test_a_relative_store_is_found_from_another_folder(files, here, monkeypatch):
    elsewhere = here / 'elsewhere'
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    found = Workdir(here / 'run').read_config().data.store
    assert found == str(here / STORE)
    # One that stands here is meant, as when the run was made.
    (elsewhere / STORE).mkdir()
    assert Workdir(here / 'run').read_config().data.store == STORE
    (elsewhere / STORE).rmdir()
    (here / STORE).rmdir()
    assert Workdir(here / 'run').read_config().data.store == STORE


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'an empty file.*remove it'),
        (b'{"format": 2, "da', 'remove it and train'),
        (b'hi\n', 'remove it and train'),
        (b'[1, 2]', 'instead of keys and values'),
        (b'{"name": "someone else"}', 'unknown key config.name'),
        (b'\xff\xfe\x00', 'remove it and train'),
        (b'{"format": 99}', 'format 99.*up to 2'),
        (b'{"format": "2"}', "got '2'"),
    ],
)
def test_a_damaged_or_foreign_config_is_named(files, setup, content, message):
    files.config.write_bytes(content)
    for read in (files.read_config, lambda: files.claim(setup)):
        with pytest.raises(WorkdirError, match=f'config.json.*{message}'):
            read()
    assert files.config.read_bytes() == content


def test_a_run_directory_is_a_folder_here(here):
    (here / 'file').touch()
    with pytest.raises(WorkdirError, match='found a file: file'):
        Workdir('file')
    with pytest.raises(WorkdirError, match='a local path or an address gs://'):
        Workdir('s3://bucket/run')
    with pytest.raises(WorkdirError, match='no run in'):
        Workdir('nothing').read_config()


def test_a_home_folder_and_letters_of_any_script(here, setup, monkeypatch):
    monkeypatch.setenv('HOME', str(here))
    files = Workdir('~/Läufe 1/мой run')
    files.claim(setup.with_changes({'data.store': '~/данные ü.zarr'}))
    assert (here / 'Läufe 1/мой run/config.json').exists()
    assert files.read_config().data.store == str(here / 'данные ü.zarr')
