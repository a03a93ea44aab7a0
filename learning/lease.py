"""A lock in a bucket: an object that its owner renews for as long as it lives.

No kernel frees what a dead process held there. Its object stands still, and whoever
watches it stand still for long enough takes it over; nobody's clock is compared with
anybody else's, unless the object is hours old.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator

from etils import epath

from learning.addresses import create, look

_LOGGER = logging.getLogger(__name__)

# One renewal may fail, and the next, before anybody thinks that the owner is dead.
RENEW_SECONDS = 20.0
DEAD_SECONDS = 90.0
# Beyond this no difference of clocks is an explanation.
_OLD = datetime.timedelta(hours=1)


class TakenError(OSError):
    """Somebody alive holds it; the text says who."""


@contextlib.contextmanager
def hold(path: epath.Path, owner: str) -> Iterator[None]:
    """Holds the object `path`; what a dead process left there is waited for.

    A process that finds its own lock in the hands of another, because it was stopped
    for minutes, ends at once: two that write in one place are worse than one that is
    started again.

    Args:
      path: the object.
      owner: what it says about its owner.

    Raises:
      TakenError: another process holds it, and is alive.
    """
    token = uuid.uuid4().hex
    _acquire(path, owner, token)
    done = threading.Event()
    thread = threading.Thread(
        target=_renew, args=(path, owner, token, done), daemon=True, name='lease'
    )
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        if _token(path) == token:
            path.unlink(missing_ok=True)


def _acquire(path: epath.Path, owner: str, token: str) -> None:
    while True:
        try:
            create(path, _content(owner, token))
            return
        except FileExistsError:
            dead = _outwait(path)
            # Others may have seen it stand still too: one of them makes the next, and
            # should two have removed the same, the first of them finds that out.
            if dead is not None and _read(path) == dead:
                path.unlink(missing_ok=True)


def _outwait(path: epath.Path) -> dict[str, str] | None:
    """What the lock says, once its owner must be dead; none if it has let it go.

    Raises:
      TakenError: it has renewed the lock meanwhile.
    """
    found = _read(path)
    deadline = time.monotonic() + DEAD_SECONDS
    if found is None or _is_old(path):
        return found
    _LOGGER.warning(
        'waiting up to %.0f s for a sign of life of %s', DEAD_SECONDS, found['owner']
    )
    while time.monotonic() < deadline:
        time.sleep(min(1.0, DEAD_SECONDS / 10))
        now = _read(path)
        if now is None:
            return None
        if now != found:
            raise TakenError(now['owner'])
    _LOGGER.warning('it gave none: its lock is taken over')
    return found


def _renew(path: epath.Path, owner: str, token: str, done: threading.Event) -> None:
    while not done.wait(RENEW_SECONDS):
        try:
            if _token(path) != token:
                _abandon(path)
                return
            path.write_bytes(_content(owner, token))
        # Whatever a network may raise: the next time it may work again.
        except Exception as error:
            _LOGGER.warning('warning: cannot renew %s: %s', path, error)


def _abandon(path: epath.Path) -> None:
    _LOGGER.error(
        'error: %s, the lock of this run, was taken over by another process while this '
        'one stood still: it ends here; what was saved is whole',
        path,
    )
    os._exit(1)


def _content(owner: str, token: str) -> bytes:
    entries = {'owner': owner, 'token': token, 'renewed': time.time()}
    return json.dumps(entries).encode()


def _read(path: epath.Path) -> dict[str, str] | None:
    """What the lock says; none where there is none."""
    try:
        found = json.loads(path.read_bytes())
        return found if {'owner', 'token'} <= found.keys() else {'owner': 'unknown'}
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError):
        return {'owner': 'a process that does not say which'}


def _token(path: epath.Path) -> str | None:
    return (_read(path) or {}).get('token')


def _is_old(path: epath.Path) -> bool:
    try:
        written = look(path).written
    except FileNotFoundError:  # Let go in this moment.
        return False
    return datetime.datetime.now(datetime.UTC) - written > _OLD
