"""Of jicofo what others can reach: its REST interface, and a focus at Prosody that enters a room when asked to."""

import base64
import hashlib
import hmac
import http.server
import secrets
import socket
import subprocess
import sys
import threading
import time
from xml.etree.ElementTree import XMLPullParser
from xml.sax.saxutils import quoteattr

FOCUS = "http://jitsi.org/protocol/focus"
CLIENT = "{jabber:client}"
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"


def setting(path: str, otherwise: str = "") -> str:
    """A value of jicofo.conf; what is not there is as the worst version of jicofo had it."""
    asked = subprocess.run(["hocon", "-f", sys.argv[1], "get", path], capture_output=True, text=True, check=False)
    return asked.stdout.strip().strip('"') or otherwise


class Rest(http.server.BaseHTTPRequestHandler):
    """Answers everything, so that it shows which questions get here."""

    def do_GET(self) -> None:
        said = f"double of jicofo: {self.command} {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the names are http.server's

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Focus:
    """One connection as focus@auth.<domain>."""

    def __init__(self, host: str, port: int, domain: str) -> None:
        self._socket = socket.create_connection((host, port))
        self._domain = domain
        self._rooms: dict[str, set[str]] = {}  # who else is in each
        self._asked: dict[str, list[tuple[str, str]]] = {}  # by whom, until we are in
        self._open()

    def _open(self) -> None:
        self._parser, self._depth = XMLPullParser(["start", "end"]), 0
        self._send(
            "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'"
            f" to={quoteattr(self._domain)}>"
        )

    def _send(self, xml: str) -> None:
        self._socket.sendall(xml.encode())

    def _stanzas(self):
        while data := self._socket.recv(65536):
            self._parser.feed(data)
            for event, element in self._parser.read_events():
                self._depth += 1 if event == "start" else -1
                if event == "end" and self._depth == 1:
                    yield element
        raise ConnectionError("closed")

    def _next(self, tag: str):
        for element in self._stanzas():
            if element.tag == f"{{{SASL}}}failure":
                raise ConnectionError("not let in")
            if element.tag.endswith(f"}}{tag}"):
                return element
        raise AssertionError("unreachable")

    def log_in(self, user: str, password: str, resource: str = "focus") -> None:
        """SCRAM-SHA-1 (RFC 5802) and binding."""
        self._next("features")
        first = f"n={user},r={secrets.token_hex(12)}"
        self._send(f"<auth xmlns='{SASL}' mechanism='SCRAM-SHA-1'>{encoded('n,,' + first)}</auth>")
        challenge = base64.b64decode(self._next("challenge").text).decode()
        given = dict(part.split("=", 1) for part in challenge.split(","))
        last = f"c=biws,r={given['r']}"
        salted = hashlib.pbkdf2_hmac("sha1", password.encode(), base64.b64decode(given["s"]), int(given["i"]))
        key = hmac.digest(salted, b"Client Key", "sha1")
        stored = hashlib.new("sha1", key).digest()  # noqa: S324 - SCRAM-SHA-1
        signature = hmac.digest(stored, f"{first},{challenge},{last}".encode(), "sha1")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True))).decode()
        self._send(f"<response xmlns='{SASL}'>{encoded(f'{last},p={proof}')}</response>")
        self._next("success")
        self._open()
        self._next("features")
        bind = f"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource></bind>"
        self._send(f"<iq type='set' id='bind'>{bind}</iq><presence/>")
        self._next("iq")
        print("double of jicofo is connected", flush=True)

    def serve(self) -> None:
        """Answer who asks for a conference, until the connection ends."""
        for stanza in self._stanzas():
            conference = stanza.find(f"{{{FOCUS}}}conference")
            if stanza.tag == f"{CLIENT}iq" and stanza.get("type") in {"get", "set"}:
                asked = stanza.get("from"), stanza.get("id")
                if conference is None:
                    self._refuse(asked)
                elif conference.get("room") in self._rooms:
                    self._ready(conference.get("room"), asked)
                else:
                    self._enter(conference.get("room"), asked)
            elif stanza.tag == f"{CLIENT}presence":
                self._seen(stanza)

    def _enter(self, room: str, asked: tuple[str, str]) -> None:
        self._asked.setdefault(room, []).append(asked)
        to = quoteattr(f"{room}/focus")
        self._send(f"<presence to={to}><x xmlns='http://jabber.org/protocol/muc'/></presence>")

    def _seen(self, presence) -> None:
        room, _, nick = presence.get("from").partition("/")
        kind = presence.get("type")
        if nick == "focus":
            asked = self._asked.pop(room, [])
            if kind is None:
                self._rooms.setdefault(room, set())
            else:
                self._rooms.pop(room, None)
            for one in asked:
                self._ready(room, one) if kind is None else self._refuse(one)
        elif room in self._rooms and kind is None:
            self._rooms[room].add(nick)
        elif room in self._rooms:
            self._rooms[room].discard(nick)
            if not self._rooms[room]:  # nobody is left
                self._send(f"<presence type='unavailable' to={quoteattr(f'{room}/focus')}/>")

    def _ready(self, room: str, asked: tuple[str, str]) -> None:
        inner = f"<conference xmlns='{FOCUS}' ready='true' room={quoteattr(room)} focusjid='focus@{self._domain}'/>"
        self._send(f"<iq type='result' to={quoteattr(asked[0])} id={quoteattr(asked[1])}>{inner}</iq>")

    def _refuse(self, asked: tuple[str, str]) -> None:
        no = "<error type='cancel'><not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
        self._send(f"<iq type='error' to={quoteattr(asked[0])} id={quoteattr(asked[1])}>{no}</iq>")


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def main() -> None:
    address = setting("jicofo.rest.host", "0.0.0.0"), int(setting("jicofo.rest.port", "8888"))
    rest = http.server.ThreadingHTTPServer(address, Rest)
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    client = "jicofo.xmpp.client"
    place = setting(f"{client}.hostname", "localhost"), int(setting(f"{client}.port", "5222"))
    domain, user, password = (setting(f"{client}.{name}") for name in ("domain", "username", "password"))
    while True:
        try:
            focus = Focus(*place, domain)
            focus.log_in(user, password)
            focus.serve()
        except OSError:
            time.sleep(0.5)


main()
