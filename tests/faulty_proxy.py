"""A bad connection, for tests: an HTTP proxy that fails some requests, by a seed."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import http.client
import http.server
import random
import threading
import urllib.parse
from collections.abc import Iterator

from tests.emulator import serving

# Without an answer at all, too late for any, cut short; `shorten` does so in silence.
KINDS = ('503', 'stall', 'truncate', 'reset')


@dataclasses.dataclass
class Faults:
    """What goes wrong, and what was asked.

    Attributes:
      rate: share of the readings that fail; which ones is a function of `seed`, the
        object, the range and how often it was asked for.
      kinds: how they fail, in turn.
      always: by part of an object's name, how every reading of it fails: one of
        `KINDS`, an HTTP status, or `shorten`, whose Content-Length agrees.
      asked: method and name of every request that came, in order.
      failed: how often each kind of failure was answered.
    """

    seed: int = 0
    rate: float = 0.0
    kinds: tuple[str, ...] = KINDS
    always: dict[str, str] = dataclasses.field(default_factory=dict)
    asked: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    failed: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter
    )
    url: str = ''
    over: threading.Event = dataclasses.field(default_factory=threading.Event)

    def choose(self, method: str, name: str, part: str) -> str | None:
        """How a request fails; None for one that does not."""
        self.asked.append((method, name))
        if method != 'GET':
            return None
        for pattern, kind in self.always.items():
            if pattern in name:
                return kind
        times = self.asked.count((method, name))
        dice = random.Random(f'{self.seed} {name} {part} {times}')
        return dice.choice(self.kinds) if dice.random() < self.rate else None

    def chunks_read(self) -> list[str]:
        """Names of the objects that were read and are no metadata."""
        return [
            name
            for method, name in self.asked
            if method == 'GET' and 'alt=media' in name
            if not any(end in name for end in ('zarr.json', '/.z'))
        ]


@contextlib.contextmanager
def between(upstream: str, **faults: object) -> Iterator[Faults]:
    """Runs a proxy in front of `upstream`; its URL is in what is yielded."""
    found = Faults(**faults)  # type: ignore[arg-type]
    there = urllib.parse.urlsplit(upstream)

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            name = urllib.parse.unquote(self.path)
            length = int(self.headers.get('Content-Length') or 0)
            sent = self.rfile.read(length)
            kind = found.choose(self.command, name, self.headers.get('Range', ''))
            if kind is not None:
                found.failed[kind] += 1
            if kind == 'stall':
                found.over.wait()
            if kind in ('stall', 'reset'):
                return  # And the connection is closed.
            if kind is not None and kind.isdecimal():
                self.send_error(int(kind))
                return
            link = http.client.HTTPConnection(there.hostname or '', there.port)
            link.request(self.command, self.path, sent, dict(self.headers))
            reply = link.getresponse()
            body = reply.read()
            link.close()
            length = len(body)
            if kind in ('truncate', 'shorten'):
                body = body[: length // 2]
            self.send_response(reply.status)
            for header, value in reply.getheaders():
                if header.lower() not in ('server', 'date', 'content-length'):
                    self.send_header(header, value)
            announced = len(body) if kind == 'shorten' else length
            self.send_header('Content-Length', str(announced))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = answer

        def log_message(self, *args: object) -> None:
            """Says nothing."""

    with serving(Handler) as found.url:
        try:
            yield found
        finally:
            found.over.set()
