"""Guessing and flooding do not pay (invariant 13), a restart resets nothing, a stranger locks nobody out for long."""

import importlib
import inspect
import pkgutil
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import event
from tests.unit.world import ANNA, BROWSER, MASTER, MOBILE, PASSWORD, QUICK, World

from sluss.app import _services
from sluss.domain import limits
from sluss.domain.assurance import Purpose
from sluss.domain.audit import Action, parse
from sluss.domain.errors import NotFound, NotVerified, SlussError, TooManyTries
from sluss.domain.limits import LIMITS, LockKind, SmsRules
from sluss.keyring.secrets import audit_key, field_key
from sluss.services.audit import Recorder
from sluss.services.common import new_link
from sluss.store.database import Store
from sluss.store.sealing import Sealer

BERTIL = ("Bertil Berg", "bertil@example.org", "070-174 06 06")
EMAIL = "eva@example.org"
OFFICE, HOME = "192.0.2.7", "198.51.100.1"
WRONG = "wrong"


@pytest.fixture
async def invited(world):
    """Anna and Bertil are invited to a meeting next month, so that nothing here is about its hour."""
    world.who, _ = await world.signed_in()
    world.held = await world.meeting(world.who, ANNA, BERTIL, starts_in=30 * 24 * 60)
    return world


async def ask(world: World, link=None, browser="b", purpose=Purpose.VIEW, address=OFFICE):
    await world.services.participation.send_code(link or world.link(), browser, purpose, "sv", address)
    world.sql("UPDATE challenges SET sent = 1")  # that each in a row makes the wait longer is test_codes.py's
    await world.worker.deliver_due()


async def guess(world: World, link=None, browser="b", address=OFFICE, purpose=Purpose.VIEW):
    code = "000000" if world.sms.sent and world.code(world.sms.sent[-1][0]) != "000000" else "000001"
    await world.services.participation.verify(link or world.link(), browser, purpose, code, address)


async def sign_in(world: World, password=WRONG, email=EMAIL, address=OFFICE, known=""):
    await world.services.organisers.password("s", email, password, address, known)


async def until_locked(world, verb, *, every=timedelta(0), most=200) -> tuple[int, TooManyTries]:
    """How often `verb` was let through, and the refusal after that. Time moves by `every` after each."""
    for done in range(most):
        try:
            await verb(done)
        except TooManyTries as refused:
            return done, refused
        except SlussError:
            pass
        world.clock.now += every
    raise AssertionError(f"not locked after {most}")


async def guesses_in(world, verb, period) -> int:
    """How many guesses somebody gets in who never stops for `period`."""
    end, guessed = world.clock.now + period, 0
    while world.clock.now < end:
        try:
            await verb(guessed)
        except TooManyTries as refused:
            world.clock.forward(seconds=refused.retry_after)
        except SlussError:
            guessed += 1
            assert guessed < 1000
    return guessed


async def drained(world: World, limit, key=""):
    """Use all of one limit up, as a crowd would."""
    await world.store.run(lambda tx: tx.limits.put([(limit.what, key, "", world.clock.now + limit.period)]))


# The table


def test_every_limit_of_the_table_is_used_by_the_rules_and_tested_here():
    import sluss.services

    found = pkgutil.iter_modules(sluss.services.__path__, "sluss.services.")
    modules = [importlib.import_module(module.name) for module in found]
    for name, limit in inspect.getmembers(limits, lambda value: isinstance(value, limits.Limit)):
        assert LIMITS[limit.what] is limit
        assert any(getattr(module, name, None) is limit for module in modules), name


def test_nobody_waits_longer_than_half_an_hour_for_one_more():
    assert max(limit.interval for limit in LIMITS.values()) <= timedelta(minutes=30)


def test_limit_lets_many_through_at_once_and_then_one_in_each_interval(world):
    now = world.clock.now
    limit = limits.Limit("x", 4, timedelta(hours=1))
    free_at = now
    for _ in range(4):
        assert not limit.wait(free_at, now)
        free_at = limit.after(free_at, now)
    assert limit.wait(free_at, now) == timedelta(minutes=15)
    assert limit.wait(free_at, now + timedelta(minutes=14)) == timedelta(minutes=1)
    assert not limit.wait(free_at, now + timedelta(minutes=15))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("", "nonsense", False),
    ],
)
def test_ipv6_address_counts_as_its_network(one, other, same):
    assert (limits.network(one) == limits.network(other)) == same


# Codes that are asked for


@pytest.mark.parametrize("live", [True, False])
async def test_link_brings_sixteen_codes_from_many_addresses_and_one_more_each_quarter_of_an_hour(invited, live):
    link = invited.link() if live else new_link()
    times, refused = await until_locked(
        invited, lambda n: ask(invited, link, f"b{n}", address=f"203.0.113.{n}"), every=timedelta(seconds=30)
    )
    assert 16 <= times <= 17
    assert 0 < refused.retry_after <= 15 * 60
    invited.clock.forward(seconds=refused.retry_after)
    await ask(invited, link, address="203.0.113.200")


@pytest.mark.parametrize("live", [True, False])
async def test_one_address_gets_half_of_a_links_codes_and_cannot_lock_another(invited, live):
    link = invited.link() if live else new_link()
    end = invited.clock.now + timedelta(hours=5)
    times, refused = await until_locked(invited, lambda n: ask(invited, link, f"b{n}"), every=timedelta(seconds=31))
    assert (times, refused.retry_after <= 15 * 60) == (8, True)
    while invited.clock.now < end:  # and asks on as soon as it is possible
        _, refused = await until_locked(invited, lambda n: ask(invited, link, f"c{n}"), every=timedelta(seconds=31))
        await ask(invited, link, address=HOME) if invited.clock.now > end - timedelta(hours=1) else None
        invited.clock.forward(seconds=refused.retry_after)


async def test_browser_that_was_verified_gets_codes_whatever_others_with_the_link_do(invited):
    link = invited.link()
    await invited.verified(link, Purpose.VIEW)
    await until_locked(invited, lambda n: ask(invited, link, address=f"203.0.113.{n}"), every=timedelta(seconds=30))
    for limit in (limits.CODES_ADDRESS, limits.CODES_ALL, limits.SMS_NUMBER):
        for key in ("", invited.ground.limit_key(address=OFFICE), invited.ground.phone_hash(MOBILE)):
            await drained(invited, limit, key)
    sent = len(invited.sms.sent)
    await ask(invited, link, BROWSER, Purpose.JOIN)
    assert len(invited.sms.sent) == sent + 1
    await invited.services.participation.verify(link, BROWSER, Purpose.JOIN, invited.code(), OFFICE)


async def test_verified_browser_gets_eight_codes_and_one_more_each_five_minutes(invited):
    await invited.verified(invited.link(), Purpose.VIEW)
    times, refused = await until_locked(
        invited, lambda _: ask(invited, browser=BROWSER, purpose=Purpose.JOIN), every=timedelta(seconds=30)
    )
    assert (times, refused.retry_after <= 300) == (8, True)


async def test_office_of_two_hundred_gets_its_codes_and_a_flood_from_one_address_is_slowed(invited):
    assert limits.CODES_ADDRESS.many >= 5 * 200
    await drained(invited, limits.CODES_ADDRESS, invited.ground.limit_key(address=OFFICE))
    with pytest.raises(TooManyTries, match="codes-address") as refused:
        await ask(invited, new_link())
    assert refused.value.retry_after == 1
    await ask(invited, address=HOME)


async def test_flood_from_everywhere_is_slowed_and_leaves_nothing_after_five_minutes(invited):
    await drained(invited, limits.CODES_ALL)
    with pytest.raises(TooManyTries, match="codes-all"):
        await ask(invited, new_link())
    invited.clock.forward(seconds=1)
    for _ in range(5):
        await ask(invited, new_link())
    assert invited.sql("SELECT count(*) AS n FROM outbox WHERE kind = 'nothing'") == [{"n": 5}]
    invited.clock.forward(minutes=5, seconds=1)
    await invited.housekeeping.tick()
    assert invited.sql("SELECT count(*) AS n FROM outbox WHERE kind = 'nothing'") == [{"n": 0}]
    assert invited.sql("SELECT count(*) AS n FROM challenges") == [{"n": 0}]
    invited.clock.forward(hours=4)
    await invited.housekeeping.tick()
    assert invited.sql("SELECT * FROM limits") == []


# Codes that are guessed


async def test_link_takes_thirty_guesses_from_any_addresses_and_forty_eight_more_a_day(invited):
    link = invited.link()
    await ask(invited, link)

    async def attack(n):  # as if codes were had without end
        invited.sql("UPDATE challenges SET tries = 0, created_at = ?", int(invited.clock.now.timestamp()))
        await guess(invited, link, address=f"203.{n % 250}.113.1")

    assert 75 < await guesses_in(invited, attack, timedelta(days=1)) <= 30 + 48 + 1


@pytest.mark.parametrize("live", [True, False])
async def test_wrong_codes_from_one_address_lock_that_address_alone_and_for_half_an_hour(invited, live):
    link = invited.link() if live else new_link()

    async def attack(n):
        if n % 5 == 0:
            invited.clock.forward(seconds=31)
            await ask(invited, link)
        await guess(invited, link)

    times, refused = await until_locked(invited, attack)
    assert times == 10
    assert refused.retry_after <= 30 * 60
    if live:
        invited.clock.forward(seconds=31)
        await ask(invited, link, BROWSER, address=HOME)
        await invited.services.participation.verify(link, BROWSER, Purpose.VIEW, invited.code(), HOME)


async def test_verified_browser_types_its_code_whatever_others_have_guessed(invited):
    link = invited.link()
    await invited.verified(link, Purpose.VIEW)
    await drained(invited, limits.TRIES_LINK, invited.ground.link_hash(link))
    await drained(
        invited, limits.TRIES_LINK_ADDRESS, invited.ground.limit_key(invited.ground.link_hash(link), address=OFFICE)
    )
    await drained(invited, limits.TRIES_ADDRESS, invited.ground.limit_key(address=OFFICE))
    await drained(invited, limits.TRIES_ALL)
    await ask(invited, link, BROWSER, Purpose.JOIN)
    with pytest.raises(NotVerified):
        await guess(invited, link, BROWSER, purpose=Purpose.JOIN)
    await invited.services.participation.verify(link, BROWSER, Purpose.JOIN, invited.code(), OFFICE)


async def guess_links(world: World, n: int, address: str):
    """The n-th guess of somebody who has links without end: five at a time, with a code asked for each five."""
    if n % 5 == 0:
        world.guessed = new_link()
        await ask(world, world.guessed, address=address)
    await guess(world, world.guessed, address=address)


async def test_one_address_takes_two_hundred_guesses_of_all_links_and_one_more_each_minute(invited):
    times, refused = await until_locked(invited, lambda n: guess_links(invited, n, OFFICE), most=300)
    assert (times, refused.retry_after, str(refused)) == (201, 60, "tries-address")
    invited.clock.forward(minutes=1)
    with pytest.raises(NotVerified):
        await guess(invited, invited.guessed)
    with pytest.raises(TooManyTries, match="tries-address"):
        await guess(invited, invited.guessed)
    await ask(invited, browser=BROWSER, address=HOME)
    for _ in range(4):
        with pytest.raises(NotVerified):
            await guess(invited, browser=BROWSER, address=HOME)
    await invited.services.participation.verify(invited.link(), BROWSER, Purpose.VIEW, invited.code(), HOME)


async def test_all_addresses_together_take_a_thousand_guesses_and_one_more_each_half_minute(invited):
    await drained(invited, limits.TRIES_ALL)
    invited.clock.forward(minutes=1)
    times, refused = await until_locked(invited, lambda n: guess_links(invited, n, f"203.0.113.{n}"))
    assert (limits.TRIES_ALL.many, str(refused), refused.retry_after <= 30) == (1000, "tries-all", True)
    assert times == 2  # those that came back in a minute


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("what", [limits.TRIES_ADDRESS, limits.TRIES_ALL])
async def test_first_code_typed_for_each_one_asked_for_is_taken_whatever_others_have_guessed(invited, what, live):
    link = invited.link() if live else new_link()
    key = invited.ground.limit_key(address=OFFICE) if what is limits.TRIES_ADDRESS else ""
    for _ in range(3):  # also by somebody who was let through
        await drained(invited, what, key)
        await ask(invited, link)
        with pytest.raises(NotVerified):
            await guess(invited, link)
        with pytest.raises(TooManyTries, match=what.what):
            await guess(invited, link)
        invited.clock.forward(seconds=30)
    if live:
        await ask(invited)
        await invited.services.participation.verify(link, "b", Purpose.VIEW, invited.code(), OFFICE)


async def test_verified_browser_has_ten_wrong_codes_and_one_more_each_five_minutes(invited):
    link = invited.link()
    await invited.verified(link, Purpose.VIEW)

    async def attack(n):
        if n % 5 == 0:
            invited.clock.forward(seconds=31)
            await ask(invited, link, BROWSER, Purpose.JOIN)
        await guess(invited, link, BROWSER, purpose=Purpose.JOIN)

    times, refused = await until_locked(invited, attack)
    assert (times, refused.retry_after <= 300) == (10, True)


# What goes out by SMS


async def test_phone_gets_twenty_four_codes_whatever_links_lead_to_it_and_its_organiser_sees_why(invited):
    for _ in range(3):
        await invited.meeting(invited.who, starts_in=30 * 24 * 60)
    links = {text for to, text in invited.mail.sent if to == ANNA[1]}
    links = [text.partition("/i/")[2].split()[0] for text in links]
    sent = len(invited.sms.sent)
    for n in range(32):
        await ask(invited, links[n % 4], f"b{n}")
        invited.clock.forward(seconds=10)  # each link has its pause
    assert len(invited.sms.sent) - sent == 24
    status = (await invited.services.meetings.view(invited.who, invited.held.id)).participants[0]
    assert LockKind.NUMBER in {lock.kind for lock in status.locks}
    assert all(invited.clock.now < lock.opens_at for lock in status.locks)


async def test_meeting_sends_eight_hundred_codes_and_its_organiser_sees_it(invited):
    await drained(invited, limits.SMS_MEETING, invited.held.id)
    invited.sql("UPDATE limits SET owner = key")
    await ask(invited)
    assert invited.sms.sent == []
    view = await invited.services.meetings.view(invited.who, invited.held.id)
    assert [lock.kind for lock in view.sms_stopped] == [LockKind.MEETING]


async def test_organiser_lets_their_meeting_send_codes_again_and_nobody_else_does(invited):
    olle, _ = await invited.signed_in("olle@example.org")
    until = invited.clock.now + limits.SMS_MEETING.period
    await invited.store.run(lambda tx: tx.limits.put([("sms-meeting", invited.held.id, invited.held.id, until)]))
    unlock, sent = invited.services.meetings.unlock_meeting, len(invited.sms.sent)
    for who, what in ((olle, invited.held.id), (invited.who, "no such meeting")):
        with pytest.raises(NotFound):
            await unlock(who, what)
    await ask(invited, browser="c", address=HOME)
    assert len(invited.sms.sent) == sent
    await unlock(invited.who, invited.held.id)
    entry = parse(invited.sql("SELECT entry FROM audit ORDER BY seq DESC LIMIT 1")[0]["entry"])
    assert (entry.action, entry.actor, entry.subject) == (
        Action.UNLOCKED,
        f"organiser:{invited.who.id}",
        f"meeting:{invited.held.id}",
    )
    assert (await invited.services.meetings.view(invited.who, invited.held.id)).sms_stopped == ()
    invited.clock.forward(seconds=30)
    await ask(invited, browser="c", address=HOME)
    assert len(invited.sms.sent) == sent + 1


async def test_day_sends_as_many_as_the_setting_says_then_none_until_one_is_a_day_old(invited):
    invited = with_rules(invited, SmsRules(("+46",), 3))
    view = invited.services.meetings.view
    for n in range(5):
        await ask(invited, invited.link((ANNA, BERTIL)[n % 2][1]), f"b{n}")
        invited.clock.forward(minutes=1)
    assert len(invited.sms.sent) == 3
    (stopped,) = (await view(invited.who, invited.held.id)).sms_stopped
    assert (stopped.kind, stopped.opens_at - invited.clock.now) == (LockKind.DAY, timedelta(hours=23, minutes=55))
    await invited.services.meetings.unlock_meeting(invited.who, invited.held.id)
    assert (await view(invited.who, invited.held.id)).sms_stopped == (stopped,)
    invited.clock.now = stopped.opens_at
    assert (await view(invited.who, invited.held.id)).sms_stopped == ()
    await ask(invited)
    assert len(invited.sms.sent) == 4


async def test_no_code_goes_to_a_number_outside_of_the_prefixes(invited):
    invited.change_invitation(ANNA[1], mobile="+8821234567890")
    await ask(invited)
    assert invited.sms.sent == []


@pytest.mark.parametrize("why", ["number", "meeting", "day", "prefix"])
async def test_code_that_is_withheld_looks_and_takes_like_one_that_is_sent(invited, why):
    asked: list[str] = []
    if why == "day":
        await ask(invited, invited.link(BERTIL[1]))
        invited = with_rules(invited, SmsRules(("+46",), 1))
    if why == "prefix":
        invited = with_rules(invited, SmsRules(("+47",), 2000))
    if why == "number":
        await drained(invited, limits.SMS_NUMBER, invited.ground.phone_hash(MOBILE))
    if why == "meeting":
        await drained(invited, limits.SMS_MEETING, invited.held.id)
    engine, before = invited.store.engine, len(invited.sms.sent)
    event.listen(engine, "before_cursor_execute", lambda _c, _cursor, statement, *_: asked.append(statement))
    seen = []
    for link in (invited.link(), new_link()):
        asked.clear()
        await invited.services.participation.send_code(link, "b", Purpose.VIEW, "sv", OFFICE)
        seen.append(list(asked))
    assert seen[0] == seen[1]
    await invited.worker.deliver_due()
    assert len(invited.sms.sent) == before


# Organisers


async def test_wrong_passwords_lock_that_address_for_a_quarter_of_an_hour_and_no_other(invited):
    times, refused = await until_locked(invited, lambda _: sign_in(invited))
    assert (times, refused.retry_after) == (5, 900)
    with pytest.raises(TooManyTries):
        await sign_in(invited, PASSWORD)
    await sign_in(invited, PASSWORD, address=HOME)
    invited.clock.forward(minutes=15)
    await sign_in(invited, PASSWORD)


async def test_one_address_that_guesses_for_days_does_not_lock_the_account_elsewhere(invited):
    guessed = await guesses_in(invited, lambda _: sign_in(invited), timedelta(days=2))
    assert guessed <= 5 + 2 * 96 + 1
    await sign_in(invited, PASSWORD, address=HOME)


async def test_account_guessed_from_everywhere_is_locked_except_in_the_browser_that_signed_in_before(invited):
    await sign_in(invited, PASSWORD)
    code = invited.totp.at(invited.clock.now)
    known = (await invited.services.organisers.second_factor("s", code, OFFICE)).browser
    times, refused = await until_locked(invited, lambda n: sign_in(invited, address=f"203.0.113.{n}"))
    assert times == 20
    assert refused.retry_after <= 15 * 60
    await until_locked(invited, lambda n: sign_in(invited, email=f"p{n}@example.org"))  # and so is the office's address
    with pytest.raises(TooManyTries):
        await sign_in(invited, PASSWORD)
    await sign_in(invited, PASSWORD, known=known)


async def test_known_browser_of_another_account_or_a_made_up_one_is_none(invited):
    await invited.organiser("olle@example.org")
    await sign_in(invited, PASSWORD, "olle@example.org")
    code = invited.totp.at(invited.clock.now)
    others = (await invited.services.organisers.second_factor("s", code, OFFICE)).browser
    await until_locked(invited, lambda _: sign_in(invited))
    for value in (others, "", ".", "x." + "0" * 64, "é.é", others[1:]):
        with pytest.raises(TooManyTries):
            await sign_in(invited, PASSWORD, known=value)


async def test_known_browser_is_locked_by_its_own_guesses(invited):
    await sign_in(invited, PASSWORD)
    code = invited.totp.at(invited.clock.now)
    known = (await invited.services.organisers.second_factor("s", code, OFFICE)).browser
    times, refused = await until_locked(invited, lambda n: sign_in(invited, known=known, address=f"203.0.113.{n}"))
    assert (times, refused.retry_after) == (10, 300)


async def test_unknown_account_is_locked_like_a_known_one(invited):
    for email in (EMAIL, "nobody@example.org"):
        times, refused = await until_locked(
            invited, lambda n, email=email: sign_in(invited, email=email, address=f"203.0.113.{n}")
        )
        assert (times, refused.retry_after, str(refused)) == (20, 900, "sign-in-account")


async def test_address_that_tries_many_accounts_is_slowed(invited):
    times, refused = await until_locked(invited, lambda n: sign_in(invited, email=f"p{n}@example.org"))
    assert (times, refused.retry_after) == (60, 60)
    await sign_in(invited, PASSWORD, address=HOME)


async def test_passwords_are_hashed_for_strangers_one_a_second(invited):
    await drained(invited, limits.SIGN_IN_ALL)
    with pytest.raises(TooManyTries, match="sign-in-all") as refused:
        await sign_in(invited, PASSWORD)
    assert refused.value.retry_after == 1
    await drained(invited, limits.SIGN_IN_ALL)
    invited.clock.forward(seconds=1)
    await sign_in(invited, PASSWORD)
    with pytest.raises(TooManyTries):
        await sign_in(invited, PASSWORD)


async def test_wrong_authenticator_codes_lock_the_address_then_the_account_and_the_password_opens_neither(invited):
    async def attack(n, address=OFFICE):
        await sign_in(invited, PASSWORD, address=address)
        await invited.services.organisers.second_factor("s", "12345", address)

    times, refused = await until_locked(invited, attack)
    assert (times, refused.retry_after, str(refused)) == (5, 900, "second-account-address")
    times, refused = await until_locked(invited, lambda n: attack(n, f"203.0.113.{n}"))
    assert (times, refused.retry_after, str(refused)) == (15, 900, "second-account")


async def test_known_browser_gives_its_code_whatever_others_have_guessed(invited):
    await sign_in(invited, PASSWORD)
    code = invited.totp.at(invited.clock.now)
    known = (await invited.services.organisers.second_factor("s", code, OFFICE)).browser
    invited.clock.forward(seconds=30)
    account = invited.ground.hasher.digest("organiser", EMAIL)
    await drained(invited, limits.SECOND_ACCOUNT, account)
    await drained(invited, limits.SECOND_ACCOUNT_ADDRESS, invited.ground.limit_key(account, address=OFFICE))
    for _ in range(10):
        await sign_in(invited, PASSWORD, known=known)
        with pytest.raises(NotVerified):
            await invited.services.organisers.second_factor("s", "12345", OFFICE, known)
    await sign_in(invited, PASSWORD, known=known)
    with pytest.raises(TooManyTries, match="second-browser"):
        await invited.services.organisers.second_factor("s", "12345", OFFICE, known)
    invited.clock.forward(minutes=5)
    await sign_in(invited, PASSWORD, known=known)
    code = invited.totp.at(invited.clock.now)
    await invited.services.organisers.second_factor("s", code, OFFICE, known)


async def test_wrong_codes_at_the_door_lock_that_session_for_five_minutes(invited):
    session = new_link()
    hashed = invited.ground.session_hash(session)
    await invited.store.run(lambda tx: tx.sessions.put(hashed, invited.who.id, complete=True, now=invited.clock.now))
    verify = invited.services.tickets.verify_organiser
    times, refused = await until_locked(invited, lambda n: verify(session, invited.held.id, "12345", f"203.0.113.{n}"))
    assert (times, refused.retry_after) == (5, 300)
    invited.clock.forward(minutes=5)
    await verify(session, invited.held.id, invited.totp.at(invited.clock.now), OFFICE)


async def test_enrolment_link_is_tried_ten_times_and_then_once_a_minute(invited):
    token = (await invited.services.organisers.add("Olle Ohlsson", "olle@example.org")).rpartition("/")[2]
    enrol = invited.services.organisers.enrol
    times, refused = await until_locked(invited, lambda n: enrol(token, PASSWORD, "12345", f"203.0.113.{n}"))
    assert (times, refused.retry_after) == (10, 60)
    assert await invited.services.organisers.enrolment(token, OFFICE)


async def test_wrong_enrolment_links_slow_their_address_and_no_right_one(invited):
    token = (await invited.services.organisers.add("Olle Ohlsson", "olle@example.org")).rpartition("/")[2]
    enrolment = invited.services.organisers.enrolment
    times, refused = await until_locked(invited, lambda _: enrolment(new_link(), OFFICE))
    assert (times, refused.retry_after) == (30, 60)
    assert await enrolment(token, OFFICE)
    with pytest.raises(NotFound):
        await enrolment(new_link(), HOME)


# Restart, and undoing


def with_rules(world: World, rules: SmsRules | None = None) -> World:
    """The same installation after a restart: nothing of it but the file and the master key."""
    world.store.close()
    world.store = Store(f"sqlite:///{world.database}", Sealer(field_key(MASTER)), audit_key(MASTER))
    world.worker._store = world.store
    ground = replace(world.ground, store=world.store, sms=rules or world.ground.sms, audit=Recorder())
    world.ground, world.services = ground, _services(ground, world.keys, lambda: world.door, gate=True)
    world.services.organisers._passwords._hasher = QUICK
    return world


async def test_what_is_locked_stays_locked_through_a_restart(invited):
    link = invited.link()
    await until_locked(invited, lambda n: ask(invited, link, f"b{n}"), every=timedelta(seconds=30))
    await until_locked(invited, lambda _: sign_in(invited))
    again = with_rules(invited)
    try:
        with pytest.raises(TooManyTries, match="codes-link-address"):
            await ask(again, link)
        with pytest.raises(TooManyTries, match="sign-in-account-address"):
            await sign_in(again, PASSWORD)
    finally:
        again.store.close()


async def test_organiser_sees_for_how_long_somebody_is_locked_and_undoes_it_for_them_alone(invited):
    view, unlock = invited.services.meetings.view, invited.services.meetings.unlock
    for to in (ANNA[1], BERTIL[1]):
        await until_locked(invited, lambda _, to=to: ask(invited, invited.link(to)), every=timedelta(seconds=30))
    anna, bertil = (await view(invited.who, invited.held.id)).participants
    for status in (anna, bertil):
        (lock,) = status.locks
        assert lock.kind is LockKind.CODES
        assert timedelta(0) < lock.opens_at - invited.clock.now <= timedelta(minutes=15)
    assert await unlock(invited.who, anna.invitation.id) == invited.held.id
    anna, bertil = (await view(invited.who, invited.held.id)).participants
    assert (anna.locks, len(bertil.locks)) == ((), 1)
    entry = parse(invited.sql("SELECT entry FROM audit ORDER BY seq DESC LIMIT 1")[0]["entry"])
    assert (entry.action, entry.actor) == (Action.UNLOCKED, f"organiser:{invited.who.id}")
    assert entry.subject == f"invitation:{anna.invitation.id}"
    await ask(invited)
    with pytest.raises(TooManyTries):
        await ask(invited, invited.link(BERTIL[1]))


async def test_administrator_undoes_what_holds_up_one_organisers_signing_in(invited):
    await invited.organiser("olle@example.org")
    totp = invited.totp
    await sign_in(invited, PASSWORD, "olle@example.org")
    known = (await invited.services.organisers.second_factor("s", totp.at(invited.clock.now), OFFICE)).browser
    session = new_link()
    record = await invited.store.run(
        lambda tx: tx.organisers.by_email(invited.ground.hasher.digest("organiser", "olle@example.org"))
    )
    hashed = invited.ground.session_hash(session)
    await invited.store.run(
        lambda tx: tx.sessions.put(hashed, record.organiser.id, complete=True, now=invited.clock.now)
    )
    held = await invited.meeting(record.organiser)
    account = invited.ground.hasher.digest("organiser", "olle@example.org")
    unowned = ("sign-in-account", account, "", invited.clock.now)  # as versions before wrote it
    await invited.store.run(lambda tx: tx.limits.put([unowned]))

    async def code(n):
        await sign_in(invited, PASSWORD, "olle@example.org", f"203.0.113.{n}")
        await invited.services.organisers.second_factor("s", "12345", f"203.0.113.{n}")

    async def door(_):
        await invited.services.tickets.verify_organiser(session, held.id, "12345", OFFICE)

    locked = {
        "sign-in-browser": lambda _: sign_in(invited, email="olle@example.org", known=known),
        "second-account": code,
        "sign-in-account-address": lambda _: sign_in(invited, email="olle@example.org"),
        "sign-in-account": lambda n: sign_in(invited, email="olle@example.org", address=f"203.0.113.{n}"),
        "door-session": door,
    }
    await until_locked(invited, lambda _: sign_in(invited))
    for what, verb in locked.items():
        assert str((await until_locked(invited, verb))[1]) == what
    await invited.services.organisers.unlock("Olle@example.org ")
    entry = parse(invited.sql("SELECT entry FROM audit ORDER BY seq DESC LIMIT 1")[0]["entry"])
    assert (entry.action, entry.actor, entry.subject) == (
        Action.UNLOCKED,
        "admin",
        f"organiser:{record.organiser.id}",
    )
    for verb in locked.values():
        with pytest.raises(NotVerified):
            await verb(0)
    with pytest.raises(TooManyTries):
        await sign_in(invited)  # Eva is locked as before
    with pytest.raises(NotFound):
        await invited.services.organisers.unlock("nobody@example.org")


async def test_nobody_else_undoes_a_lock(invited):
    olle, _ = await invited.signed_in("olle@example.org")
    anna, _ = (await invited.services.meetings.view(invited.who, invited.held.id)).participants
    for who, what in ((olle, anna.invitation.id), (invited.who, "no such invitation")):
        with pytest.raises(NotFound):
            await invited.services.meetings.unlock(who, what)


async def test_store_holds_no_address_number_or_link_in_its_limits(invited):
    await ask(invited)
    with suppress(NotVerified):
        await guess(invited)
    await until_locked(invited, lambda _: sign_in(invited))
    rows = str(invited.sql("SELECT * FROM limits"))
    assert rows.count("free_at") > 8
    for secret in (OFFICE, MOBILE, invited.link(), EMAIL):
        assert secret not in rows
