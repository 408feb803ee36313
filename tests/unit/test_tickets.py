"""Tickets: given after two factors for this invitation alone; good for one room, once, for a minute."""

import asyncio
import base64
import hashlib
import hmac
import json
import sqlite3
from dataclasses import replace
from datetime import timedelta
from itertools import product

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from sqlalchemy import event
from tests.unit.world import ANNA, BROWSER, MEET, OTHER_BROWSER, PORTAL

from sluss.domain.assurance import Purpose
from sluss.domain.errors import NotFound, NotOpen, NotVerified, SignInRequired, StoreUnavailable, TooManyTries
from sluss.domain.gate import Refusal
from sluss.services.common import new_link

BERTIL = ("Bertil Berg", "bertil@example.org", "070-174 06 06")
BERTILS_MOBILE = "+46701740606"
ADDRESS = "192.0.2.7"
FOREIGN_KEY = rsa.generate_private_key(65537, 2048)


@pytest.fixture
async def open_meeting(world):
    organiser, session = await world.signed_in()
    world.meeting_now = await world.meeting(organiser, ANNA, BERTIL)
    world.organiser_now, world.session_now = organiser, session
    return world


@pytest.fixture
async def held(open_meeting):
    """Anna, verified twice, with a ticket in hand."""
    return open_meeting, await open_meeting.ticket(open_meeting.link())


async def refusal(world, token, room, session="xmpp-1"):
    verdict = await world.authenticate(token, room, session)
    assert not verdict.allow
    assert (verdict.username, verdict.name, verdict.enter) == (None, None, False)
    return verdict.reason


def signing_key(world):
    return world.keys._ring.signing


def forged(world, ticket, *, headers=None, key=None, algorithm="RS256", drop=(), **changed) -> str:
    """The ticket's claims, changed, signed by our own active key unless told otherwise."""
    claims = jwt.decode(ticket.token, options={"verify_signature": False}) | changed
    for name in drop:
        del claims[name]
    headers = {"kid": world.keys.active_kid} | (headers or {})
    body = json.dumps(claims).encode()
    return jwt.PyJWS().encode(body, signing_key(world) if key is None else key, algorithm, headers=headers)


def segment(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


# Who may have one


async def test_no_ticket_without_both_verifications(open_meeting):
    world, link = open_meeting, open_meeting.link()
    await world.verified(link, Purpose.VIEW)
    with pytest.raises(NotVerified):
        await world.services.tickets.for_participant(link, BROWSER)
    await world.verified(link, Purpose.JOIN)
    with pytest.raises(NotVerified):
        await world.services.tickets.for_participant(link, OTHER_BROWSER)
    with pytest.raises(NotVerified):
        await world.services.tickets.for_participant(world.link(BERTIL[1]), BROWSER)
    assert await world.services.tickets.for_participant(link, BROWSER)


async def test_verification_to_join_is_fresh_for_five_minutes(open_meeting):
    world, link = open_meeting, open_meeting.link()
    await world.ticket(link)
    world.clock.forward(seconds=299)
    await world.services.tickets.for_participant(link, BROWSER)
    world.clock.forward(seconds=1)
    with pytest.raises(NotVerified):
        await world.services.tickets.for_participant(link, BROWSER)


async def test_class_made_stricter_takes_back_what_was_verified(open_meeting):
    world, link = open_meeting, open_meeting.link()
    await world.ticket(link)
    world.sql("UPDATE meetings SET sensitivity = 'confidential'")
    with pytest.raises(NotVerified):
        await world.services.tickets.for_participant(link, BROWSER)


@pytest.mark.parametrize("starts_in", [16, -91], ids=["before it opens", "after it closes"])
async def test_no_ticket_outside_the_meetings_time(open_meeting, starts_in):
    world, link = open_meeting, open_meeting.link()
    await world.ticket(link)
    world.sql("UPDATE meetings SET starts_at = ?", int((world.clock.now + timedelta(minutes=starts_in)).timestamp()))
    with pytest.raises(NotOpen):
        await world.services.tickets.for_participant(link, BROWSER)


@pytest.mark.parametrize("starts_in", [15, -89], ids=["a quarter before", "just before it closes"])
async def test_ticket_within_the_meetings_time(open_meeting, starts_in):
    world, link = open_meeting, open_meeting.link()
    await world.ticket(link)
    world.sql("UPDATE meetings SET starts_at = ?", int((world.clock.now + timedelta(minutes=starts_in)).timestamp()))
    assert await world.services.tickets.for_participant(link, BROWSER)


async def test_no_ticket_to_an_ended_meeting(open_meeting):
    world, link = open_meeting, open_meeting.link()
    await world.ticket(link)
    await world.services.meetings.end(world.organiser_now, world.meeting_now.id)
    with pytest.raises(NotOpen):
        await world.services.tickets.for_participant(link, BROWSER)


async def test_organiser_needs_a_fresh_code_and_their_own_meeting(open_meeting):
    world, t = open_meeting, open_meeting.services.tickets
    session, meeting = world.session_now, world.meeting_now
    with pytest.raises(NotVerified):
        await t.for_organiser(session, meeting.id)
    assert not await t.organiser_may_enter(session, meeting.id)
    with pytest.raises(NotVerified):
        await t.verify_organiser(session, meeting.id, "000000", ADDRESS)
    await t.verify_organiser(session, meeting.id, world.totp.at(world.clock.now), ADDRESS)
    assert await t.organiser_may_enter(session, meeting.id)
    ticket = await t.for_organiser(session, meeting.id)
    verdict = await world.authenticate(ticket.token, meeting.room)
    assert (verdict.role, verdict.method) == ("organiser", "totp")
    claims = jwt.decode(ticket.token, options={"verify_signature": False})
    assert (claims["amr"], claims["acr"]) == (["pwd", "otp", "mfa"], "urn:sluss:acr:aal2")
    with pytest.raises(SignInRequired):
        await t.for_organiser(new_link(), meeting.id)
    _, strangers = await world.signed_in("olle@example.org")
    for verb in (t.for_organiser, t.organiser_may_enter):
        with pytest.raises(NotFound):
            await verb(strangers, meeting.id)
    with pytest.raises(NotFound):
        await t.verify_organiser(strangers, meeting.id, world.totp.at(world.clock.now), ADDRESS)


async def test_guessing_the_organisers_code_at_the_door_locks(open_meeting):
    world, t = open_meeting, open_meeting.services.tickets
    for _ in range(5):
        with pytest.raises(NotVerified):
            await t.verify_organiser(world.session_now, world.meeting_now.id, "12345", ADDRESS)
    with pytest.raises(TooManyTries):
        await t.verify_organiser(world.session_now, world.meeting_now.id, world.totp.at(world.clock.now), ADDRESS)


async def test_recovery_code_does_not_open_the_meeting(open_meeting):
    world = open_meeting
    hashed = world.services.organisers._recovery_hash(world.organiser_now.id, "aaaa-bbbb-cccc-dddd")
    world.sql("UPDATE recovery_codes SET code_hash = ?", hashed)
    with pytest.raises(NotVerified):
        await world.services.tickets.verify_organiser(
            world.session_now, world.meeting_now.id, "aaaa-bbbb-cccc-dddd", ADDRESS
        )


# What it says


async def test_ticket_says_who_for_which_room_and_how_proved(held):
    world, ticket = held
    assert jwt.get_unverified_header(ticket.token) == {"alg": "RS256", "typ": "JWT", "kid": world.keys.active_kid}
    claims = jwt.decode(ticket.token, options={"verify_signature": False})
    now = int(world.clock.now.timestamp())
    username, jti = claims["context"]["user"].pop("id"), claims.pop("jti")
    assert claims == {
        "iss": f"https://{PORTAL}",
        "aud": "jitsi",
        "sub": MEET,
        "room": world.meeting_now.room,
        "iat": now,
        "nbf": now,
        "exp": now + 60,
        "amr": ["sms", "mfa"],
        "acr": "urn:sluss:acr:aal1",
        "auth_time": now,
        "context": {
            "user": {"name": ANNA[0], "moderator": False},
            "features": claims["context"]["features"],
        },
    }
    assert username.startswith("p-")
    assert len(jti) == 32
    for secret in (ANNA[1], "Budget", world.link()):
        assert secret not in json.dumps(claims)


async def test_ticket_says_what_the_class_allows_in_the_meeting(open_meeting):
    world, link = open_meeting, open_meeting.link()
    await world.ticket(link)

    async def features():
        token = (await world.services.tickets.for_participant(link, BROWSER)).token
        return jwt.decode(token, options={"verify_signature": False})["context"]["features"]

    said = await features()
    assert {name for name, allowed in said.items() if allowed} == {
        "screen-sharing",
        "send-groupchat",
        "send-private-message",
        "create-polls",
    }
    for changed, names in (
        ({"recording": True}, {"recording"}),
        ({"screen_sharing": False}, {"screen-sharing"}),
        ({"chat": False}, {"send-groupchat", "send-private-message", "create-polls"}),
    ):
        was = world.ground.policy.of("internal").features
        world.change_class(features=replace(was, **changed))
        now = await features()
        assert {name for name in said if said[name] != now[name]} == names
        world.change_class(features=was)


async def test_rooms_are_lower_case_and_128_random_bits(open_meeting):
    rooms = {(await open_meeting.meeting(open_meeting.organiser_now)).room for _ in range(3)}
    assert len(rooms) == 3
    assert all(len(bytes.fromhex(room)) == 16 and room == room.lower() for room in rooms)


# Once


async def test_ticket_opens_once(held):
    world, ticket = held
    assert (await world.authenticate(ticket.token, ticket.room)).allow
    assert await refusal(world, ticket.token, ticket.room, "xmpp-2") is Refusal.USED
    assert await refusal(world, ticket.token, ticket.room) is Refusal.USED


async def test_ticket_from_a_hundred_sessions_at_once_opens_for_exactly_one(held):
    world, ticket = held
    verdicts = await asyncio.gather(*(world.authenticate(ticket.token, ticket.room, f"x{n}") for n in range(100)))
    assert sum(verdict.allow for verdict in verdicts) == 1
    assert {verdict.reason for verdict in verdicts} == {None, Refusal.USED}


async def test_one_xmpp_session_uses_one_ticket(held):
    world, ticket = held
    assert (await world.authenticate(ticket.token, ticket.room)).allow
    second = await world.services.tickets.for_participant(world.link(), BROWSER)
    assert await refusal(world, second.token, second.room) is Refusal.USED
    assert (await world.authenticate(second.token, second.room, "xmpp-2")).allow


async def test_only_the_newest_unused_ticket_opens(held):
    world, old = held
    new = await world.services.tickets.for_participant(world.link(), BROWSER)
    assert await refusal(world, old.token, old.room) is Refusal.WITHDRAWN
    assert (await world.authenticate(new.token, new.room)).allow


async def test_ticket_lasts_a_minute(held):
    world, ticket = held
    world.clock.forward(seconds=60)
    assert await refusal(world, ticket.token, ticket.room) is Refusal.EXPIRED


async def test_ticket_is_not_good_before_its_time(held):
    world, ticket = held
    world.clock.forward(seconds=-2)
    assert await refusal(world, ticket.token, ticket.room) is Refusal.EXPIRED


@pytest.mark.parametrize("shut", ["withdraw", "put_out"])
async def test_ticket_in_hand_is_worthless_after_its_holder_was_shut_out(held, shut):
    world, ticket = held
    anna, _ = (await world.services.meetings.view(world.organiser_now, world.meeting_now.id)).participants
    await getattr(world.services.meetings, shut)(world.organiser_now, anna.invitation.id)
    assert await refusal(world, ticket.token, ticket.room) is Refusal.WITHDRAWN


async def test_ticket_in_hand_is_worthless_after_not_me(held):
    world, ticket = held
    await world.services.participation.not_me(world.link(), ADDRESS)
    assert await refusal(world, ticket.token, ticket.room) is Refusal.WITHDRAWN


async def test_ticket_in_hand_is_worthless_after_the_meeting_ended(held):
    world, ticket = held
    await world.services.meetings.end(world.organiser_now, world.meeting_now.id)
    assert await refusal(world, ticket.token, ticket.room) is Refusal.NOT_OPEN


async def test_ticket_opens_its_own_room_letter_for_letter(held):
    world, ticket = held
    room = ticket.room
    for other in ("", "*", ".*", "[a-f0-9]+", room.upper(), f"{room}x", f"{room} ", f"{room}%", f" {room}", room[:-1]):
        assert await refusal(world, ticket.token, other) is Refusal.WRONG_ROOM, other


async def test_ticket_does_not_open_another_meetings_room(held):
    world, ticket = held
    other = await world.meeting(world.organiser_now)
    assert await refusal(world, ticket.token, other.room) is Refusal.WRONG_ROOM
    misnamed = forged(world, ticket, room=other.room)
    assert await refusal(world, misnamed, ticket.room) is Refusal.WRONG_ROOM
    everywhere = forged(world, ticket, room=other.room)  # even signed by us: what was issued counts
    assert await refusal(world, everywhere, other.room) is Refusal.WRONG_ROOM


async def test_xmpp_session_without_a_name_is_refused(held):
    world, ticket = held
    assert await refusal(world, ticket.token, ticket.room, "") is Refusal.BAD_TICKET


# Forged


async def test_altered_ticket_is_refused(held):
    world, ticket = held
    for part in range(3):
        parts = ticket.token.split(".")
        middle = len(parts[part]) // 2
        parts[part] = parts[part][:middle] + ("A" if parts[part][middle] != "A" else "B") + parts[part][middle + 1 :]
        assert await refusal(world, ".".join(parts), ticket.room) is Refusal.BAD_TICKET, part


async def test_ticket_with_another_persons_claims_is_refused(held):
    world, ticket = held
    head, body, signature = ticket.token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["context"]["user"]["moderator"] = True
    assert await refusal(world, f"{head}.{segment(claims)}.{signature}", ticket.room) is Refusal.BAD_TICKET


async def test_unsigned_ticket_is_refused(held):
    world, ticket = held
    _, body, right = ticket.token.split(".")
    for name, signature in product(("none", "None", "NONE", "nOnE", ""), ("", right)):
        token = f"{segment({'alg': name, 'typ': 'JWT', 'kid': world.keys.active_kid})}.{body}.{signature}"
        assert await refusal(world, token, ticket.room) is Refusal.BAD_TICKET


async def test_public_key_is_no_shared_secret(held):
    world, ticket = held
    public, form = signing_key(world).public_key(), serialization.PublicFormat.SubjectPublicKeyInfo
    secrets = [public.public_bytes(e, form) for e in (serialization.Encoding.PEM, serialization.Encoding.DER)]
    for secret, (algorithm, digest) in product(secrets, (("HS256", hashlib.sha256), ("HS512", hashlib.sha512))):
        head = segment({"alg": algorithm, "typ": "JWT", "kid": world.keys.active_kid})
        signed = f"{head}.{ticket.token.split('.')[1]}"
        token = f"{signed}.{segment(hmac.new(secret, signed.encode(), digest).digest())}"
        assert await refusal(world, token, ticket.room) is Refusal.BAD_TICKET


async def test_other_algorithm_is_refused_even_under_our_key(held):
    world, ticket = held
    for algorithm in ("RS384", "RS512", "PS256"):
        token = forged(world, ticket, algorithm=algorithm)
        assert await refusal(world, token, ticket.room) is Refusal.BAD_TICKET, algorithm


async def test_foreign_signature_is_refused_under_our_kid(held):
    world, ticket = held
    assert await refusal(world, forged(world, ticket, key=FOREIGN_KEY), ticket.room) is Refusal.BAD_TICKET


async def test_unknown_kid_is_refused(held):
    world, ticket = held
    _, body, signature = ticket.token.split(".")
    for kid in ("", "unknown", "../../../../dev/null", "' OR 1=1 --", "/etc/hostname", 0, None, ["a"], {"a": 1}, True):
        head = segment({"alg": "RS256", "typ": "JWT", "kid": kid})
        assert await refusal(world, f"{head}.{body}.{signature}", ticket.room) is Refusal.BAD_TICKET, kid


async def test_ticket_brings_no_key_of_its_own(held):
    world, ticket = held
    jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(FOREIGN_KEY.public_key()))
    for headers in (
        {"jwk": jwk},
        {"jku": "http://127.0.0.1:9/keys.json"},
        {"x5u": "http://127.0.0.1:9/cert.pem"},
        {"x5c": ["MIIB"]},
        {"jwk": jwk, "kid": "theirs"},
    ):
        token = forged(world, ticket, key=FOREIGN_KEY, headers=headers)
        assert await refusal(world, token, ticket.room) is Refusal.BAD_TICKET


WRONG_CLAIMS = [
    {"iss": "https://evil.example"},
    {"iss": f"https://{PORTAL}/"},
    {"iss": [f"https://{PORTAL}"]},
    {"aud": "other"},
    {"aud": ["jitsi", "other"]},
    {"aud": "*"},
    {"sub": "*"},
    {"sub": "other.example"},
    {"sub": f"{MEET}."},
    {"jti": "never issued"},
    {"jti": 1},
    {"exp": "9999999999"},
    {"exp": 9999999999.5},
    {"exp": True},
    {"exp": None},
    {"exp": [9999999999]},
    {"nbf": "0"},
    {"nbf": 0.5},
    {"nbf": False},
    {"iat": "0"},
    {"iat": None},
]


async def test_wrong_or_odd_claim_is_refused_even_under_our_signature(held):
    world, ticket = held
    for changed in WRONG_CLAIMS:
        token = forged(world, ticket, **changed)
        assert await refusal(world, token, ticket.room) is Refusal.BAD_TICKET, changed
    assert (await world.authenticate(ticket.token, ticket.room)).allow  # and the real one is not used up


async def test_missing_claim_is_refused_even_under_our_signature(held):
    world, ticket = held
    for claim in ("iss", "aud", "sub", "room", "jti", "nbf", "iat", "exp"):
        token = forged(world, ticket, drop=[claim])
        assert await refusal(world, token, ticket.room) is Refusal.BAD_TICKET, claim


async def test_longer_life_written_into_a_ticket_does_not_make_it_usable_twice(held):
    world, ticket = held
    longer = forged(world, ticket, exp=int(world.clock.now.timestamp()) + 9999)
    assert (await world.authenticate(longer, ticket.room)).allow
    assert await refusal(world, longer, ticket.room, "xmpp-2") is Refusal.USED


RUBBISH = [
    "x",
    "..",
    "a.b.c",
    "\0",
    "å.ä.ö",
    "\ud800",
    "." * 5000,
    "x" * 100_000,
    f"{segment(b'[' * 5000)}.e30.",
    f"{segment(b'[]')}.e30.",
    f"{segment(b'1' * 5000)}.e30.",
    f"{segment({'alg': 'RS256', 'kid': 'x', 'crit': ['exp']})}.e30.",
]


async def test_rubbish_is_refused(open_meeting):
    for token in RUBBISH:
        assert await refusal(open_meeting, token, open_meeting.meeting_now.room) is Refusal.BAD_TICKET, token[:12]


async def test_no_ticket_is_said_so(open_meeting):
    assert await refusal(open_meeting, "", open_meeting.meeting_now.room) is Refusal.NO_TICKET


async def test_locked_database_is_a_no(held):
    world, ticket = held
    world.store.engine.dispose()
    event.listen(world.store.engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=0"))
    other = sqlite3.connect(world.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        await world.authenticate(ticket.token, ticket.room)
    assert await world.store.alive() is False
    other.close()
    assert await world.store.alive() is True
    assert (await world.authenticate(ticket.token, ticket.room)).allow
