"""Mail through a real SMTP server: neutral, whole, over TLS that is checked, given up only when refused for good."""

# ruff: noqa: ARG002 (aiosmtpd calls its handler so)

import asyncio
import email
import re
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import policy

import pytest
from aiosmtpd.smtp import SMTP, AuthResult
from tests.unit.certificates import Authority
from tests.unit.world import ANNA, MOBILE, PORTAL

from sluss.delivery import texts
from sluss.delivery.mail import RefusedForGood, SmtpMail
from sluss.domain.errors import DeliveryFailed
from sluss.domain.meetings import Delivery

BERTIL = ("Bertil Berg", "bertil@example.org", "070-174 06 06")
SENDER = "Sluss <no-reply@sluss.test>"


@dataclass
class Relay:
    """The organisation's relay: takes what it is told to take."""

    answer: str = "250 OK"
    content_answer: str = "250 OK"
    received: list = field(default_factory=list)
    logins: list = field(default_factory=list)
    port: int = 0

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        if self.answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.answer

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        self.received.append((envelope, session.ssl is not None))
        return self.content_answer

    def authenticate(self, server, session, envelope, mechanism, data):
        self.logins.append((data.login, data.password, session.ssl is not None))
        return AuthResult(success=data.password == b"right", handled=False)


def message(relay: Relay):
    return email.message_from_bytes(relay.received[0][0].content, policy=policy.default)


@asynccontextmanager
async def listening(relay: Relay, context=None, *, at_once=False, **options):
    def session():
        starttls = None if at_once else context
        return SMTP(relay, hostname="relay.test", tls_context=starttls, authenticator=relay.authenticate, **options)

    server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", 0, ssl=context if at_once else None)
    relay.port = server.sockets[0].getsockname()[1]
    async with server:
        yield relay


@pytest.fixture
async def relay():
    async with listening(Relay()) as found:
        yield found


@pytest.fixture
def authority(tmp_path, monkeypatch):
    found = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(found.file))
    return found


def context(certificate) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*certificate)
    return made


def smtp(relay, security="none", host="localhost", **login) -> SmtpMail:
    return SmtpMail(host, relay.port, security=security, sender=SENDER, **login)


async def send(relay, *args, **kwargs):
    await smtp(relay, *args, **kwargs).send("anna@example.org", "Personlig länk", "Öppna:\n\nhttps://x/i/abc\n")


async def test_mail_arrives_with_its_headers_and_whole_lines(relay):
    await send(relay)
    envelope, _ = relay.received[0]
    assert (envelope.mail_from, envelope.rcpt_tos) == ("no-reply@sluss.test", ["anna@example.org"])
    assert message(relay)["From"] == SENDER
    assert message(relay)["Subject"] == "Personlig länk"
    assert message(relay)["Auto-Submitted"] == "auto-generated"
    assert message(relay)["Message-ID"].endswith("@sluss.test>")
    assert message(relay).get_content().splitlines() == ["Öppna:", "", "https://x/i/abc"]


@pytest.mark.parametrize("locale", ["sv", "en"])
async def test_invitation_holds_the_link_and_says_nothing_of_the_meeting(world, relay, locale, monkeypatch):
    world.worker._mail = smtp(relay)
    object.__setattr__(world.ground.site, "locale", locale)
    organiser, _ = await world.signed_in()
    meeting = await world.meeting(organiser, ANNA, BERTIL)
    assert len(relay.received) == 2
    to_anna = next(envelope for envelope, _ in relay.received if envelope.rcpt_tos == [ANNA[1]])
    mail = email.message_from_bytes(to_anna.content, policy=policy.default)
    assert set(mail.keys()) == {
        *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"),
        *("MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
    }
    assert set(mail["Subject"].split(" / ")) == {"Personlig länk", "Personal link"}
    lines = mail.get_content().splitlines()
    (link,) = [line for line in lines if "http" in line]
    assert re.fullmatch(rf"https://{PORTAL}/i/[\w-]{{43}}", link)
    assert {line for line in lines if line and line != link} == {
        *texts._INVITATION.values(),
        *texts._LINK_ONLY.values(),
    }
    raw = to_anna.content.decode()
    for secret in (ANNA[0], "Anna L", *BERTIL, MOBILE, organiser.name, organiser.email, "Budget", "Öppning", "Siffror"):
        assert secret not in raw, secret
    for secret in (meeting.id, meeting.room, f"{meeting.local_start:%Y-%m-%d}", "internal", "Demo"):
        assert secret not in raw, secret


async def test_links_of_two_people_differ(world, relay):
    world.worker._mail = smtp(relay)
    organiser, _ = await world.signed_in()
    await world.meeting(organiser, ANNA, BERTIL)
    links = {re.search(rb"/i/(\S+)", envelope.content)[1] for envelope, _ in relay.received}
    assert len(links) == 2


# TLS


async def test_starttls_protects_mail_and_password(authority):
    async with listening(Relay(), context(authority.issue("localhost"))) as relay:
        await send(relay, "starttls", username="sluss", password="right")
        assert relay.received[0][1] is True
        assert relay.logins == [(b"sluss", b"right", True)]


async def test_tls_from_the_start(authority):
    async with listening(Relay(), context(authority.issue("localhost")), at_once=True) as relay:
        await send(relay, "tls")
        assert len(relay.received) == 1


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_certificate_of_another_name_or_of_nobody_known_is_refused(authority, security, tmp_path):
    (tmp_path / "other").mkdir()
    for certificate in (authority.issue("another.test"), Authority(tmp_path / "other").issue("localhost")):
        async with listening(Relay(), context(certificate), at_once=security == "tls") as relay:
            with pytest.raises(DeliveryFailed) as failed:
                await send(relay, security, username="sluss", password="right")
            assert not isinstance(failed.value, RefusedForGood)
            assert (relay.received, relay.logins) == ([], [])


async def test_mail_waits_while_the_relays_certificate_has_expired_and_goes_out_when_it_is_renewed(world, authority):
    organiser, _ = await world.signed_in()
    expired, renewed = Relay(), Relay()
    async with listening(expired, context(authority.issue("localhost", hours=-1))):
        world.worker._mail = smtp(expired, "starttls")
        meeting = await world.meeting(organiser)
    (anna,) = (await world.services.meetings.view(organiser, meeting.id)).participants
    assert (anna.delivery, expired.received) == (Delivery.WAITING, [])
    assert "certificate has expired" in anna.delivery_error
    world.clock.forward(seconds=5)
    async with listening(renewed, context(authority.issue("localhost"))):
        world.worker._mail = smtp(renewed, "starttls")
        await world.worker.deliver_due()
    assert len(renewed.received) == 1
    (anna,) = (await world.services.meetings.view(organiser, meeting.id)).participants
    assert anna.delivery is Delivery.SENT


async def test_relay_without_starttls_gets_neither_mail_nor_password(relay):
    for login in ({}, {"username": "sluss", "password": "right"}):
        with pytest.raises(DeliveryFailed):
            await send(relay, "starttls", **login)
    assert (relay.received, relay.logins) == ([], [])


# Refusals


async def failure(relay, *args, **kwargs) -> DeliveryFailed:
    with pytest.raises(DeliveryFailed) as failed:
        await send(relay, *args, **kwargs)
    for secret in ("anna", "abc", "right", "wrong", "Personlig"):
        assert secret not in str(failed.value)
    return failed.value


async def test_recipient_refused_for_good_is_not_tried_again(relay):
    relay.answer = "550 no such anna@example.org"
    assert isinstance(await failure(relay), RefusedForGood)


@pytest.mark.parametrize("answer", ["451 anna later", "450 greylisted", "421 busy"])
async def test_recipient_refused_for_now_is_tried_again(relay, answer):
    relay.answer = answer
    assert not isinstance(await failure(relay), RefusedForGood)


@pytest.mark.parametrize(("answer", "for_good"), [("451 anna later", False), ("554 no abc please", True)])
async def test_content_refused_says_the_code_alone(relay, answer, for_good):
    relay.content_answer = answer
    refused = await failure(relay)
    assert answer[:3] in str(refused)
    assert "anna" not in str(refused)
    assert isinstance(refused, RefusedForGood) is for_good


async def test_wrong_password_is_tried_again(authority):
    async with listening(Relay(), context(authority.issue("localhost")), auth_required=True) as relay:
        refused = await failure(relay, "starttls", username="sluss", password="wrong")
        assert not isinstance(refused, RefusedForGood)
        assert relay.received == []


async def test_nobody_listening_is_tried_again(relay):
    async with listening(Relay()) as gone:
        pass
    assert not isinstance(await failure(gone), RefusedForGood)


async def test_address_that_the_relay_cannot_carry_does_not_break_the_worker(relay):
    for address in ("å@example.org", "a..b@example.org", ".a@example.org", "a@example.org"):
        try:
            await smtp(relay).send(address, "Personlig länk", "x\n")
        except DeliveryFailed as failed:
            assert address not in str(failed)  # noqa: PT017
    assert relay.received


async def test_organiser_sees_what_the_relay_answered_and_the_worker_goes_on(world, relay):
    world.worker._mail = smtp(relay)
    relay.answer = "451 later"
    organiser, _ = await world.signed_in()
    meeting = await world.meeting(organiser)

    async def delivery():
        (anna,) = (await world.services.meetings.view(organiser, meeting.id)).participants
        return anna.delivery

    assert await delivery() is Delivery.WAITING
    relay.answer = "550 no"
    world.clock.forward(seconds=5)
    await world.worker.deliver_due()
    assert await delivery() is Delivery.FAILED


async def test_worker_sends_as_soon_as_it_is_woken_and_stops_when_told(world, relay):
    world.worker._mail = smtp(relay)
    organiser, _ = await world.signed_in()
    meeting = await world.meeting(organiser)
    (anna,) = (await world.services.meetings.view(organiser, meeting.id)).participants
    arrived, take = asyncio.Event(), relay.handle_DATA

    async def tell(*args):
        arrived.set()
        return await take(*args)

    relay.handle_DATA = tell
    world.worker.start()
    await world.services.meetings.resend(organiser, anna.invitation.id)
    async with asyncio.timeout(10):  # far less than its usual round
        await arrived.wait()
    await world.worker.stop()
    assert world.worker._task.done()
