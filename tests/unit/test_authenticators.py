"""Authenticators of invited people: each code once, clocks that drift, who adds one, and that it lifts nobody."""

import asyncio
import contextlib
import dataclasses
from datetime import datetime, timedelta

import pyotp
import pytest
from tests.unit.world import ANNA, BROWSER, MOBILE, OTHER_BROWSER, World, build

from sluss.domain.assurance import Method, Purpose
from sluss.domain.audit import Action
from sluss.domain.errors import NotVerified, Told, TooManyTries
from sluss.domain.limits import TOTP_PERSON, TOTP_PERSON_BROWSER, TRIES_BROWSER, TRIES_LINK_ADDRESS
from sluss.factors import totp
from sluss.services.common import new_id, new_link
from sluss.services.participation import ADDING
from sluss.services.passkeys import UNUSED
from sluss.services.verification import DECOYS
from sluss.store.proof import Verification

TOLD = "192.0.2.7"
STEP = timedelta(seconds=totp.STEP_SECONDS)
BO = ("Bo Ek", "bo@example.org", "070-174 06 06")
BOS_MOBILE = "+46701740606"


class App:
    """An authenticator app, on a phone whose clock is `ahead` by so much."""

    def __init__(self, secret: str, clock, ahead: timedelta = timedelta(0)) -> None:
        self._totp, self._clock, self.ahead = pyotp.TOTP(secret), clock, ahead

    def code(self, at: datetime | None = None) -> str:
        return self._totp.at((at or self._clock.now) + self.ahead)


@pytest.fixture
async def invited(world):
    """Anna and Bo, invited to a meeting that is open."""
    world.eva, world.session = await world.signed_in()
    world.held = await world.meeting(world.eva, ANNA, BO)
    return world


@pytest.fixture
async def anna(invited):
    """Anna's authenticator, added after an SMS code; a step later."""
    return await added(invited)


async def added(world: World, link: str | None = None, browser: str = BROWSER, to: str = MOBILE) -> App:
    """Somebody sees the invitation with their phone, and adds an authenticator."""
    await world.verified(link or world.link(), Purpose.VIEW, browser, to)
    return await add(world, link, browser)


async def add(world: World, link: str | None = None, browser: str = BROWSER) -> App:
    link = link or world.link()
    app = App((await world.services.authenticators.offered(link, browser)).secret, world.clock)
    await world.services.authenticators.add(link, browser, app.code())
    world.clock.now += STEP
    return app


async def proved(
    world: World, code: str, purpose=Purpose.VIEW, browser: str = OTHER_BROWSER, link: str | None = None
) -> None:
    await world.services.authenticators.verify(link or world.link(), browser, purpose, code, TOLD)


async def used(world: World, app: App, purpose=Purpose.VIEW, browser: str = OTHER_BROWSER, link=None) -> None:
    """A right code; then the next step begins."""
    await proved(world, app.code(), purpose, browser, link)
    world.clock.now += STEP


async def sees(world: World, browser: str, link: str | None = None) -> bool:
    return await world.services.participation.look(link or world.link(), browser) is not None


async def offers(world: World, link: str | None = None) -> bool:
    return Method.TOTP in await world.services.participation.methods(link or world.link())


async def added_after(world: World, method: Method, link: str | None = None, browser: str = BROWSER) -> App:
    """An authenticator added after a verification by a method that this world cannot do: put in by hand."""
    link = link or world.link()
    link_hash, hashed = world.ground.link_hash(link), world.ground.session_hash(browser)

    def work(tx):
        subject = world.ground.phone_hash(MOBILE) if method is Method.SMS else "somebody"
        proof = Verification(new_id(), tx.invitations.id_of(link_hash), method, subject, world.clock.now)
        tx.verifications.add(proof, hashed, Purpose.VIEW)

    await world.store.run(work)
    return await add(world, link, browser)


# Using one


async def test_authenticator_shows_the_invitation_and_then_opens_the_meeting(invited, anna):
    assert await offers(invited)
    await used(invited, anna)
    assert await sees(invited, OTHER_BROWSER)
    view = await invited.services.participation.look(invited.link(), OTHER_BROWSER)
    assert view.methods == (Method.TOTP,)
    await used(invited, anna, Purpose.JOIN)
    ticket = await invited.services.tickets.for_participant(invited.link(), OTHER_BROWSER)
    assert (await invited.authenticate(ticket.token, ticket.room)).method == "totp"


async def test_it_is_written_down_with_its_level(invited, anna):
    await used(invited, anna)
    (entry,) = [e for e in await invited.services.audit.newest(1) if e.action is Action.VERIFIED]
    assert (entry.outcome, entry.assurance, entry.details["method"]) == ("done", "urn:sluss:acr:aal1", "totp")


async def test_each_code_counts_once_for_all_purposes_links_and_browsers(invited, anna):
    await invited.meeting(invited.eva, ANNA)
    code = anna.code()
    await proved(invited, code)
    for purpose, browser in [(Purpose.JOIN, OTHER_BROWSER), (Purpose.VIEW, OTHER_BROWSER), (Purpose.VIEW, "a third")]:
        with pytest.raises(NotVerified, match="wrong or used"):
            await proved(invited, code, purpose, browser)
    with pytest.raises(NotVerified, match="wrong or used"):
        await proved(invited, anna.code(invited.clock.now - STEP))


async def test_code_that_confirmed_the_authenticator_opens_nothing(invited, anna):
    with pytest.raises(NotVerified, match="wrong or used"):
        await proved(invited, anna.code(invited.clock.now - STEP))


async def test_one_code_sent_many_times_at_once_counts_once(invited, anna):
    code = anna.code()
    tries = [proved(invited, code, browser=f"browser {n}") for n in range(8)]
    done = await asyncio.gather(*tries, return_exceptions=True)
    assert sorted(type(one).__name__ for one in done) == ["NoneType"] + ["NotVerified"] * 7
    assert sum([await sees(invited, f"browser {n}") for n in range(8)]) == 1


async def test_two_of_the_store_cannot_use_one_step(invited, anna):
    """The step is used up by the UPDATE itself, and not by having looked before."""
    (row,) = invited.sql("SELECT id, step FROM authenticators")
    step = row["step"] + 1

    def work(tx):
        return [tx.authenticators.use_step(row["id"], step, 0, invited.clock.now) for _ in range(2)]

    assert await invited.store.run(work) == [True, False]


@pytest.mark.parametrize("code", ["", "000000", "12345", "1234567", "é23456", "١٢٣٤٥٦"])
async def test_wrong_code_is_refused(invited, anna, code):
    with pytest.raises(NotVerified):
        await proved(invited, code)
    assert not await sees(invited, OTHER_BROWSER)


async def test_another_persons_code_is_refused(invited, anna):
    bo = await added(invited, invited.link(BO[1]), "Bo's browser", BOS_MOBILE)
    with pytest.raises(NotVerified):
        await proved(invited, bo.code())
    await used(invited, bo, link=invited.link(BO[1]))


async def test_who_saw_the_invitation_by_phone_does_not_enter_by_authenticator_nor_by_a_new_one(invited, anna):
    with pytest.raises(NotVerified, match="not the person who saw"):
        await proved(invited, anna.code(), Purpose.JOIN, BROWSER)
    invited.clock.now += STEP
    await used(invited, anna, browser=BROWSER)
    new = await add(invited)
    with pytest.raises(NotVerified, match="not the person who saw"):
        await proved(invited, new.code(), Purpose.JOIN, BROWSER)
    with pytest.raises(NotVerified):
        await proved(invited, anna.code(), Purpose.JOIN, BROWSER)


@pytest.mark.parametrize("kind", ["wrong", "withdrawn"])
async def test_link_that_is_none_is_refused_with_the_same_words(invited, anna, kind):
    link = invited.link() if kind == "withdrawn" else new_link()
    if kind == "withdrawn":
        invited.sql("UPDATE invitations SET state = 'withdrawn'")
    for of, code in ((link, anna.code()), (invited.link(BO[1]), "000000")):
        with pytest.raises(NotVerified, match=r"^wrong or used authenticator code$"):
            await proved(invited, code, link=of)


async def test_some_links_that_are_none_offer_an_authenticator_and_always_the_same_ones(invited):
    links = [new_link() for _ in range(80)]
    offered = [await offers(invited, link) for link in links]
    assert offered == [await offers(invited, link) for link in links]
    assert 0 < sum(offered) < len(links) * 2 / DECOYS
    assert not await offers(invited, invited.link(BO[1]))


# Clocks


@pytest.mark.parametrize("steps", [-2, -1, 0, 1, 2])
async def test_code_of_one_step_before_or_after_counts_and_no_other(invited, anna, steps):
    invited.clock.now += 5 * STEP
    with contextlib.nullcontext() if abs(steps) < 2 else pytest.raises(NotVerified):
        await proved(invited, anna.code(invited.clock.now + steps * STEP))


@pytest.mark.parametrize("way", [-1, 1])
async def test_steady_skew_is_followed_and_the_window_moves_and_does_not_widen(invited, anna, way):
    invited.clock.now += 5 * STEP
    for ahead in (1, 1, 1, 2, 2, 2, 2, 3):
        anna.ahead = way * ahead * STEP
        await used(invited, anna)
        invited.clock.now += 5 * STEP
    for ahead, right in ((0, False), (4, False), (1, True)):
        anna.ahead = way * ahead * STEP
        with contextlib.nullcontext() if right else pytest.raises(NotVerified):
            await proved(invited, anna.code())


def test_single_code_typed_late_moves_nothing():
    secret, now = totp.new_secret(), datetime.fromisoformat("2026-05-04T08:00:00Z")
    app, drift = pyotp.TOTP(secret), 0.0
    for steps in (-1, 0, -1, 0, 0, -1, 0):
        found = totp.match(secret, app.at(now + steps * STEP), now, drift)
        assert round(found.drift) == 0
        drift = found.drift


def test_clock_is_followed_for_five_minutes_and_no_further():
    secret, now, drift = totp.new_secret(), datetime.fromisoformat("2026-05-04T08:00:00Z"), 0.0
    app, steps = pyotp.TOTP(secret), 0
    for _ in range(200):
        if found := totp.match(secret, app.at(now + (steps + 1) * STEP), now, drift):
            drift = found.drift
            steps = round(drift)
    assert drift == totp.MOST_DRIFT
    assert totp.match(secret, app.at(now + (totp.MOST_DRIFT + 2) * STEP), now, drift) is None


def test_published_codes_match():
    """RFC 6238, appendix B: SHA-1, the last six of the eight digits."""
    secret = totp.base64.b32encode(b"12345678901234567890").decode()
    for at, code in ((59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (20000000000, "353130")):
        now = datetime.fromisoformat("1970-01-01T00:00:00Z") + timedelta(seconds=at)
        assert totp.match(secret, code, now).step == at // 30


# Guessing


async def guess(world: World, times: int, *links: str) -> None:
    """Wrong codes from many addresses, with many links of one person."""
    for n in range(times):
        with pytest.raises(NotVerified):
            await world.services.authenticators.verify(
                links[n % len(links)], f"b{n}", Purpose.VIEW, "000000", f"192.0.{n}.1"
            )


async def test_guesses_at_one_person_are_limited_over_all_links_they_have(invited, anna):
    links = [invited.link()]
    for _ in range(2):
        await invited.meeting(invited.eva, ANNA)
        links.append(invited.link())
    await guess(invited, TOTP_PERSON.many - 1, *links[:2])
    await used(invited, anna, link=links[2])
    await guess(invited, 1, *links[:2])
    with pytest.raises(NotVerified, match="too many"):
        await proved(invited, anna.code(), link=links[2], browser="a third")
    invited.clock.now += TOTP_PERSON.interval
    await proved(invited, anna.code(), link=links[2], browser="a third")


async def test_guesses_with_one_link_do_not_tell_which_others_are_the_persons_and_live(invited, anna):
    guessed = invited.link()
    withdrawn = await invited.meeting(invited.eva, ANNA)
    links = [invited.link()]
    await invited.meeting(invited.eva, ANNA)
    links += [invited.link(), new_link()]
    view = await invited.services.meetings.view(invited.eva, withdrawn.id)
    await invited.services.meetings.withdraw(invited.eva, view.participants[0].invitation.id)
    await guess(invited, TOTP_PERSON.many, guessed)
    for link in links:
        for _ in range(2):
            with pytest.raises(NotVerified):
                await proved(invited, "000000", link=link)


async def test_guesses_from_one_address_are_limited_and_alike_for_a_link_that_is_none(invited, anna):
    for link in (invited.link(), new_link()):
        for _ in range(TRIES_LINK_ADDRESS.many):
            with pytest.raises(NotVerified):
                await proved(invited, "000000", link=link)
        with pytest.raises(TooManyTries):
            await proved(invited, "000000", link=link)


async def test_verified_browser_is_not_locked_by_others_guesses_and_has_a_limit_of_its_own(invited, anna):
    for n in range(TOTP_PERSON.many):
        with contextlib.suppress(NotVerified, TooManyTries):
            await invited.services.authenticators.verify(invited.link(), f"b{n}", Purpose.VIEW, "0", f"192.0.{n}.1")
    await used(invited, anna, browser=BROWSER)
    for _ in range(TRIES_BROWSER.many):
        with pytest.raises(NotVerified):
            await proved(invited, "000000", browser=BROWSER)
    with pytest.raises(TooManyTries):
        await proved(invited, anna.code(), browser=BROWSER)


async def test_who_has_the_phone_guesses_no_more_often_in_many_verified_browsers(invited, anna):
    """They verify by SMS with the link, as often as they like, and the authenticator was added after BankID, say."""
    for n in range(TOTP_PERSON_BROWSER.many // TRIES_BROWSER.many):
        await invited.verified(invited.link(), Purpose.VIEW, f"b{n}")
        for _ in range(TRIES_BROWSER.many):
            with pytest.raises(NotVerified):
                await proved(invited, "000000", browser=f"b{n}")
    await invited.verified(invited.link(), Purpose.VIEW, "one more")
    with pytest.raises(TooManyTries):
        await proved(invited, "000000", browser="one more")


async def test_organiser_undoes_the_limits_of_who_has_called(invited, anna):
    for n in range(TOTP_PERSON.many):
        with contextlib.suppress(NotVerified, TooManyTries):
            await invited.services.authenticators.verify(invited.link(), f"b{n}", Purpose.VIEW, "0", f"192.0.{n}.1")
    with pytest.raises(TooManyTries):
        await proved(invited, anna.code())
    view = await invited.services.meetings.view(invited.eva, invited.held.id)
    assert [bool(status.locks) for status in view.participants] == [True, False]
    await invited.services.meetings.unlock(invited.eva, view.participants[0].invitation.id)
    await proved(invited, anna.code())


# Whose it is, and what it is worth


async def test_organiser_is_told_of_the_right_persons_code_that_proves_too_little_and_of_no_wrong_one(invited, anna):
    invited.sql("UPDATE meetings SET sensitivity = 'confidential'")
    for link, code in ((invited.link(), "000000"), (new_link(), anna.code()), (invited.link(BO[1]), anna.code())):
        with pytest.raises(NotVerified):
            await proved(invited, code, link=link)
        assert invited.told() == set()
    with pytest.raises(NotVerified, match="not accepted for this class") as refused:
        await proved(invited, anna.code())
    assert refused.value.public == NotVerified.public, "in the same words as a wrong one"
    view = await invited.services.meetings.view(invited.eva, invited.held.id)
    assert [status.too_weak_at for status in view.participants] == [invited.clock.now, None]
    assert invited.told() == {Told.TOO_WEAK}


async def test_code_that_is_only_asked_for_tells_the_organiser_nothing(invited):
    """Whoever has the link can ask, without end."""
    invited.sql("UPDATE meetings SET sensitivity = 'confidential'")
    await invited.services.participation.send_code(invited.link(), OTHER_BROWSER, Purpose.VIEW, "sv", TOLD)
    with pytest.raises(NotVerified):
        await invited.services.participation.verify(invited.link(), OTHER_BROWSER, Purpose.VIEW, "000000", TOLD)
    assert invited.told() == set()


async def test_link_that_was_withdrawn_tells_nobody_of_what_is_proved_with_it(invited, anna):
    invited.sql("UPDATE meetings SET sensitivity = 'confidential'")
    invited.sql("UPDATE invitations SET state = 'withdrawn'")
    with pytest.raises(NotVerified):
        await proved(invited, anna.code())
    assert invited.told() == set()


async def test_authenticator_is_the_persons_in_a_later_invitation_to_the_same_address_and_number(invited, anna):
    invited.clock.forward(days=300)
    await invited.meeting(invited.eva, ("Anna L", ANNA[1], "+46 70 174 06 05"))
    assert await offers(invited)
    await used(invited, anna, browser="a new browser")
    assert await sees(invited, "a new browser")


@pytest.mark.parametrize("changed", [("Anna Lindberg", "anna@other.example", ANNA[2]), (*ANNA[:2], "070-174 06 07")])
async def test_another_address_or_number_is_another_person(invited, anna, changed):
    await invited.meeting(invited.eva, changed)
    link = invited.link(changed[1])
    assert not await offers(invited, link)
    with pytest.raises(NotVerified):
        await proved(invited, anna.code(), link=link)


async def test_invitation_to_somebody_else_from_then_on_is_not_opened_by_it(invited, anna):
    await used(invited, anna)
    invited.change_invitation(ANNA[1], mobile=BOS_MOBILE)
    assert not await sees(invited, OTHER_BROWSER)


@pytest.fixture
async def able(tmp_path):
    """An installation that can do every method."""
    async with build(tmp_path, durable=False, methods=frozenset(Method)) as world:
        world.eva, world.session = await world.signed_in()
        for name in ("internal", "confidential", "secret"):
            world.change_class(name, waiting_room=False)
        yield world


@pytest.mark.parametrize(
    ("by", "opens"),
    [
        (Method.SMS, ["internal"]),
        (Method.BANKID, ["internal", "confidential"]),
        (Method.SIGN_IN, ["internal", "confidential"]),
        (Method.SMARTCARD, ["internal", "confidential"]),
    ],
)
async def test_authenticator_opens_only_what_the_proof_would_that_it_was_added_after(able, by, opens):
    await able.meeting(able.eva, ANNA)
    anna = await added_after(able, by)
    opened = []
    for name in ("internal", "confidential", "secret"):
        await able.meeting(able.eva, ANNA, sensitivity=name)
        offered = await offers(able)
        try:
            await used(able, anna, browser=name)
            await used(able, anna, Purpose.JOIN, browser=name)
            await able.services.tickets.for_participant(able.link(), name)
        except NotVerified:
            assert not offered
            assert not await sees(able, name)
            able.clock.now += STEP
        else:
            assert offered
            opened.append(name)
    assert opened == opens


async def test_authenticator_added_after_bankid_is_that_of_the_person_whose_number_was_given(able):
    await able.meeting(able.eva, ANNA, sensitivity="confidential")
    anna = await added_after(able, Method.BANKID)
    able.sql("UPDATE invitations SET person_hash = 'somebody'")
    await used(able, anna)
    able.sql("UPDATE invitations SET person_hash = 'the right person'")
    assert not await offers(able)
    with pytest.raises(NotVerified, match="of another person"):
        await proved(able, anna.code(), browser="a third")


async def test_authenticator_added_with_another_is_worth_no_more_than_it(able):
    await able.meeting(able.eva, ANNA)
    await used(able, await added_after(able, Method.SMS))
    second = await add(able, browser=OTHER_BROWSER)
    await able.meeting(able.eva, ANNA, sensitivity="confidential")
    with pytest.raises(NotVerified, match="not accepted for this class"):
        await proved(able, second.code(), browser="a third")


async def test_class_made_stricter_takes_back_what_the_authenticator_opened(invited, anna):
    await used(invited, anna)
    await used(invited, anna, Purpose.JOIN)
    view = dataclasses.replace(invited.ground.policy.of("internal").view, methods=(Method.TOTP, Method.BANKID))
    invited.change_class(view=view)
    assert not await sees(invited, OTHER_BROWSER)
    with pytest.raises(NotVerified):
        await invited.services.tickets.for_participant(invited.link(), OTHER_BROWSER)


async def test_class_that_no_other_method_here_opens_is_not_open_to_authenticators_either(world):
    assert [one.name for one in world.services.meetings.classes()] == ["internal"]


# Adding and removing


async def test_authenticator_is_added_by_nobody_who_has_not_proved_who_they_are_just_before(invited):
    verbs = invited.services.authenticators
    for _ in range(2):
        with pytest.raises(NotVerified):
            await verbs.offered(invited.link(), BROWSER)
        await invited.verified(invited.link(), Purpose.VIEW)
        invited.clock.now += ADDING
        assert await sees(invited, BROWSER)


async def test_authenticator_is_kept_when_its_first_code_is_right_and_for_the_browser_that_was_shown_it(invited):
    verbs = invited.services.authenticators
    await invited.verified(invited.link(), Purpose.VIEW)
    await invited.verified(invited.link(), Purpose.VIEW, OTHER_BROWSER)
    app = App((await verbs.offered(invited.link(), BROWSER)).secret, invited.clock)
    for browser, code in ((BROWSER, "000000"), (OTHER_BROWSER, app.code())):
        with pytest.raises(NotVerified, match="wrong first code"):
            await verbs.add(invited.link(), browser, code)
    assert invited.sql("SELECT * FROM authenticators") == []
    await verbs.add(invited.link(), BROWSER, app.code())


async def test_offer_is_the_same_until_it_is_taken_and_the_store_has_it_sealed_alone(invited):
    verbs = invited.services.authenticators
    await invited.verified(invited.link(), Purpose.VIEW)
    first, again = [await verbs.offered(invited.link(), BROWSER) for _ in range(2)]
    assert first == again
    assert first.otpauth_uri.startswith("otpauth://totp/Sluss%20Demo:Anna%20Lindberg?secret=")
    await verbs.add(invited.link(), BROWSER, App(first.secret, invited.clock).code())
    assert (await verbs.offered(invited.link(), BROWSER)).secret != first.secret
    assert first.secret.encode() not in invited.database.read_bytes()


async def test_class_that_does_not_accept_it_offers_none(invited):
    view = dataclasses.replace(invited.ground.policy.of("internal").view, methods=(Method.SMS, Method.PASSKEY))
    invited.change_class(view=view)
    await invited.verified(invited.link(), Purpose.VIEW)
    assert not (await invited.services.participation.look(invited.link(), BROWSER)).may_add_authenticator
    with pytest.raises(NotVerified, match="not accepted"):
        await invited.services.authenticators.offered(invited.link(), BROWSER)


async def test_invitation_offers_to_add_one_to_who_has_none_and_has_just_proved_who_they_are(invited):
    await invited.verified(invited.link(), Purpose.VIEW)
    look = invited.services.participation.look
    assert (await look(invited.link(), BROWSER)).may_add_authenticator
    await add(invited)
    view = await look(invited.link(), BROWSER)
    assert not view.may_add_authenticator
    assert view.authenticator is not None


async def test_removed_authenticator_opens_nothing_and_shuts_what_it_opened(invited, anna):
    await used(invited, anna)
    await invited.services.authenticators.forget(invited.link(), OTHER_BROWSER)
    assert not await sees(invited, OTHER_BROWSER)
    assert not await offers(invited)
    with pytest.raises(NotVerified):
        await proved(invited, anna.code(), browser="a third")
    with pytest.raises(NotVerified):
        await invited.services.authenticators.forget(invited.link(), OTHER_BROWSER)


async def test_new_authenticator_takes_the_old_ones_place(invited, anna):
    new = await added(invited)
    with pytest.raises(NotVerified):
        await proved(invited, anna.code())
    await used(invited, new)


async def test_adding_and_removing_are_written_down(invited, anna):
    await invited.services.authenticators.forget(invited.link(), BROWSER)
    entries = [e for e in await invited.services.audit.newest(9) if e.action.value.startswith("authenticator-")]
    assert {e.action: e.details for e in entries} == {
        Action.AUTHENTICATOR_ADDED: {"method": "sms"},
        Action.AUTHENTICATOR_REMOVED: {},
    }
    assert len({(e.actor, e.subject) for e in entries}) == 1


async def test_authenticator_that_nobody_uses_is_forgotten(invited, anna):
    for days, left in ((399, 1), (1, 0)):
        invited.clock.forward(days=days)
        await invited.store.run(lambda tx: tx.authenticators.purge(invited.clock.now - UNUSED))
        assert len(invited.sql("SELECT * FROM authenticators")) == left
