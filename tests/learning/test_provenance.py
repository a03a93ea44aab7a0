"""A file can be traced to the code that made it."""

import importlib.metadata
import pathlib
import re
import shutil
import subprocess

from learning import provenance

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_the_version_is_that_of_the_package():
    assert provenance.code_version() == importlib.metadata.version('spherecast')


def test_the_commit_is_that_of_the_checkout():
    found = provenance.git_commit()
    if not (ROOT / '.git').exists() or shutil.which('git') is None:
        assert found == 'unknown'
        return
    head = subprocess.run(
        ['git', '-C', ROOT, 'rev-parse', 'HEAD'], capture_output=True, text=True
    ).stdout
    commit = re.fullmatch(r'([0-9a-f]{12,})(-dirty)?', found)
    assert commit
    assert head.startswith(commit[1])


def test_outside_a_checkout_the_commit_is_unknown(monkeypatch, tmp_path):
    module = tmp_path / 'weather' / 'provenance.py'
    monkeypatch.setattr(provenance, '__file__', str(module))
    assert provenance.git_commit() == 'unknown'
