"""Fixtures that every test may use."""

import os
import pathlib

import pytest

# Before anything imports gcsfs: it would open gRPC over TLS to an emulator, and hang.
os.environ['GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT'] = 'false'

SHARED_DATA = pathlib.Path(__file__).resolve().parents[2] / 'shared' / 'data'


@pytest.fixture(scope='session')
def shared_data() -> pathlib.Path:
    """Folder of real reanalysis samples that stands beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(
            f'real data not found at {SHARED_DATA}: put the NCEP and ERA5 samples '
            'beside the checkout to run this test'
        )
    return SHARED_DATA


@pytest.fixture(scope='session', autouse=True)
def preparation_folder(tmp_path_factory):
    """Nothing that a test prepares gets into the user's cache folder."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp('preparation')
    patch.setenv('SPHERECAST_PREPARATION', str(folder))
    yield folder
    patch.undo()
