"""Jobs: names and places that every target takes, and no shell misunderstands."""

import pydantic
import pytest

from tests.launching.stubs import make_job


@pytest.mark.parametrize('name', ['a', 'era5-256', 'a' * 40])
def test_names_are_those_of_every_target(name):
    assert make_job('/f', name=name).name == name


@pytest.mark.parametrize(
    'name', ['', 'Era5', '5', 'a-', 'a_b', 'a' * 41, 'a;b', 'a\nb']
)
def test_other_names_are_refused(name):
    with pytest.raises(pydantic.ValidationError, match='at most 40 lower-case'):
        make_job('/f', name=name)


@pytest.mark.parametrize('workdir', ['', 'gs://b/a b', "x'y", '$HOME/x', 'a\nb', '`x`'])
def test_places_that_a_shell_would_split_are_refused(workdir):
    with pytest.raises(pydantic.ValidationError, match='without blanks and quotes'):
        make_job('/f', workdir=workdir)


@pytest.mark.parametrize('image', ['a b', 'A/b', '$(x)', '-x'])
def test_images_are_names(image):
    with pytest.raises(pydantic.ValidationError, match='REGISTRY/NAME:TAG'):
        make_job('/f', image=image)


def test_a_place_is_the_same_with_and_without_its_last_slash():
    job = make_job('/f/', workdir='gs://bucket/run/')
    assert (job.folder, job.workdir) == ('/f', 'gs://bucket/run')


def test_the_command_that_trains_gets_config_workdir_and_further_flags():
    job = make_job('/f', flags=('--traceback',))
    expected = ['--config=c.json', '--workdir=gs://bucket/runs/run', '--traceback']
    assert job.arguments('c.json') == expected
