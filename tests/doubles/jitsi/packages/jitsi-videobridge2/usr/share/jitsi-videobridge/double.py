"""Of the videobridge what others can reach over HTTP: its public server, for websockets, and its private one."""

import http.server
import subprocess
import sys
import threading


def setting(path: str, otherwise: str) -> str:
    """A value of jvb.conf; what is not there is as the worst version of the videobridge had it."""
    asked = subprocess.run(["hocon", "-f", sys.argv[1], "get", path], capture_output=True, text=True, check=False)
    return asked.stdout.strip().strip('"') or otherwise


class Rest(http.server.BaseHTTPRequestHandler):
    """Answers everything, so that it shows which questions get here."""

    def do_GET(self) -> None:
        said = f"double of the videobridge: {self.command} {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the names are http.server's

    def log_message(self, *_: object) -> None:
        """Nothing."""


for name, port in (("public", "9090"), ("private", "8080")):
    server = f"videobridge.http-servers.{name}"
    address = setting(f"{server}.host", "0.0.0.0"), int(setting(f"{server}.port", port))
    threading.Thread(target=http.server.ThreadingHTTPServer(address, Rest).serve_forever).start()
