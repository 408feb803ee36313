"""The log tells what happened, and no link, code, token, number, address, name or password (invariant 11)."""

import json
import logging
import re

import pytest
import structlog
from prometheus_client import CollectorRegistry, generate_latest
from tests.unit.world import ANNA, BROWSER, DOWN, MOBILE, OTHER_BROWSER, PASSWORD

from sluss import logs
from sluss.domain.assurance import Purpose
from sluss.domain.errors import NotVerified, SlussError, TooManyTries
from sluss.domain.meetings import Answer
from sluss.services.common import new_link

ADDRESS = "192.0.2.7"


def configured(level, form) -> CollectorRegistry:
    """The log as the bridge configures it, and what counts its events."""
    registry = CollectorRegistry()
    logs.configure(level, form, registry)
    return registry


async def everything(world) -> set[str]:
    """The whole way, with every mistake on it. Returns what must not be in the log."""
    s = world.services
    enrolment = (await s.organisers.add("Olle Ohlsson", "olle@example.org")).rpartition("/")[2]
    secret = (await s.organisers.enrolment(enrolment)).secret
    organiser, session = await world.signed_in()
    for _ in range(7):
        with pytest.raises((NotVerified, TooManyTries)):
            await s.organisers.password("half", organiser.email, "wrong password", ADDRESS)
    world.clock.forward(hours=1)
    await s.organisers.password("half", organiser.email, PASSWORD, ADDRESS)
    totp = world.totp.at(world.clock.now)
    signed_in = (await s.organisers.second_factor("half", totp, ADDRESS)).session
    world.mail.down = world.sms.down = DOWN
    meeting = await world.meeting(organiser)
    world.mail.down = world.sms.down = None
    world.clock.forward(minutes=1)
    await world.worker.deliver_due()
    link, wrong = world.link(), new_link()
    for tried in (link, wrong):
        await s.participation.send_code(tried, OTHER_BROWSER, Purpose.VIEW, "sv", ADDRESS)
        with pytest.raises(NotVerified):
            await s.participation.verify(tried, OTHER_BROWSER, Purpose.VIEW, "918273", ADDRESS)
        with pytest.raises(SlussError):
            await s.tickets.for_participant(tried, OTHER_BROWSER)
        with pytest.raises(TooManyTries):
            await s.participation.send_code(tried, BROWSER, Purpose.VIEW, "sv", ADDRESS)
    username = await world.inside(link)
    await s.participation.answer(link, BROWSER, Answer.ACCEPTED)
    ticket = await s.tickets.for_participant(link, BROWSER)
    await world.authenticate(ticket.token[:-3] + "abc", ticket.room, "x")
    await world.authenticate(ticket.token, "other room", "x")
    await s.admission.roll_called("e1", 9, [])
    world.door.connected = False
    await s.admission.entered(world.event(meeting.room, "p-stranger", "xmpp-9"))
    world.mail.down = ValueError(f"{ANNA[1]} {link}")
    await s.participation.not_me(link, ADDRESS)
    await world.worker.deliver_due()
    world.clock.forward(hours=3)
    await world.housekeeping.tick()
    await s.organisers.sign_out(signed_in)
    assert username
    texts = {text for _, text in (*world.mail.sent, *world.sms.sent)}
    codes = {text[:6] for _, text in world.sms.sent}
    return {
        *(enrolment, secret, session, signed_in, link, wrong, ticket.token, *ticket.token.split(".")[1:], totp),
        *(ANNA[0], "Lindberg", *ANNA[1:], MOBILE, MOBILE[1:], organiser.name, organiser.email, "Ohlsson"),
        *(PASSWORD, "wrong password", "918273", "Budget", "Öppning", ADDRESS, "olle@example.org"),
        *texts,
        *codes,
    }


@pytest.mark.parametrize("form", ["json", "text"])
async def test_whole_way_at_debug_shows_no_secret_and_nobody(world, capsys, form):
    configured("debug", form)
    forbidden = await everything(world)
    log = capsys.readouterr().err
    events = {
        *("organiser_added", "signed_in", "meeting_created", "message_sent", "message_failed", "code_asked_for"),
        *("not_verified", "verified", "ticket_issued", "ticket_used", "refused", "invitation_closed"),
        *("roll_called", "expel_not_confirmed"),
    }
    assert {event for event in events if event not in log} == set()
    for secret in forbidden:
        # As a word of its own: six digits can be part of a time or an id.
        found = re.search(rf"\b{secret}\b", log) if re.fullmatch(r"\d{6}", secret) else secret in log
        assert not found, secret


async def test_every_line_of_the_json_log_is_one_object_with_time_level_and_event(world, capsys):
    configured("info", "json")
    await everything(world)
    logging.getLogger("some.library").warning("a warning of %s", "another")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 20
    for line in lines:
        entry = json.loads(line)
        assert entry.keys() >= {"timestamp", "level", "event"}
    assert json.loads(lines[-1])["event"] == "a warning of another"


@pytest.mark.parametrize("form", ["json", "text"])
def test_what_somebody_wrote_cannot_begin_a_line_of_its_own(capsys, form):
    configured("info", form)
    structlog.get_logger().info("tried", value="x\n2026-01-01 level=info event=signed_in\x1b[2J\r")
    (line,) = capsys.readouterr().err.removesuffix("\n").split("\n")
    assert "\x1b" not in line
    assert "\r" not in line


def test_traceback_shows_no_local_variables(capsys):
    configured("info", "json")

    def fails(link):
        raise ValueError("it failed")

    try:
        fails("https://portal.sluss.test/i/" + "secret" * 2)
    except ValueError:
        structlog.get_logger().exception("unexpected_error")
    line = capsys.readouterr().err
    assert "it failed" in json.loads(line)["exception"]
    assert "secretsecret" not in line


def test_libraries_that_print_stanzas_and_paths_are_quiet(capsys):
    configured("debug", "text")
    logging.getLogger("slixmpp.xmlstream").debug("SEND: <token>eyJ</token>")
    logging.getLogger("slixmpp").info("<token>eyJ</token>")
    logging.getLogger("aiohttp.access").info("GET /i/secret")
    logging.getLogger("asyncio").debug("x")
    assert capsys.readouterr().err == ""


def test_level_holds_back_what_is_below_it(capsys):
    configured("warning", "text")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert "quiet" not in (log := capsys.readouterr().err)
    assert "loud" in log


def test_events_are_counted_for_the_metrics():
    registry = configured("info", "text")
    for _ in range(3):
        structlog.get_logger().info("refused", reason="used")
    assert b'sluss_events_total{event="refused",level="info"} 3.0' in generate_latest(registry)
