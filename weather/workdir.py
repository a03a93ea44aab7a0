"""The run directory: its files, and the rule that it belongs to one experiment."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from typing import Any

from learning import processes
from learning.addresses import AddressError, PathLike, Place, numbered, place
from learning.files import replacing
from learning.schema import Change, ConfigError, Role, differences
from weather.experiment import Experiment

_LOGGER = logging.getLogger(__name__)


class WorkdirError(ValueError):
    """A run directory that belongs to another experiment, or to none."""


@dataclasses.dataclass(frozen=True)
class Record:
    """What config.json keeps beside the experiment, under `run`.

    Attributes:
      base: the folder from which the config's relative paths are seen; None where the
        first version wrote the config.
      digests: of the experiments that this run has been, each as its version spelt it.
      history: when it changed, after which update, and which keys from what to what.
    """

    base: str | None = None
    digests: tuple[str, ...] = ()
    history: tuple[Mapping[str, Any], ...] = ()

    def followed_by(
        self, setup: Experiment, changes: Mapping[str, Change], done: int = 0
    ) -> Record:
        """The record after the run became `setup`, here and now, `done` updates old."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
        entry = {
            'time': now,
            'update': done,
            'changes': {key: list(c) for key, c in changes.items()},
        }
        return Record(
            base=os.getcwd(),
            digests=tuple(dict.fromkeys((*self.digests, setup.digest))),
            # Another start of the same is no event.
            history=(*self.history, entry) if changes else self.history,
        )


class Workdir:
    """Paths of a run directory, and the config that it belongs to.

    Attributes:
      path: the directory, here or in a bucket. All files in it are written by the
        first of several processes, and read by each.
    """

    def __init__(self, path: PathLike):
        try:
            self.path: Place = place(path)
        except AddressError as error:
            raise WorkdirError(str(error)) from error
        if self.path.exists() and not self.path.is_dir():
            raise WorkdirError(
                f'expected a run directory, found a file: {self.path}; give another '
                '--workdir'
            )

    @property
    def config(self) -> Place:
        """The experiment, as JSON."""
        return self.path / 'config.json'

    @property
    def statistics(self) -> Place:
        """Mean, spread and tendency of the channels, netCDF."""
        return self.path / 'statistics.nc'

    @property
    def invalid_times(self) -> Place:
        """Times that training and validation leave out because of NaN, JSON."""
        return self.path / 'invalid_times.json'

    @property
    def climatology(self) -> Place:
        """Climatology of the training period, Zarr."""
        return self.path / 'climatology.zarr'

    @property
    def checkpoints(self) -> Place:
        """Orbax checkpoints."""
        return self.path / 'checkpoints'

    @property
    def tensorboard(self) -> Place:
        """TensorBoard event files."""
        return self.path / 'tensorboard'

    @property
    def losses(self) -> Place:
        """Losses by update, CSV."""
        return self.path / 'metrics.csv'

    @property
    def failures(self) -> Place:
        """Failures that the training has gone back from, JSON."""
        return self.path / 'failures.json'

    @property
    def failure_report(self) -> Place:
        """What is said of failures that have ended the training, Markdown."""
        return self.path / 'failures.md'

    @property
    def forecasts(self) -> Place:
        """Forecasts, one netCDF file per start."""
        return self.path / 'forecasts'

    @property
    def scores(self) -> Place:
        """Scores, CSV."""
        return self.path / 'scores.csv'

    @property
    def report(self) -> Place:
        """The report, one HTML page."""
        return self.path / 'report.html'

    def claim(
        self, setup: Experiment, newest: Mapping[str, Any] | None = None
    ) -> Experiment:
        """Makes the directory that of `setup`, or checks that it is already.

        Keys of the machine may differ from those of the last start, and `num_updates`
        may too, down to the updates that are done; both are recorded in config.json.
        Any other key may only where nothing was trained yet. What is refused leaves the
        directory as it is.

        Args:
          setup: the experiment.
          newest: metadata of the newest checkpoint, where there is one.

        Returns:
          The experiment to go on with.

        Raises:
          WorkdirError: the directory holds another experiment; says how they differ.
        """
        if not self.config.exists():
            self.check_checkpoint(newest, setup)
            self._write(setup, Record().followed_by(setup, {}))
            return setup
        saved, record, is_current = self._read()
        changes = differences(saved.to_dict(), setup.to_dict())
        decisive = _of_science(changes)
        if decisive and not self._is_untrained():
            raise WorkdirError(
                f'{self.path} holds a run of another config (there -> here): '
                f'{_listed(decisive)}. Give another --workdir, or set these keys as '
                'they were there'
            )
        self._check_length(saved, changes, setup)
        self.check_checkpoint(newest, setup)
        following = record.followed_by(setup, changes, self._updates_done())
        # From another folder the same relative path is another place.
        moved = following.base != record.base and not os.path.isabs(setup.data.store)
        if changes or moved or not is_current:
            self._forget_data(changes)
            self._write(setup, following)
        if changes:
            _LOGGER.info('since the last start (there -> here): %s', _listed(changes))
        return setup

    def read_config(self) -> Experiment:
        """The experiment of the run.

        Raises:
          WorkdirError: there is none, or config.json is damaged.
        """
        return self._read()[0]

    def known_digests(self) -> tuple[str, ...]:
        """Digests that this run's checkpoints, forecasts and scores may name.

        The last is that of the present config; before it are those from before the run
        was made longer, and what the first version called the same experiment.
        """
        setup, record, _ = self._read()
        return tuple(dict.fromkeys((*record.digests, setup.digest)))

    def history(self) -> list[str]:
        """What was changed when, a line for every key, oldest first."""
        lines = []
        for entry in self._read()[1].history:
            # Earlier versions wrote no update down.
            after = f' after update {entry["update"]}' if entry.get('update') else ''
            for key, (before, now) in entry['changes'].items():
                lines.append(f'{entry["time"]}{after}: {key}: {Change(before, now)}')
        return lines

    def check_checkpoint(
        self, metadata: Mapping[str, Any] | None, setup: Experiment | None = None
    ) -> None:
        """Refuses a checkpoint of another experiment; to be asked before a resume.

        A checkpoint says of itself what it was trained with (`config`). It belongs here
        if no key of science differs, but for the number of updates.

        Args:
          metadata: of the checkpoint, as `Checkpoints.metadata` gives it; None for no
            checkpoint, which is no other's.
          setup: the experiment; that of config.json by default.

        Raises:
          WorkdirError: the checkpoint is not of this run; says what differs.
        """
        if metadata is None:
            return
        # The first version's name no format.
        theirs = Experiment.from_config({'format': 1, **metadata['config']})
        ours = setup or self.read_config()
        decisive = _of_science(differences(theirs.to_dict(), ours.to_dict()))
        if decisive:
            raise WorkdirError(
                f'{self.checkpoints} holds checkpoints of another experiment than '
                f'{self.config} (checkpoints -> config): {_listed(decisive)}. A run '
                'cannot go on from the weights of another: give a new, empty --workdir'
            )

    def _read(self) -> tuple[Experiment, Record, bool]:
        """Experiment and record; and whether they are written as they would be now."""
        if not self.config.exists():
            raise WorkdirError(
                f'no run in {self.path}: expected {self.config}; train first with '
                f'scripts/train.py --workdir={self.path}'
            )
        text = self.config.read_bytes()
        try:
            entries = json.loads(text)
            if not isinstance(entries, dict):
                raise ValueError(f'{entries!r:.40} instead of keys and values')
            version = entries.get('format', 1)
            setup = Experiment.from_config({'format': 1, **entries})
        except ValueError as error:
            found = f'no such thing ({error})' if text.strip() else 'an empty file'
            found = str(error) if isinstance(error, ConfigError) else found
            raise WorkdirError(
                f'expected the config of a run in {self.config}, found {found}'
                f'{"" if isinstance(error, ConfigError) else _REPAIR}'
            ) from error
        if version == 1:
            # The first version's digest: of everything, as it stands in the file.
            whole = json.dumps(entries, sort_keys=True).encode()
            return (
                setup,
                Record(digests=(hashlib.sha256(whole).hexdigest()[:12],)),
                False,
            )
        notes = entries.get(Experiment.RECORD, {})
        record = Record(
            base=notes.get('base'),
            digests=tuple(notes.get('digests', ())),
            history=tuple(notes.get('history', ())),
        )
        return setup, record, version == Experiment.newest_format()

    def _write(self, setup: Experiment, record: Record) -> None:
        if not processes.is_first():
            return
        with replacing(self.config) as temporary:
            notes = dataclasses.asdict(record)
            temporary.write_text(setup.to_json(**notes), 'utf-8')

    def _updates_done(self) -> int:
        return max(numbered(self.checkpoints), default=0)

    def _is_untrained(self) -> bool:
        # What is made of a run outlives its checkpoints, and is of its config.
        results = (self.climatology, self.forecasts, self.scores)
        return not self._updates_done() and not any(path.exists() for path in results)

    def _check_length(
        self, saved: Experiment, changes: Mapping[str, Change], setup: Experiment
    ) -> None:
        """Lets a run become longer or get more stages, and says what that means."""
        done, training = self._updates_done(), setup.training
        if not done or not any(key in changes for key in _LENGTHS):
            return
        try:
            saved.training.check_successor(training, done)
        except ValueError as error:
            raise WorkdirError(
                f'{self.path} cannot go on so: {error}; or give another --workdir'
            ) from error
        stage = training.stage_of(done)
        _LOGGER.warning(
            '%s: from update %d on the learning rate follows the schedule of %d '
            'updates%s',
            '; '.join(f'{key}: {changes[key]}' for key in _LENGTHS if key in changes),
            done,
            stage.settings.num_updates,
            f' of stage {stage.number}' if stage.number > 1 else '',
        )

    def _forget_data(self, changes: Mapping[str, Change]) -> None:
        """Removes what was computed from the data of a config that was corrected."""
        if any(key.startswith(('data.', 'grid.')) for key in _of_science(changes)):
            # Nothing was trained with them yet: `claim` has seen to that.
            if processes.is_first():
                self.statistics.unlink(missing_ok=True)
                self.invalid_times.unlink(missing_ok=True)


_LENGTHS = ('training.num_updates', 'training.stages')

_REPAIR = (
    '; where a crash left it, remove it and train with the same config again, else '
    'give another --workdir'
)


def _of_science(changes: Mapping[str, Change]) -> dict[str, Change]:
    """Those that make another experiment of a run."""
    is_science = {key: Experiment.role(key) is Role.SCIENCE for key in changes}
    return {key: change for key, change in changes.items() if is_science[key]}


def _listed(changes: Mapping[str, Change]) -> str:
    return '; '.join(f'{key}: {change}' for key, change in changes.items())
