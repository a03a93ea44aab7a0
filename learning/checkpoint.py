"""Checkpoints: everything that a run needs to go on as if it had never stopped."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import jax
import orbax.checkpoint as ocp


class Checkpoints:
    """Orbax checkpoints of a run, one per saved update; a context manager.

    Each holds two pytrees of arrays, so that a forecast reads no more than it needs,
    and JSON: `training` (update number, parameters, optimiser), `forecast` (averaged
    parameters, normaliser, statics) and `metadata` (config, loader position). Saving
    goes on in the background; a checkpoint gets its final name when it is complete.
    """

    def __init__(self, directory: pathlib.Path | str, *, keep: int | None = None):
        """Opens a directory of checkpoints, creating it where it is missing.

        Args:
          directory: where they are.
          keep: how many of the newest are kept; all by default.
        """
        self._directory = pathlib.Path(directory).absolute()
        self._manager = ocp.CheckpointManager(
            self._directory,
            options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True),
            item_names=('training', 'forecast', 'metadata'),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._manager.wait_until_finished()
        self._manager.close()

    @property
    def latest(self) -> int | None:
        """Update number of the newest complete checkpoint."""
        return max(self._manager.all_steps(), default=None)

    def save(
        self, update: int, *, training: Any, forecast: Any, metadata: Mapping[str, Any]
    ) -> None:
        """Saves under an update number; one that is there already is left as it is."""
        if update == self.latest:
            return
        self._manager.save(
            update,
            args=ocp.args.Composite(
                training=ocp.args.StandardSave(training),
                forecast=ocp.args.StandardSave(forecast),
                metadata=ocp.args.JsonSave(dict(metadata)),
            ),
        )

    def restore_training(self, template: Any, update: int | None = None) -> Any:
        """Reads `training` into the shapes and shardings of `template`."""
        return self._restore('training', template, update)

    def restore_forecast(self, template: Any, update: int | None = None) -> Any:
        """Reads `forecast` into the shapes and shardings of `template`."""
        return self._restore('forecast', template, update)

    def metadata(self, update: int | None = None) -> dict[str, Any]:
        """Reads the metadata of a checkpoint, by default of the newest."""
        args = ocp.args.Composite(metadata=ocp.args.JsonRestore())
        return self._manager.restore(self.resolve(update), args=args)['metadata']

    def resolve(self, update: int | None) -> int:
        """Returns `update`, or the newest for `None`.

        Raises:
          FileNotFoundError: there is no such checkpoint, or none at all.
        """
        found = sorted(self._manager.all_steps())
        if not found:
            raise FileNotFoundError(
                f'no complete checkpoint in {self._directory}; train first with '
                'scripts/train.py'
            )
        if update is not None and update not in found:
            raise FileNotFoundError(
                f'no checkpoint of update {update} in {self._directory}; there are '
                f'{found}'
            )
        return found[-1] if update is None else update

    def _restore(self, item: str, template: Any, update: int | None) -> Any:
        # A target with shardings: restoring on other devices fails without one.
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        args = ocp.args.Composite(**{item: ocp.args.StandardRestore(target)})
        return self._manager.restore(self.resolve(update), args=args)[item]
