# ruff: noqa: INP001 - a program on its own, not part of a package
"""The mailbox and the telephone of everybody in the demo: a mail server and an SMS gateway that fill a page.

SMTP on 127.0.0.1:2525. HTTP on 127.0.0.1:8025: POST /sms, GET /, GET /messages.json. Nothing is logged.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import html
import json
import os
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, Session

KEPT = 500
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="5">
<title>Outbox of the Sluss demo</title>
<link rel="stylesheet" href="/style.css">
<h1>Outbox of the demo</h1>
<p class="note">Everything that Sluss sent, to anybody, newest first. Renewed every five seconds.</p>
{messages}
</html>
"""
MESSAGE = """<article class="{kind}">
<header><b>{kind}</b> to <b>{to}</b> <time>{at}</time></header>
<h2>{subject}</h2>
<pre>{body}</pre>
</article>
"""
STYLE = """
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem;
  background: #f4f6f8; color: #1c2733; }
h1 { font-size: 1.5rem; margin: 0; }
.note, time { color: #5a6b7b; }
article { background: #fff; border: 1px solid #d5dde5; border-left: .4rem solid #2b6cb0; border-radius: .4rem;
  margin: 1rem 0; padding: .8rem 1rem; }
article.sms { border-left-color: #2f855a; }
header b:first-child { text-transform: uppercase; font-size: .8rem; letter-spacing: .05em; }
time { float: right; }
h2 { font-size: 1.1rem; margin: .4rem 0; }
h2:empty { display: none; }
pre { font: inherit; white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; }
@media (prefers-color-scheme: dark) { body { background: #10171e; color: #dde6ee; }
  article { background: #19232d; border-color: #2c3a47; } a { color: #7fb4ea; } }
"""


@dataclass
class Message:
    """What one person received."""

    kind: str  # "mail" or "sms"
    to: str
    subject: str
    body: str
    at: float  # seconds since 1970


class Outbox:
    """The messages, oldest first, kept in a file so that a reboot loses none."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.messages = [Message(**message) for message in json.loads(file.read_text())] if file.exists() else []

    def add(self, message: Message) -> None:
        """Keep a message, and forget the oldest when there are too many."""
        self.messages = [*self.messages, message][-KEPT:]
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps([asdict(message) for message in self.messages]))
        new.rename(self._file)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take a mail, as aiosmtpd asks its handlers to."""
        mail = email.message_from_bytes(envelope.original_content or b"", policy=email.policy.default)
        part = mail.get_body(("plain",))
        body = part.get_content() if part else ""
        for to in envelope.rcpt_tos:
            self.add(Message("mail", to, str(mail["subject"] or ""), body, time.time()))
        return "250 OK"

    async def take_sms(self, request: web.Request) -> web.Response:
        """Take an SMS: JSON with `to` and `text`."""
        sms = await request.json()
        self.add(Message("sms", str(sms["to"]), "", str(sms["text"]), time.time()))
        return web.json_response({"accepted": True}, status=202)

    async def list_as_json(self, _request: web.Request) -> web.Response:
        """Answer with every message, newest first."""
        return web.json_response([asdict(message) for message in reversed(self.messages)])

    async def show(self, _request: web.Request) -> web.Response:
        """Answer with the page."""
        shown = "".join(render(message) for message in reversed(self.messages))
        page = PAGE.format(messages=shown or '<p class="note">Nothing yet.</p>')
        policy = "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'"
        return web.Response(text=page, content_type="text/html", headers={"Content-Security-Policy": policy})


async def style(_request: web.Request) -> web.Response:
    """Answer with the page's style, which the policy allows from a file only."""
    return web.Response(text=STYLE, content_type="text/css")


def render(message: Message) -> str:
    """Return a message as HTML, with its links to press."""
    fields = {name: html.escape(str(value)) for name, value in asdict(message).items()}
    fields["at"] = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(message.at))
    fields["body"] = re.sub(
        r"https://[^\s<&]+", r'<a href="\g<0>" target="_blank" rel="noreferrer">\g<0></a>', fields["body"]
    )
    return MESSAGE.format(**fields)


async def main() -> None:
    """Serve until stopped."""
    outbox = Outbox(Path(os.environ["STATE_DIRECTORY"], "messages.json"))
    await asyncio.get_running_loop().create_server(lambda: SMTP(outbox), "127.0.0.1", 2525)
    app = web.Application()
    app.add_routes([
        web.get("/", outbox.show),
        web.get("/style.css", style),
        web.get("/messages.json", outbox.list_as_json),
        web.post("/sms", outbox.take_sms),
    ])  # fmt: skip
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 8025).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
