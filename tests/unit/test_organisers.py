"""Organisers: enrolled once, signed in with both factors, locked after guesses, and only their own meetings."""

import asyncio
import threading
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest
from argon2 import PasswordHasher
from tests.unit.world import PASSWORD, PORTAL

from sluss.domain.errors import InvalidInput, NotFound, NotVerified, SignInRequired, TooManyTries
from sluss.factors.passwords import Passwords
from sluss.services.common import new_link

EMAIL, BROWSER, ADDRESS = "eva@example.org", "browser-o", "192.0.2.1"
STEP = timedelta(seconds=30)


async def added(world, email=EMAIL) -> str:
    """The enrolment token of a new organiser."""
    url = await world.services.organisers.add("Eva Ek", email)
    assert url.startswith(f"https://{PORTAL}/enrol/")
    return urlsplit(url).path.rpartition("/")[2]


async def enrolled(world) -> list[str]:
    """Really enrolled; returns the recovery codes."""
    token = await added(world)
    world.totp = pyotp.TOTP((await world.services.organisers.enrolment(token)).secret)
    codes = await world.services.organisers.enrol(token, PASSWORD, world.totp.at(world.clock.now))
    world.clock.forward(seconds=30)
    return codes


async def password(world, value=PASSWORD, email=EMAIL, browser=BROWSER, address=ADDRESS):
    await world.services.organisers.password(browser, email, value, address)


async def code(world, value=None, browser=BROWSER):
    value = value or world.totp.at(world.clock.now)
    return (await world.services.organisers.second_factor(browser, value, ADDRESS)).session


# Enrolment


async def test_enrolment_shows_a_secret_for_an_authenticator_as_often_as_it_is_looked_at(world):
    token = await added(world)
    shown = await world.services.organisers.enrolment(token)
    assert shown == await world.services.organisers.enrolment(token)
    uri = urlsplit(shown.otpauth_uri)
    assert (uri.scheme, uri.netloc, parse_qs(uri.query)["secret"]) == ("otpauth", "totp", [shown.secret])
    assert len(shown.secret) == 32  # 160 bits


async def test_enrolment_link_is_used_once_and_lasts_seven_days(world):
    first, second = await added(world), await added(world)  # not yet enrolled: a new link, both good
    totp = pyotp.TOTP((await world.services.organisers.enrolment(first)).secret)
    await world.services.organisers.enrol(second, PASSWORD, totp.at(world.clock.now))
    for token in (first, second, new_link(), ""):
        with pytest.raises(NotFound):
            await world.services.organisers.enrolment(token)
        with pytest.raises(NotFound):
            await world.services.organisers.enrol(token, PASSWORD, totp.at(world.clock.now))
    with pytest.raises(InvalidInput) as there:
        await added(world)
    assert there.value.field == "email"
    late = await added(world, "olle@example.org")
    world.clock.forward(days=7)
    with pytest.raises(NotFound):
        await world.services.organisers.enrolment(late)


async def test_two_enrolments_at_once_end_in_one(world):
    token = await added(world)
    totp = pyotp.TOTP((await world.services.organisers.enrolment(token)).secret)
    tries = [world.services.organisers.enrol(token, PASSWORD, totp.at(world.clock.now)) for _ in range(2)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sorted(type(result) for result in results if not isinstance(result, list)) == [NotFound]


@pytest.mark.parametrize(
    "weak",
    ["", "kort", "lagom11char", "password1234", "aaaaaaaaaaaaaaaa", "123456789012", "eva.example.org", "x" * 257],
)
async def test_weak_password_is_refused_and_nothing_is_used_up(world, weak):
    token = await added(world)
    totp = pyotp.TOTP((await world.services.organisers.enrolment(token)).secret)
    with pytest.raises(InvalidInput) as refused:
        await world.services.organisers.enrol(token, weak, totp.at(world.clock.now))
    assert refused.value.field == "password"
    assert await world.services.organisers.enrolment(token)


async def test_enrolment_needs_a_code_of_the_authenticator(world):
    token = await added(world)
    secret = (await world.services.organisers.enrolment(token)).secret
    for wrong in ("", "000", pyotp.TOTP(pyotp.random_base32()).at(world.clock.now), secret):
        with pytest.raises(InvalidInput) as refused:
            await world.services.organisers.enrol(token, PASSWORD, wrong)
        assert refused.value.field == "code"
    with pytest.raises(NotVerified):
        await password(world, "")


# Signing in


async def test_signing_in_takes_both_factors_in_order(world):
    await enrolled(world)
    o = world.services.organisers
    with pytest.raises(SignInRequired):
        await code(world)  # no password before
    await password(world)
    with pytest.raises(SignInRequired):
        await o.current(BROWSER)  # the password alone opens nothing
    with pytest.raises(NotVerified):
        await code(world, "000000")
    session = await code(world)
    assert (await o.current(session)).email == EMAIL
    with pytest.raises(SignInRequired):
        await code(world, browser=session)


async def test_session_value_changes_at_sign_in_and_the_old_one_opens_nothing(world):
    await enrolled(world)
    await password(world)
    session = await code(world)
    assert session != BROWSER
    with pytest.raises(SignInRequired):
        await world.services.organisers.current(BROWSER)
    world.clock.forward(seconds=30)
    with pytest.raises(SignInRequired):
        await code(world)  # the password given before is used up
    assert session not in str(world.sql("SELECT * FROM sessions"))


async def test_code_has_to_follow_the_password_within_five_minutes(world):
    await enrolled(world)
    await password(world)
    world.clock.forward(minutes=5, seconds=1)
    with pytest.raises(SignInRequired):
        await code(world)


async def test_password_of_one_browser_lets_no_other_go_on(world):
    await enrolled(world)
    await password(world)
    with pytest.raises(SignInRequired):
        await code(world, browser="another")


async def test_authenticator_step_counts_once_and_never_an_earlier_one(world):
    await enrolled(world)
    await password(world)
    used, earlier = world.totp.at(world.clock.now), world.totp.at(world.clock.now - STEP)
    await code(world, used)
    for again in (used, earlier):
        await password(world)
        with pytest.raises(NotVerified):
            await code(world, again)


async def test_enrolments_own_code_does_not_sign_in(world):
    await enrolled(world)
    world.clock.forward(seconds=-30)
    await password(world)
    with pytest.raises(NotVerified):
        await code(world)


async def test_clock_may_be_one_step_off_and_no_more(world):
    await enrolled(world)
    world.clock.forward(minutes=10)
    for steps in (-2, 2):
        await password(world)
        with pytest.raises(NotVerified):
            await code(world, world.totp.at(world.clock.now + steps * STEP))
    for steps in (-1, 1):
        await password(world)
        await code(world, world.totp.at(world.clock.now + steps * STEP))


async def test_recovery_code_stands_in_for_the_authenticator_once(world):
    codes = await enrolled(world)
    assert len(set(codes)) == 10
    await password(world)
    await code(world, f" {codes[3].upper().replace('-', ' ')}")
    await password(world)
    with pytest.raises(NotVerified):
        await code(world, codes[3])
    await code(world, codes[4])
    stored = str(world.sql("SELECT * FROM recovery_codes"))
    assert not any(value in stored or value.replace("-", "") in stored for value in codes)


async def test_recovery_codes_are_their_owners_alone(world):
    codes = await enrolled(world)
    await world.organiser("olle@example.org")
    await password(world, email="olle@example.org")
    with pytest.raises(NotVerified):
        await code(world, codes[0])


# Guessing


async def test_guesses_made_at_once_are_counted_like_guesses_in_a_row(world):
    await world.organiser(EMAIL)
    guesses = [password(world, "wrong") for _ in range(9)]
    results = await asyncio.gather(*guesses, password(world), return_exceptions=True)
    assert [type(result) for result in results].count(NotVerified) == 5
    assert isinstance(results[-1], TooManyTries)  # right, and too late


async def test_right_password_alone_does_not_forgive_failures(world):
    await world.organiser(EMAIL)
    for _ in range(4):
        with pytest.raises(NotVerified):
            await password(world, "wrong")
    await password(world)
    with pytest.raises(NotVerified):
        await password(world, "wrong")
    with pytest.raises(TooManyTries):
        await password(world)


async def test_password_check_does_the_same_work_for_nobody(world):
    await added(world)  # known, and without a password yet
    checked = []

    class Counting(PasswordHasher):
        def verify(self, stored, given):
            checked.append(stored.split("$")[1:4])
            return super().verify(stored, given)

    world.services.organisers._passwords._hasher = Counting(time_cost=1, memory_cost=16, parallelism=1)
    for email in (EMAIL, "nobody@example.org"):
        with pytest.raises(NotVerified):
            await password(world, "nobody's password", email)
    assert checked == [["argon2id", "v=19", "m=16,t=1,p=1"]] * 2


async def test_passwords_are_kept_as_argon2id_with_64_mib(world):
    stored = await Passwords().hash(PASSWORD)
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert await Passwords().verify(stored, PASSWORD)
    assert not await Passwords().verify(stored, PASSWORD + "x")


async def test_password_is_checked_while_all_the_loops_threads_wait_for_name_servers():
    free, loop = threading.Event(), asyncio.get_running_loop()
    waiting = [loop.run_in_executor(None, free.wait, 20) for _ in range(40)]
    try:
        async with asyncio.timeout(10):
            assert not await Passwords().verify(None, PASSWORD)
    finally:
        free.set()
        await asyncio.gather(*waiting)


# Sessions


async def test_session_lapses_after_half_an_hour_of_nothing(world):
    _, session = await world.signed_in()
    for _ in range(4):
        world.clock.forward(minutes=29)
        await world.services.organisers.current(session)
    world.clock.forward(minutes=30, seconds=1)
    with pytest.raises(SignInRequired):
        await world.services.organisers.current(session)


async def test_session_lasts_twelve_hours_at_most(world):
    _, session = await world.signed_in()
    for _ in range(35):
        world.clock.forward(minutes=20)
        await world.services.organisers.current(session)
    world.clock.forward(minutes=20)
    with pytest.raises(SignInRequired):
        await world.services.organisers.current(session)


async def test_signing_out_ends_this_session_and_everywhere_all_of_them(world):
    o = world.services.organisers
    who, first = await world.signed_in()
    sessions = [first]
    for _ in range(2):
        world.clock.forward(seconds=30)
        await password(world)
        sessions.append(await code(world))
    await o.sign_out(sessions[0])
    with pytest.raises(SignInRequired):
        await o.current(sessions[0])
    await o.current(sessions[1])
    await o.sign_out_everywhere(who)
    for session in sessions[1:]:
        with pytest.raises(SignInRequired):
            await o.current(session)


# Their own alone


async def test_someone_elses_meeting_is_not_found(world):
    eva, _ = await world.signed_in()
    meeting = await world.meeting(eva)
    (anna,) = (await world.services.meetings.view(eva, meeting.id)).participants
    olle, _ = await world.signed_in("olle@example.org")
    m = world.services.meetings
    assert await m.list(olle) == []
    for verb, what in (
        (m.view, meeting.id),
        (m.end, meeting.id),
        (m.resend, anna.invitation.id),
        (m.withdraw, anna.invitation.id),
        (m.put_out, anna.invitation.id),
        (m.view, "no such meeting"),
        (m.withdraw, "no such invitation"),
    ):
        with pytest.raises(NotFound):
            await verb(olle, what)
    with pytest.raises(NotFound):
        await m.invite(olle, meeting.id, anna.invitation)
    assert [x.id for x in await m.list(eva)] == [meeting.id]
    assert (world.door.ended, world.door.expelled) == ([], [])
