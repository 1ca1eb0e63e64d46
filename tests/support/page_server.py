"""The page behind a small server of the standard library, under the real content security policy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import cast

from reconciler.web.latest_state import LatestState
from reconciler.web.page.render import assets, page_html
from tests.support.example_accounts import NOW, WALL

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass
class Site:
    """What the server shows; ``down``: it does not answer any more. ``asked`` are the requested paths."""

    shared_state: LatestState
    url: str = ""
    down: bool = False
    asked: list[str] = field(default_factory=list)


@contextmanager
def site(shared_state: LatestState) -> Iterator[Site]:
    """Serve the page of ``shared_state`` on a port of the loopback address until the end of the block."""
    shown = Site(shared_state)
    server = _Server(("127.0.0.1", 0), _Handler)
    server.shown = shown
    shown.url = f"http://127.0.0.1:{server.server_port}/"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield shown
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    shown: Site


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        shown = cast(_Server, self.server).shown
        shown.asked.append(self.path)
        if shown.down:
            self.close_connection = True
            return
        asset = assets().get(self.path)
        if asset is not None:
            self._answer(200, asset.body, asset.content_type)
        elif self.path == "/":
            text = page_html(shown.shared_state, now=NOW, wall=WALL)
            self._answer(200, text.encode(), "text/html; charset=utf-8")
        else:
            self._answer(404, b"", "text/plain")

    def _answer(self, status: int, content: bytes, media_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: a test checks the requests itself."""
