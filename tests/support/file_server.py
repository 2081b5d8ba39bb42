"""A small HTTP server of files that can misbehave the way real ones do."""

import contextlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves ``files`` (path without slash to bytes) while the ``with`` block runs.

    Attributes:
        ranges: whether it knows the Range header.
        cuts: how many bytes of the body each of the next answers gets before its connection is cut.
        answers: status of each of the next answers, before files are looked at.
        asked: path and Range header of every request so far.
    """

    def __init__(self, **files):
        self.files = {name.replace("__", "."): content for name, content in files.items()}
        self.ranges, self.cuts, self.answers, self.asked = True, [], [], []

    def __enter__(self):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def url(self, name):
        """Address of a file."""
        return f"http://127.0.0.1:{self._server.server_port}/{name}"

    def _handler(owner):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                owner.asked.append((self.path[1:], self.headers.get("Range")))
                content = owner.files.get(self.path[1:])
                status = owner.answers.pop(0) if owner.answers else 200 if content is not None else 404
                if status != 200:
                    self.send_error(status)
                    return
                start = int(re.match(r"bytes=(\d+)-", self.headers.get("Range") or "bytes=0-")[1])
                self._send(content, start if owner.ranges else 0)

            def _send(self, content, start):
                if start and start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                body = content[start:]
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(body[: owner.cuts.pop(0)] if owner.cuts else body)

            def log_message(self, *_):
                pass

        return Handler
