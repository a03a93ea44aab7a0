"""Reading at an address as if it never failed: again when that helps, at once when not.

Every request of a store at an address goes through `PatientStore`. What fails is of
three kinds:

- Not found: the object is a hole; said at once.
- Not allowed: asked again the answer would be the same; said at once, with how it was
  asked.
- Passing: the server is busy or broken (HTTP 408, 429, 5xx), the connection was reset,
  nothing came for a while, or less came than was announced. Asked again after a pause
  of random length, so that a hundred machines do not return together, on average twice
  as long each time; the number of attempts and the time in all are bounded.

gcsfs retries by itself, six times with pauses of up to half a minute; within this store
it would multiply, so it is told to ask once. Whole bodies are compared with the CRC-32C
that Google's servers send along.
"""

from __future__ import annotations

import asyncio
import base64
import collections
import errno
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, NamedTuple, Self, TypeVar

import google_crc32c
import tenacity
from zarr.abc.buffer import Buffer
from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import BufferPrototype
from zarr.storage import FsspecStore, WrapperStore

_T = TypeVar('_T')


class Patience(NamedTuple):
    """How long is worth waiting.

    Attributes:
      attempts: requests for one object, the first included.
      first_wait_s, longest_wait_s: bound of the pause after the first failure, which
        doubles with each, and the largest bound.
      stall_s: an attempt that takes longer is given up; the next may take twice as
        long, so that a large chunk comes through a slow line in the end.
      total_s: for one object, all attempts and pauses.
    """

    attempts: int = 8
    first_wait_s: float = 0.5
    longest_wait_s: float = 20.0
    stall_s: float = 30.0
    total_s: float = 240.0


PATIENCE = Patience()
# Of this process: what came, for who wants to know what a reading costs.
TRAFFIC: collections.Counter[str] = collections.Counter()


class GaveUpError(OSError):
    """An object did not come in spite of all attempts."""


class ForbiddenError(PermissionError):
    """An object may not be read with these credentials, or without any."""


class TruncatedError(OSError):
    """Less, or something else, came than was announced."""


# By name, whatever library they are of: none must be installed for it, nor imported.
_PASSING = {
    'ClientConnectionError', 'ClientPayloadError',  # aiohttp
    'RequestException', 'TransportError',  # requests, google.auth
    'ChecksumError',  # gcsfs
    'HTTPClientError', 'IncompleteReadError',  # botocore
    'ServiceRequestError', 'ServiceResponseError',  # azure.core
}  # fmt: skip
_FORBIDDEN = {
    'PermissionError', 'GoogleAuthError', 'NonRetryableError', 'NoCredentialsError',
}  # fmt: skip
_LONGEST_MESSAGE = 300
_BUSY = {408, 425, 429, 500, 502, 503, 504}
# As which s3fs passes on the answers of a busy server, and systems those of a network.
_PASSING_NUMBERS = {
    errno.EIO, errno.EBUSY, errno.EPIPE, errno.ETIMEDOUT, errno.ECONNRESET,
    errno.ECONNREFUSED, errno.ECONNABORTED, errno.EHOSTUNREACH, errno.ENETUNREACH,
}  # fmt: skip


def is_passing(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(error, TimeoutError | ConnectionError | TruncatedError):
        return True
    status = _status(error)
    if status is not None:
        return status in _BUSY
    number = getattr(error, 'errno', None)
    return bool(_names(error) & _PASSING) or number in _PASSING_NUMBERS


def is_forbidden(error: BaseException) -> bool:
    """Whether the server refuses to give the object to whoever asked."""
    return (
        _status(error) in (401, 403)
        or bool(_names(error) & _FORBIDDEN)
        or str(error).startswith('Forbidden')  # gcsfs
        or _wants_payer(error)
    )


def refuses_connections(error: BaseException | None) -> bool:
    """Whether there was nobody to ask: another try would wait as long once more."""
    while error is not None:
        if isinstance(error, ConnectionError) or 'Cannot connect' in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _status(error: BaseException) -> int | None:
    """HTTP status of an error of aiohttp, gcsfs or azure."""
    for name in ('status', 'code', 'status_code'):
        found = str(getattr(error, name, ''))
        if found.isdecimal() and 400 <= int(found) < 600:
            return int(found)
    return None


def _wants_payer(error: BaseException) -> bool:
    return 'requester pays' in str(error).lower()


class PatientStore(WrapperStore[Store]):
    """A store for reading that asks again where that helps.

    Attributes:
      address: of the store, for messages.
      access: how it is asked: `'anonymously'`, `'with credentials'`.
    """

    def __init__(self, store: Store, address: str, access: str):
        super().__init__(store)
        self.address = address.rstrip('/')
        self.access = access
        self._answered = False
        self._gave_up: dict[str, tuple[float, GaveUpError]] = {}

    def _with_store(self, store: Store) -> Self:
        return type(self)(store, self.address, self.access)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Returns the bytes of an object or of a part of it; None if there is none.

        Raises:
          GaveUpError: it did not come; names the object.
          ForbiddenError: it may not be read; names the object.
        """

        async def ask() -> Buffer | None:
            value = await self._store.get(key, prototype, byte_range)
            _check_length(value, byte_range)
            TRAFFIC['bytes'] += 0 if value is None else len(value)
            return value

        return await self.patiently(key, ask)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """See `get`."""
        each = (self.get(key, prototype, part) for key, part in key_ranges)
        return list(await asyncio.gather(*each))

    async def _get_many(
        self, requests: Iterable[tuple[str, BufferPrototype, ByteRequest | None]]
    ) -> AsyncGenerator[tuple[str, Buffer | None], None]:
        async for found in Store._get_many(self, requests):
            yield found

    async def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        return await self.patiently(key, lambda: self._store.exists(key))

    async def getsize(self, key: str) -> int:
        """Returns the size of an object in bytes."""
        return await self.patiently(key, lambda: self._store.getsize(key))

    async def info(self, key: str) -> dict[str, Any]:
        """Returns what a file system says of an object; nothing if there is none."""
        if not isinstance(self._store, FsspecStore):
            return {}
        fs, path = self._store.fs, f'{self._store.path}/{key}'

        async def ask() -> dict[str, Any]:
            try:
                return dict(await fs._info(path))
            except FileNotFoundError:
                return {}

        return await self.patiently(key, ask)

    async def list(self) -> AsyncIterator[str]:  # type: ignore[override]
        """Yields all keys."""
        for key in await self.patiently('', lambda: _collect(self._store.list())):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:  # type: ignore[override]
        """Yields the keys that begin with `prefix`."""
        for key in await self.patiently(
            prefix, lambda: _collect(self._store.list_prefix(prefix))
        ):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:  # type: ignore[override]
        """Yields what is right below `prefix`."""
        for key in await self.patiently(
            prefix, lambda: _collect(self._store.list_dir(prefix))
        ):
            yield key

    async def patiently(self, key: str, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Awaits `ask()` until it answers, or for as long as `PATIENCE` lasts."""
        patience = PATIENCE
        when, known = self._gave_up.get(key, (0.0, None))
        # Whoever looks for the first bad time in a box asks for the same objects.
        if known is not None and time.monotonic() - when < patience.total_s:
            raise known
        attempts = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(self._helps_to_ask_again),
            wait=tenacity.wait_random_exponential(
                patience.first_wait_s, patience.longest_wait_s
            ),
            stop=tenacity.stop_after_attempt(patience.attempts)
            | tenacity.stop_before_delay(patience.total_s),
        )
        try:
            async for attempt in attempts:
                with attempt:
                    async with asyncio.timeout(_limit(patience, attempt.retry_state)):
                        value = await ask()
        except tenacity.RetryError as failed:
            self._give_up(key, failed.last_attempt, attempts.statistics)
        except Exception as error:
            self._answered |= not refuses_connections(error)
            if is_forbidden(error):
                raise ForbiddenError(self._forbidden(key, error)) from error
            raise
        self._answered = True
        return value

    def _helps_to_ask_again(self, error: BaseException) -> bool:
        # A server that never answered is not one that restarts.
        nobody = refuses_connections(error) and not self._answered
        return is_passing(error) and not nobody

    def _give_up(self, key: str, last: tenacity.Future, spent: dict[str, Any]) -> None:
        cause = last.exception()
        seconds = time.monotonic() - spent['start_time']
        error = GaveUpError(
            f'{self.address}/{key} did not come in {spent["attempt_number"]} attempts '
            f'within {seconds:.1f} s, asked {self.access}; the last: {_say(cause)}'
        )
        self._gave_up[key] = (time.monotonic(), error)
        raise error from cause

    def _forbidden(self, key: str, error: BaseException) -> str:
        said = f'{self.address}/{key} may not be read {self.access} ({_say(error)})'
        if _wants_payer(error):
            return (
                f'{said}: who reads pays; name the project that does with '
                "storage_options={'requester_pays': 'PROJECT'}"
            )
        if self.access == 'anonymously':
            return (
                f'{said}: log in (gs://: `gcloud auth application-default login`) or '
                "give credentials by storage_options={'token': 'FILE.json'}; where "
                'objects may not be listed, one that is missing is refused as well'
            )
        return (
            f'{said}: the credentials have expired or lack the right to read; log in '
            'again (gs://: `gcloud auth application-default login`), ask for the '
            "right, or read a public store with storage_options={'token': 'anon'}"
        )


def _limit(patience: Patience, state: tenacity.RetryCallState) -> float:
    """Seconds that an attempt may take."""
    left = patience.total_s - (time.monotonic() - state.start_time)
    return max(min(patience.stall_s * 2 ** (state.attempt_number - 1), left), 0.0)


async def _collect(keys: AsyncIterator[str]) -> list[str]:
    return [key async for key in keys]


def _say(error: BaseException | None) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return 'no complete answer in time (a stall)'
    status = None if error is None else _status(error)
    said = '' if status is None else f'HTTP {status}, '
    # A page made for browsers is no message.
    text = ' '.join(re.sub('<[^>]*>', ' ', str(error)).split())
    return f'{said}{type(error).__name__}: {text[:_LONGEST_MESSAGE]}'.strip(': ')


def _check_length(value: Buffer | None, asked: ByteRequest | None) -> None:
    """Raises `TruncatedError` where a part of an object is shorter than asked for."""
    if value is None or asked is None:
        return
    if isinstance(asked, RangeByteRequest):
        expected = asked.end - asked.start
    elif isinstance(asked, SuffixByteRequest):
        expected = asked.suffix
    else:
        return
    if len(value) != expected:
        raise TruncatedError(f'expected {expected} bytes, found {len(value)}')


def ask_once(fs: Any) -> Any:
    """Makes gcsfs ask once and compare what comes; others are returned as they are."""
    once = getattr(getattr(type(fs), '_request', None), '__wrapped__', None)
    if 'gs' not in fs.protocol or once is None:
        return fs

    async def request(*args: Any, **kwargs: Any) -> Any:
        answer = await once(fs, *args, **kwargs)
        _check_answer(*answer)
        return answer

    fs._request = request
    return fs


def _check_answer(status: int, headers: Any, _: Any, body: bytes) -> None:
    """Compares a whole body with its announced CRC-32C (`x-goog-hash`)."""
    hashes = headers.get('x-goog-hash', '')
    # Of the stored bytes: not what is left after decompression on the way.
    if status != 200 or 'gzip' in headers.get('Content-Encoding', ''):
        return
    for entry in hashes.split(','):
        kind, _, expected = entry.strip().partition('=')
        if kind == 'crc32c':
            found = base64.b64encode(google_crc32c.Checksum(body).digest()).decode()
            if found != expected:
                raise TruncatedError(
                    f'expected CRC-32C {expected}, found {found} of {len(body)} bytes'
                )
