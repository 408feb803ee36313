"""Runs on the host under test with the bridge's own code and secrets: makes people and tickets without mail or phones.

One JSON request a line on standard input, one JSON answer a line on standard output. It gives attackers what they could
only dream of (a signature by the real key, a ticket of an hour ago), so that one protection is tested at a time.
"""

import asyncio
import base64
import contextlib
import json
import os
import secrets
import signal
import sys
import time
from datetime import timedelta

import pyotp
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from prometheus_client import CollectorRegistry
from sqlalchemy import text as sql

from sluss import app, logs
from sluss.config import DEFAULT_PATH, load_credentials, load_settings
from sluss.domain.accounts import AccountRole
from sluss.domain.assurance import Method, Purpose
from sluss.domain.errors import InvalidInput
from sluss.services.common import new_id
from sluss.store.proof import Verification


class Insider:
    """The requests, by name."""

    def __init__(self, services, store, moved):
        self._services, self._store, self._moved = services, store, moved
        self._ground, self._keys = services.tickets._g, services.tickets._keys
        self._held = None

    async def organiser(self, name, email, password, role="organiser"):
        """Enrol an organiser, auditor or admin and sign in; the authenticator's current step stays unused."""
        verbs, session = self._services.organisers, secrets.token_urlsafe(32)
        token = (await verbs.add(name, email, AccountRole(role))).rpartition("/")[2]
        secret = (await verbs.enrolment(token)).secret

        def enrol():
            return verbs.enrol(token, password, pyotp.TOTP(secret).at(self._ground.clock() - timedelta(seconds=30)))

        try:
            codes = await enrol()
        except InvalidInput:  # the next step began in between
            codes = await enrol()
        await verbs.password(session, email, password, "192.0.2.1")
        signed_in = await verbs.second_factor(session, codes[0], "192.0.2.1")
        who = await verbs.by_email(email)
        return {"session": signed_in.session, "secret": secret, "id": who.id}

    async def age_proof(self, session, ago):
        """Do as if the last factor of a session had been given so many seconds ago."""
        proved_at = self._ground.clock() - timedelta(seconds=ago)
        await self._store.run(lambda tx: tx.sessions.prove(self._ground.session_hash(session), proved_at))

    async def classify(self, meeting_id, sensitivity):
        """Have a meeting be of a class that nobody here could enter."""
        change = sql("UPDATE meetings SET sensitivity = :to WHERE id = :which")
        values = {"to": sensitivity, "which": meeting_id}
        await self._store.run(lambda tx: tx.meetings._c.execute(change, values) and None)

    async def prove(self, link, session, purposes=("view", "join"), ago=0):
        """Do as if the person had typed the code from the SMS in that browser, `ago` seconds ago."""
        now = self._ground.clock() - timedelta(seconds=ago)

        def work(tx):
            invitation = tx.invitations.by_link(self._ground.link_hash(link))
            subject = self._services.participation._phone(invitation)
            for purpose in purposes:
                verification = Verification(new_id(), invitation.id, Method.SMS, subject, now)
                tx.verifications.add(verification, self._ground.session_hash(session), Purpose(purpose))

        await self._store.run(work)

    async def ticket(self, link, session, ago=0):
        """A ticket, issued `ago` seconds ago."""
        self._moved[0] = timedelta(seconds=ago)
        try:
            ticket = await self._services.tickets.for_participant(link, session)
        finally:
            self._moved[0] = timedelta(0)
        return {"token": ticket.token, "room": ticket.room}

    async def tickets(self, link, count):
        """So many tickets for one person in one browser, each from a verification of its own: the newest brings it."""
        made, session = [], secrets.token_urlsafe(32)
        for n in range(count):
            await self.prove(link, session, ago=count - n)
            made.append(await self.ticket(link, session))
        return made

    async def sign(self, text, padding_scheme="PKCS1v15", digest="SHA256"):
        """A signature by the active ticket key, base64url."""
        chosen = getattr(hashes, digest)()
        pad = padding.PKCS1v15() if padding_scheme == "PKCS1v15" else padding.PSS(padding.MGF1(chosen), 32)
        signature = self._keys._ring.signing.sign(text.encode(), pad, chosen)
        return base64.urlsafe_b64encode(signature).decode().rstrip("=")

    async def stays(self):
        """Everybody's times inside, ever: name, when they came, when they left if they did, and whether it was seen."""

        def work(tx):
            meetings = tx.meetings.on_record()
            found = [(tx.invitations.get(one.invitation_id), one) for m in meetings for one in tx.attendance.of(m.id)]
            return [
                (who.name, one.entered_at.timestamp(), one.left_at and one.left_at.timestamp(), one.exact)
                for who, one in found
            ]

        return await self._store.run(work)

    async def end_quietly(self, meeting_id):
        """End a meeting without telling the gate, as if the order were still on its way."""
        await self._store.run(lambda tx: tx.meetings.end(meeting_id, self._ground.clock()))

    async def hold_database(self):
        """Keep everybody else from the database until `release_database`."""
        self._held = self._store.engine.connect()
        self._held.begin()

    async def release_database(self):
        """The opposite."""
        self._held.close()

    async def kill_in_commit(self, pid, after):
        """Let go of the database, for which the bridge waits with all it was asked, and kill it `after` seconds."""
        self._held.close()
        time.sleep(after)  # noqa: ASYNC251 - to the millisecond
        os.kill(pid, signal.SIGKILL)


async def main():
    settings = load_settings(DEFAULT_PATH)
    logs.configure("critical", settings.log.format, CollectorRegistry())
    moved = [timedelta(0)]
    credentials = load_credentials(settings)
    loop = asyncio.get_running_loop()
    async with app.services_of(settings, credentials, lambda: app.utc_now() - moved[0]) as (services, store):
        insider = Insider(services, store, moved)
        print('"ready"', flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            name, arguments = json.loads(line)
            try:
                answer = {"done": await getattr(insider, name)(**arguments)}
            except Exception as error:
                answer = {"failed": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())
