"""Passkeys: what is asked of one, what is refused, and that adding one lifts nobody."""

import contextlib
import dataclasses
import json
from datetime import timedelta
from uuid import UUID

import pytest
from tests.unit.authenticator import Authenticator, Maker, data, text
from tests.unit.policies import loaded, shipped
from tests.unit.world import ANNA, BROWSER, MOBILE, OTHER_BROWSER, PORTAL, World, build

from sluss.domain.assurance import Method, Purpose
from sluss.domain.audit import Action
from sluss.domain.errors import ConfigError, InvalidInput, NotFound, NotVerified, SignInRequired, Told, TooManyTries
from sluss.domain.limits import PASSKEY_ADDRESS
from sluss.services.common import new_id, new_link
from sluss.services.passkeys import LIFETIME, MOST, UNUSED
from sluss.services.verification import DECOYS
from sluss.store.proof import Verification

TOLD = "192.0.2.7"
BO = ("Bo Ek", "bo@example.org", "070-174 06 06")
BOS_MOBILE = "+46701740606"


@pytest.fixture
async def invited(world):
    """Anna and Bo, invited to a meeting that is open."""
    world.eva, world.session = await world.signed_in()
    world.held = await world.meeting(world.eva, ANNA, BO)
    await world.worker.deliver_due()
    return world


@pytest.fixture
async def anna(invited):
    """Anna's passkey, added after an SMS code."""
    return await added(invited)


async def added(
    world: World, link: str | None = None, browser: str = BROWSER, to: str = MOBILE, **kind
) -> Authenticator:
    """Somebody sees the invitation with their phone, and adds a passkey."""
    link, authenticator = link or world.link(), Authenticator(**kind)
    await world.verified(link, Purpose.VIEW, browser, to)
    options = await world.services.passkeys.begin_adding(link, browser)
    await world.services.passkeys.add(link, browser, authenticator.create(options))
    return authenticator


async def proved(
    world: World, authenticator: Authenticator, purpose=Purpose.VIEW, browser: str = BROWSER, link: str | None = None
) -> None:
    """Both halves of a verification."""
    link = link or world.link()
    options = await world.services.passkeys.begin(link, browser, purpose, TOLD)
    await world.services.passkeys.verify(link, browser, purpose, authenticator.get(options), TOLD)


async def sees(world: World, browser: str, link: str | None = None) -> bool:
    return await world.services.participation.look(link or world.link(), browser) is not None


async def enrolled_by(world: World, method: Method, link: str | None = None, browser: str = BROWSER) -> Authenticator:
    """A passkey added after a verification by a method that this version cannot do: put in by hand."""
    link, authenticator = link or world.link(), Authenticator()
    link_hash, hashed = world.ground.link_hash(link), world.ground.session_hash(browser)

    def work(tx):
        subject = world.ground.phone_hash(MOBILE) if method is Method.SMS else "somebody"
        proof = Verification(new_id(), tx.invitations.id_of(link_hash), method, subject, world.clock.now)
        tx.verifications.add(proof, hashed, Purpose.VIEW)

    await world.store.run(work)
    options = await world.services.passkeys.begin_adding(link, browser)
    await world.services.passkeys.add(link, browser, authenticator.create(options))
    return authenticator


async def last(world: World, action: Action) -> dict:
    (entry,) = [e for e in await world.services.audit.newest(3) if e.action is action][-1:]
    return {"outcome": entry.outcome.value, "acr": entry.assurance, **entry.details}


# Using one


async def test_passkey_shows_the_invitation_and_then_opens_the_meeting(invited, anna):
    await proved(invited, anna, Purpose.VIEW, OTHER_BROWSER)
    assert await sees(invited, OTHER_BROWSER)
    await proved(invited, anna, Purpose.JOIN, OTHER_BROWSER)
    ticket = await invited.services.tickets.for_participant(invited.link(), OTHER_BROWSER)
    assert (await invited.authenticate(ticket.token, ticket.room)).method == "passkey"


async def test_it_is_written_down_with_its_level(invited, anna):
    await proved(invited, anna)
    told = await last(invited, Action.VERIFIED)
    assert (told["outcome"], told["acr"], told["method"]) == ("done", "urn:sluss:acr:aal2", "passkey")


async def test_options_ask_for_the_user_to_be_verified_and_name_no_passkey(invited, anna):
    told = await invited.services.passkeys.begin(invited.link(), BROWSER, Purpose.VIEW, TOLD)
    assert told == {
        "challenge": told["challenge"],
        "rpId": PORTAL,
        "userVerification": "required",
        "timeout": LIFETIME.seconds * 1000,
    }
    assert len(data(told["challenge"])) == 32
    selection = anna.told["authenticatorSelection"]
    assert (selection["userVerification"], selection["residentKey"]) == ("required", "required")
    assert (anna.told["rp"]["id"], anna.told["attestation"]) == (PORTAL, "none")
    assert ANNA[1] not in json.dumps(anna.told)


WRONG = {
    "wrong origin": {"origin": "https://portal.sluss.test.evil.example"},
    "subdomain": {"origin": f"https://x.{PORTAL}"},
    "no TLS": {"origin": f"http://{PORTAL}"},
    "other port": {"origin": f"https://{PORTAL}:8443"},
    "wrong relying party": {"host": "meet.sluss.test"},
    "user not verified": {"verifies_user": False},
    "other site's frame": {"more": {"crossOrigin": True}},
    "other ceremony": {"more": {"type": "webauthn.create"}},
    "other challenge": {"more": {"challenge": text(bytes(32))}},
}


@pytest.mark.parametrize("how", WRONG)
async def test_proof_is_refused_and_its_challenge_used_up(invited, anna, how):
    wrong = dataclasses.replace(anna, **WRONG[how])
    options = await invited.services.passkeys.begin(invited.link(), OTHER_BROWSER, Purpose.VIEW, TOLD)
    for device in (wrong, anna):
        with pytest.raises(NotVerified):
            await invited.services.passkeys.verify(
                invited.link(), OTHER_BROWSER, Purpose.VIEW, device.get(options), TOLD
            )
    assert not await sees(invited, OTHER_BROWSER)
    await proved(invited, anna, browser=OTHER_BROWSER)


@pytest.mark.parametrize("how", [how for how in WRONG if how != "other ceremony"])
async def test_passkey_made_wrongly_is_not_kept(invited, how):
    await invited.verified(invited.link(), Purpose.VIEW)
    options = await invited.services.passkeys.begin_adding(invited.link(), BROWSER)
    with pytest.raises(NotVerified):
        await invited.services.passkeys.add(invited.link(), BROWSER, Authenticator(**WRONG[how]).create(options))
    assert invited.sql("SELECT * FROM passkeys") == []


async def test_key_of_a_kind_that_was_not_asked_for_is_not_kept(invited):
    await invited.verified(invited.link(), Purpose.VIEW)
    for algorithm in (-65535, -99, 0):
        options = await invited.services.passkeys.begin_adding(invited.link(), BROWSER)
        made = Authenticator().create(options, algorithm=algorithm)
        with pytest.raises(NotVerified):
            await invited.services.passkeys.add(invited.link(), BROWSER, made)
    assert invited.sql("SELECT * FROM passkeys") == []


async def test_forged_signature_is_refused(invited, anna):
    with pytest.raises(NotVerified):
        await proved(invited, Authenticator(id=anna.id), browser=OTHER_BROWSER)


async def test_replayed_proof_is_refused(invited, anna):
    options = await invited.services.passkeys.begin(invited.link(), BROWSER, Purpose.VIEW, TOLD)
    said = anna.get(options)
    await invited.services.passkeys.verify(invited.link(), BROWSER, Purpose.VIEW, said, TOLD)
    for _ in range(2):
        with pytest.raises(NotVerified):
            await invited.services.passkeys.verify(invited.link(), BROWSER, Purpose.VIEW, said, TOLD)
        await invited.services.passkeys.begin(invited.link(), BROWSER, Purpose.VIEW, TOLD)


async def test_challenge_lasts_five_minutes(invited, anna):
    for late, ok in ((LIFETIME - timedelta(seconds=1), True), (LIFETIME, False)):
        options = await invited.services.passkeys.begin(invited.link(), BROWSER, Purpose.VIEW, TOLD)
        invited.clock.now += late
        try:
            await invited.services.passkeys.verify(invited.link(), BROWSER, Purpose.VIEW, anna.get(options), TOLD)
        except NotVerified:
            assert not ok
        else:
            assert ok


async def test_challenge_is_for_one_browser_link_and_purpose(invited, anna):
    s, asked = invited.services, (invited.link(), BROWSER, Purpose.VIEW)
    elsewhere = [
        (invited.link(), OTHER_BROWSER, Purpose.VIEW),
        (invited.link(BO[1]), BROWSER, Purpose.VIEW),
        (invited.link(), BROWSER, Purpose.JOIN),
    ]
    for place in elsewhere:
        said = anna.get(await s.passkeys.begin(*asked, TOLD))
        with pytest.raises(NotVerified, match="nothing to sign"):
            await s.passkeys.verify(*place, said, TOLD)
    said = anna.get(await s.passkeys.begin(*asked, TOLD))
    with pytest.raises(NotVerified):
        await s.passkeys.sign_in(BROWSER, said, TOLD)
    await s.passkeys.verify(*asked, said, TOLD)


async def test_other_persons_passkey_is_refused_and_written_down(invited, anna):
    bo = await added(invited, invited.link(BO[1]), "Bo's browser", BOS_MOBILE)
    with pytest.raises(NotVerified):
        await proved(invited, bo, browser=OTHER_BROWSER)
    assert not await sees(invited, OTHER_BROWSER)
    told = await last(invited, Action.VERIFIED)
    assert (told["outcome"], told["reason"]) == ("refused", "passkey: of another person")
    view = await invited.services.meetings.view(invited.eva, invited.held.id)
    assert [status.other_person_at for status in view.participants] == [invited.clock.now, None]


async def test_right_persons_passkey_with_a_withdrawn_link_is_not_told_as_somebody_elses(invited, anna):
    before = await invited.services.meetings.view(invited.eva, invited.held.id)
    await invited.services.meetings.withdraw(invited.eva, before.participants[0].invitation.id)
    with pytest.raises(NotVerified):
        await proved(invited, anna, browser=OTHER_BROWSER)
    view = await invited.services.meetings.view(invited.eva, invited.held.id)
    assert [status.other_person_at for status in view.participants] == [None, None]


async def test_organiser_is_told_of_the_right_persons_passkey_that_proves_too_little_for_the_class(invited, anna):
    invited.sql("UPDATE meetings SET sensitivity = 'confidential'")
    before = len(invited.sql("SELECT entry FROM audit"))
    await invited.services.passkeys.begin(invited.link(), OTHER_BROWSER, Purpose.VIEW, TOLD)
    assert (invited.told(), len(invited.sql("SELECT entry FROM audit"))) == (set(), before), "asking says nothing"
    with pytest.raises(NotVerified, match="not accepted for this class"):
        await proved(invited, anna, browser=OTHER_BROWSER)
    view = await invited.services.meetings.view(invited.eva, invited.held.id)
    assert [status.too_weak_at for status in view.participants] == [invited.clock.now, None]
    assert invited.told() == {Told.TOO_WEAK}


async def test_organisers_passkey_opens_nobodys_invitation(invited, anna):
    own = await organisers(invited)
    with pytest.raises(NotVerified):
        await proved(invited, own, browser=OTHER_BROWSER)


async def test_who_saw_the_invitation_by_phone_does_not_enter_by_passkey_nor_by_another_passkey(invited, anna):
    with pytest.raises(NotVerified, match="not the person who saw"):
        await proved(invited, anna, Purpose.JOIN)
    await proved(invited, anna)
    options = await invited.services.passkeys.begin_adding(invited.link(), BROWSER)
    second = Authenticator()
    await invited.services.passkeys.add(invited.link(), BROWSER, second.create(options))
    with pytest.raises(NotVerified, match="not the person who saw"):
        await proved(invited, second, Purpose.JOIN)
    await proved(invited, anna, Purpose.JOIN)


@pytest.mark.parametrize("kind", ["wrong", "withdrawn"])
async def test_link_that_is_none_is_asked_the_same_and_refused(invited, anna, kind):
    link = invited.link() if kind == "withdrawn" else new_link()
    if kind == "withdrawn":
        invited.sql("UPDATE invitations SET state = 'withdrawn'")
    with pytest.raises(NotVerified):
        await proved(invited, anna, browser=OTHER_BROWSER, link=link)


@pytest.mark.parametrize(
    "said", ["", "{}", "[]", "null", '"x"', "{" * 50_000, '{"rawId": 5}', '{"rawId": "é", "response": {}}', "1" * 5000]
)
async def test_what_is_no_response_is_refused(invited, anna, said):
    await invited.services.passkeys.begin(invited.link(), BROWSER, Purpose.VIEW, TOLD)
    with pytest.raises(NotVerified):
        await invited.services.passkeys.verify(invited.link(), BROWSER, Purpose.VIEW, said, TOLD)


@pytest.mark.parametrize("field", ["clientDataJSON", "authenticatorData", "signature"])
@pytest.mark.parametrize("value", [None, "", 5, "!", text(b"{}"), text(b"\xff" * 400), [], {}])
async def test_response_with_a_broken_field_is_refused_and_its_words_are_not_written_down(invited, anna, field, value):
    options = await invited.services.passkeys.begin(invited.link(), BROWSER, Purpose.VIEW, TOLD)
    said = json.loads(anna.get(options))
    said["response"][field] = value
    with pytest.raises(NotVerified, match=r"passkey: [A-Za-z_ ,()0-9:.]+$"):
        await invited.services.passkeys.verify(invited.link(), BROWSER, Purpose.VIEW, json.dumps(said), TOLD)


async def test_asking_too_often_from_one_address_has_to_wait(invited):
    for _ in range(PASSKEY_ADDRESS.many):
        await invited.services.passkeys.begin(invited.link(), BROWSER, Purpose.VIEW, TOLD)
    with pytest.raises(TooManyTries):
        await invited.services.passkeys.begin(invited.link(), BROWSER, Purpose.VIEW, TOLD)
    assert await invited.services.passkeys.begin_sign_in(BROWSER, "198.51.100.1")


# Copies


async def test_copy_of_a_passkey_is_found_refused_locked_and_told(invited, anna):
    copy = anna.copy()
    await proved(invited, anna)
    with pytest.raises(NotVerified):
        await proved(invited, copy, browser=OTHER_BROWSER)
    assert (await last(invited, Action.PASSKEY_LOCKED))["outcome"] == "locked"
    for device in (anna, copy):
        with pytest.raises(NotVerified, match="locked"):
            await proved(invited, device)
    assert not await sees(invited, OTHER_BROWSER)
    assert Method.PASSKEY not in await invited.services.participation.methods(invited.link())
    view = await invited.services.meetings.view(invited.eva, invited.held.id)
    assert [status.passkey_copied for status in view.participants] == [True, False]


async def test_what_was_opened_by_a_passkey_is_shut_when_a_copy_is_found(invited, anna):
    copy = anna.copy()
    await proved(invited, anna, Purpose.VIEW, OTHER_BROWSER)
    await proved(invited, anna, Purpose.JOIN, OTHER_BROWSER)
    with pytest.raises(NotVerified):
        await proved(invited, copy, browser="a third")
    assert not await sees(invited, OTHER_BROWSER)
    with pytest.raises(NotVerified):
        await invited.services.tickets.for_participant(invited.link(), OTHER_BROWSER)


async def test_passkey_that_does_not_count_is_used_as_often_as_one_likes(invited):
    anna = await added(invited, counts=False)
    for _ in range(3):
        await proved(invited, anna)


async def test_forged_count_locks_nobody(invited, anna):
    await proved(invited, anna)
    with pytest.raises(NotVerified):
        await proved(invited, Authenticator(id=anna.id), browser=OTHER_BROWSER)
    await proved(invited, anna)


# Whose it is, and how it came to be


async def test_passkey_is_the_persons_in_a_later_invitation_to_the_same_address_and_number(invited, anna):
    invited.clock.forward(days=300)
    await invited.meeting(invited.eva, ("Anna L", "Anna@Example.org".lower(), "+46 70 174 06 05"))
    assert Method.PASSKEY in await invited.services.participation.methods(invited.link())
    await proved(invited, anna, browser="a new browser")
    assert await sees(invited, "a new browser")


@pytest.mark.parametrize("changed", [("Anna Lindberg", "anna@other.example", ANNA[2]), (*ANNA[:2], "070-174 06 07")])
async def test_another_address_or_number_is_another_person(invited, anna, changed):
    await invited.meeting(invited.eva, changed)
    link = invited.link(changed[1])
    assert Method.PASSKEY not in await invited.services.participation.methods(link)
    with pytest.raises(NotVerified):
        await proved(invited, anna, browser="a new browser", link=link)


async def test_invitation_to_somebody_else_from_then_on_is_not_opened_by_it(invited, anna):
    await proved(invited, anna, browser=OTHER_BROWSER)
    invited.change_invitation(ANNA[1], mobile=BOS_MOBILE)
    assert not await sees(invited, OTHER_BROWSER)


@pytest.fixture
async def able(tmp_path):
    """An installation that can do every method, with a meeting of each class."""
    async with build(tmp_path, durable=False, methods=frozenset(Method)) as world:
        world.eva, world.session = await world.signed_in()
        for name in ("internal", "confidential", "secret"):
            world.change_class(name, waiting_room=False)
        yield world


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize(("by", "opens"), [(Method.BANKID, False), (Method.SIGN_IN, True)])
async def test_passkey_added_after_bankid_is_that_of_the_person_whose_number_was_given(able, by, opens, second):
    await able.meeting(able.eva, ANNA, sensitivity="confidential")
    await able.worker.deliver_due()
    device = await enrolled_by(able, by)
    if second:
        await proved(able, device)
        options = await able.services.passkeys.begin_adding(able.link(), BROWSER)
        device = Authenticator()
        await able.services.passkeys.add(able.link(), BROWSER, device.create(options))
    able.sql("UPDATE invitations SET person_hash = 'somebody'")
    await proved(able, device, browser=OTHER_BROWSER)
    able.sql("UPDATE invitations SET person_hash = 'the right person'")
    assert (Method.PASSKEY in await able.services.participation.methods(able.link())) is opens
    with contextlib.nullcontext() if opens else pytest.raises(NotVerified, match="of another person"):
        await proved(able, device, browser="a new browser")


@pytest.mark.parametrize(
    ("by", "opens"),
    [
        (Method.SMS, ["internal"]),
        (Method.BANKID, ["internal", "confidential", "secret"]),
        (Method.SIGN_IN, ["internal", "confidential"]),
        (Method.SIGN_IN_HIGH, ["internal", "confidential", "secret"]),
        (Method.SMARTCARD, ["internal", "confidential", "secret"]),
    ],
)
async def test_passkey_opens_only_what_the_proof_would_that_it_was_added_after(able, by, opens):
    await able.meeting(able.eva, ANNA)
    able.change_class(
        "internal", view=dataclasses.replace(able.ground.policy.of("internal").view, methods=tuple(Method))
    )
    anna = await enrolled_by(able, by)
    opened = []
    for name in ("internal", "confidential", "secret"):
        await able.meeting(able.eva, ANNA, sensitivity=name)
        offered = Method.PASSKEY in await able.services.participation.methods(able.link())
        try:
            await proved(able, anna, browser=name)
            await proved(able, anna, Purpose.JOIN, browser=name)
            await able.services.tickets.for_participant(able.link(), name)
        except NotVerified:
            assert not offered
            assert not await sees(able, name)
        else:
            assert offered
            opened.append(name)
    assert opened == opens


async def test_second_passkey_added_with_the_first_is_worth_no_more_than_it(able):
    await able.meeting(able.eva, ANNA)
    anna = await enrolled_by(able, Method.SMS)
    await proved(able, anna, browser=OTHER_BROWSER)
    second = Authenticator()
    options = await able.services.passkeys.begin_adding(able.link(), OTHER_BROWSER)
    await able.services.passkeys.add(able.link(), OTHER_BROWSER, second.create(options))
    await able.meeting(able.eva, ANNA, sensitivity="secret")
    with pytest.raises(NotVerified, match="not accepted for this class"):
        await proved(able, second, browser="a third")


async def test_class_made_stricter_takes_back_what_the_passkey_opened(invited, anna):
    await proved(invited, anna, Purpose.VIEW, OTHER_BROWSER)
    await proved(invited, anna, Purpose.JOIN, OTHER_BROWSER)
    view = dataclasses.replace(invited.ground.policy.of("internal").view, methods=(Method.PASSKEY, Method.BANKID))
    invited.change_class(view=view)
    assert not await sees(invited, OTHER_BROWSER)
    with pytest.raises(NotVerified):
        await invited.services.tickets.for_participant(invited.link(), OTHER_BROWSER)


async def test_class_that_no_other_method_here_opens_is_not_open_to_passkeys_either(world):
    assert [one.name for one in world.services.meetings.classes()] == ["internal"]


# Adding and removing


async def test_passkey_is_added_by_nobody_who_has_not_proved_who_they_are_just_before(invited):
    for _ in range(2):
        with pytest.raises(NotVerified):
            await invited.services.passkeys.begin_adding(invited.link(), BROWSER)
        await invited.verified(invited.link(), Purpose.VIEW)
        invited.clock.forward(minutes=15)
        assert await sees(invited, BROWSER)
    options = Authenticator().create(await fresh_options(invited))
    invited.clock.forward(minutes=15)
    with pytest.raises(NotVerified):
        await invited.services.passkeys.add(invited.link(), BROWSER, options)


async def fresh_options(world: World) -> dict:
    await world.verified(world.link(), Purpose.VIEW)
    return await world.services.passkeys.begin_adding(world.link(), BROWSER)


async def test_passkey_that_is_known_already_is_not_added_to_somebody_else(invited, anna):
    await invited.verified(invited.link(BO[1]), Purpose.VIEW, "Bo's browser", BOS_MOBILE)
    options = await invited.services.passkeys.begin_adding(invited.link(BO[1]), "Bo's browser")
    with pytest.raises(NotVerified, match="known already"):
        await invited.services.passkeys.add(invited.link(BO[1]), "Bo's browser", anna.create(options))


async def test_nobody_has_more_than_ten_and_each_is_told_of_those_there_are(invited):
    await invited.verified(invited.link(), Purpose.VIEW)
    for number in range(MOST + 1):
        options = await invited.services.passkeys.begin_adding(invited.link(), BROWSER)
        assert len(options.get("excludeCredentials", [])) == number
        made = Authenticator().create(options)
        if number < MOST:
            await invited.services.passkeys.add(invited.link(), BROWSER, made)
    with pytest.raises(InvalidInput):
        await invited.services.passkeys.add(invited.link(), BROWSER, made)


async def test_invitation_offers_to_add_one_to_who_has_none_and_has_just_proved_who_they_are(invited):
    await invited.verified(invited.link(), Purpose.VIEW)
    view = await invited.services.participation.look(invited.link(), BROWSER)
    assert (view.may_add_passkey, view.passkeys) == (True, ())
    await added(invited)
    view = await invited.services.participation.look(invited.link(), BROWSER)
    assert (view.may_add_passkey, len(view.passkeys)) == (False, 1)


async def test_person_removes_their_passkey_and_it_opens_nothing(invited, anna):
    await proved(invited, anna, browser=OTHER_BROWSER)
    with pytest.raises(NotVerified):
        await invited.services.passkeys.forget(invited.link(), "a stranger's browser")
    await invited.services.passkeys.forget(invited.link(), BROWSER)
    assert not await sees(invited, OTHER_BROWSER)
    with pytest.raises(NotVerified, match="not known"):
        await proved(invited, anna)


async def test_unused_passkey_is_forgotten_but_not_an_organisers(invited, anna):
    await organisers(invited)
    invited.clock.forward(days=300)
    await invited.meeting(invited.eva, ANNA)
    await proved(invited, anna)
    for days, left in ((UNUSED.days - 1, 2), (2, 1)):
        invited.clock.forward(days=days)
        await invited.housekeeping.tick()
        invited.clock.forward(hours=1)
        await invited.housekeeping.tick()
        assert len(invited.sql("SELECT * FROM passkeys")) == left


async def test_database_holds_neither_the_key_nor_whose_it_is_in_plain(invited, anna):
    content = invited.database.read_bytes() + invited.database.with_name("sluss.db-wal").read_bytes()
    assert anna.id not in content
    assert text(anna.id).encode() not in content


# What is offered


async def test_links_that_are_none_look_now_and_then_as_if_somebody_had_one_and_always_the_same(world):
    found = []
    for _ in range(200):
        link = new_link()
        offered = await world.services.participation.methods(link)
        assert offered == await world.services.participation.methods(link)
        found.append(Method.PASSKEY in offered)
    assert 200 / DECOYS / 2 < sum(found) < 200 / DECOYS * 2


# Organisers


async def organisers(world: World, session: str | None = None) -> Authenticator:
    session, own = session or world.session, Authenticator()
    options = await world.services.passkeys.begin_adding_own(session)
    await world.services.passkeys.add_own(session, own.create(options))
    return own


async def signs_in(world: World, device: Authenticator, browser: str = OTHER_BROWSER) -> str:
    options = await world.services.passkeys.begin_sign_in(browser, TOLD)
    return (await world.services.passkeys.sign_in(browser, device.get(options), TOLD)).session


async def test_organiser_signs_in_with_a_passkey_as_with_both_factors(invited):
    own = await organisers(invited)
    session = await signs_in(invited, own)
    assert session != OTHER_BROWSER
    assert (await invited.services.organisers.current(session)).id == invited.eva.id
    told = await last(invited, Action.SIGNED_IN)
    assert (told["acr"], told["method"]) == ("urn:sluss:acr:aal2", "passkey")


@pytest.mark.parametrize("how", [how for how in WRONG if how != "other ceremony"])
async def test_organiser_is_not_signed_in_by_a_wrong_proof(invited, how):
    own = await organisers(invited)
    with pytest.raises(NotVerified):
        await signs_in(invited, dataclasses.replace(own, **WRONG[how]))
    assert (await last(invited, Action.SIGNED_IN))["outcome"] == "refused"


async def test_participants_passkey_signs_nobody_in(invited, anna):
    with pytest.raises(NotVerified, match="of no organiser"):
        await signs_in(invited, anna)


async def test_organiser_enters_the_meeting_and_reads_the_attendance_with_a_passkey(invited):
    own = await organisers(invited)
    s, meeting = invited.services, invited.held.id
    with pytest.raises(NotVerified):
        await s.attendance.report(invited.session, meeting)
    options = await s.passkeys.begin_own(invited.session, TOLD, meeting)
    await s.passkeys.verify_organiser(invited.session, meeting, own.get(options), TOLD)
    assert (await s.tickets.for_organiser(invited.session, meeting)).room == invited.held.room
    assert await s.attendance.report(invited.session, meeting)
    told = [e for e in await s.audit.newest(9) if e.action is Action.VERIFIED][-1]
    assert (told.assurance, told.details["method"]) == ("urn:sluss:acr:aal2", "passkey")


async def test_organisers_proof_is_for_one_meeting_and_by_ones_own_passkey(invited, anna):
    own = await organisers(invited)
    s = invited.services
    other = await invited.meeting(invited.eva, BO)
    said = own.get(await s.passkeys.begin_own(invited.session, TOLD, other.id))
    with pytest.raises(NotVerified):
        await s.passkeys.verify_organiser(invited.session, invited.held.id, said, TOLD)
    said = anna.get(await s.passkeys.begin_own(invited.session, TOLD, invited.held.id))
    with pytest.raises(NotVerified, match="of another person"):
        await s.passkeys.verify_organiser(invited.session, invited.held.id, said, TOLD)
    with pytest.raises(NotVerified):
        await s.tickets.for_organiser(invited.session, invited.held.id)


async def test_passkeys_are_changed_only_just_after_a_factor_was_given(invited):
    own = await organisers(invited)
    invited.clock.forward(minutes=5)
    s, (passkey,) = invited.services, (await invited.services.passkeys.account(invited.session)).passkeys
    made = Authenticator().create({"rp": {"id": PORTAL}, "challenge": text(bytes(32))})
    for change in (
        s.passkeys.begin_adding_own(invited.session),
        s.passkeys.add_own(invited.session, made),
        s.passkeys.remove_own(invited.session, passkey.id),
    ):
        with pytest.raises(NotVerified):
            await change
    with pytest.raises(NotVerified):
        await s.organisers.prove_again(invited.session, "000000", TOLD)
    assert not (await s.passkeys.account(invited.session)).proved
    await s.organisers.prove_again(invited.session, invited.totp.at(invited.clock.now), TOLD)
    await s.passkeys.begin_adding_own(invited.session)
    invited.clock.forward(minutes=5)
    options = await s.passkeys.begin_own(invited.session, TOLD)
    await s.passkeys.prove_again(invited.session, own.get(options), TOLD)
    await s.passkeys.remove_own(invited.session, passkey.id)
    with pytest.raises(NotVerified, match="not known"):
        await signs_in(invited, own)


async def test_who_signs_in_at_the_provider_alone_adds_none_that_would_outlive_their_account_there(invited):
    invited.sql("UPDATE organisers SET enrolled_at = NULL, password = NULL")
    with pytest.raises(NotVerified, match="outlive the account"):
        await invited.services.passkeys.begin_adding_own(invited.session)
    assert not (await invited.services.passkeys.account(invited.session)).enrolled


async def test_nobody_removes_another_organisers_passkey(invited):
    own = await organisers(invited)
    (passkey,) = await invited.services.passkeys.of(invited.eva)
    _, other = await invited.signed_in("nils@example.org")
    with pytest.raises(NotFound):
        await invited.services.passkeys.remove_own(other, passkey.id)
    options = await invited.services.passkeys.begin_own(other, TOLD)
    with pytest.raises(NotVerified, match="of another person"):
        await invited.services.passkeys.prove_again(other, own.get(options), TOLD)
    for change in (
        invited.services.passkeys.account("nobody's"),
        invited.services.passkeys.begin_adding_own("nobody's"),
        invited.services.passkeys.remove_own("nobody's", passkey.id),
    ):
        with pytest.raises(SignInRequired):
            await change
    assert await signs_in(invited, own)


async def test_copy_of_an_organisers_passkey_is_locked_and_shown_to_them(invited):
    own = await organisers(invited)
    copy = own.copy()
    await signs_in(invited, own)
    with pytest.raises(NotVerified):
        await signs_in(invited, copy)
    with pytest.raises(NotVerified):
        await signs_in(invited, own)
    (passkey,) = (await invited.services.passkeys.account(invited.session)).passkeys
    assert passkey.locked_at == invited.clock.now


# Models, attested


MODEL, OTHER_MODEL = UUID("2fc0579f-8113-47ea-b116-bb5a8db9202a"), UUID("ee882879-721c-4913-9775-3dfcce97072a")
MAKER = Maker()


@pytest.fixture
async def attesting(tmp_path):
    """An installation whose class `internal` takes passkeys of one model alone, and `open` of any."""
    raw = shipped()
    raw["classes"]["open"] = dict(raw["classes"]["internal"])
    raw["classes"]["internal"]["passkey_authenticators"] = {"models": [str(MODEL)], "makers": MAKER.root}
    async with build(tmp_path, durable=False, policy=loaded(tmp_path, raw)) as world:
        world.eva, world.session = await world.signed_in()
        await world.meeting(world.eva, ANNA)
        yield world


async def test_passkey_of_an_accepted_model_that_its_maker_attests_counts(attesting):
    anna = await added(attesting, model=MODEL, maker=MAKER)
    assert anna.told["attestation"] == "direct"
    await proved(attesting, anna, browser=OTHER_BROWSER)
    assert await sees(attesting, OTHER_BROWSER)
    assert attesting.sql("SELECT model FROM passkeys") == [{"model": str(MODEL)}]


NOT_ATTESTED = {
    "none": {"model": MODEL},
    "by itself": {"model": MODEL, "attests_itself": True},
    "by a stranger": {"model": MODEL, "maker": Maker("Stranger")},
    "by a stranger of the maker's name": {"model": MODEL, "maker": Maker()},
    "of another model": {"model": OTHER_MODEL, "maker": MAKER},
}


@pytest.mark.parametrize("how", NOT_ATTESTED)
async def test_passkey_of_no_accepted_model_is_not_added_where_the_class_wants_one(attesting, how):
    with pytest.raises(NotVerified, match="of no model that this class accepts"):
        await added(attesting, **NOT_ATTESTED[how])
    assert attesting.sql("SELECT * FROM passkeys") == []


async def test_attestation_of_one_model_that_is_said_to_be_of_another_is_none(attesting):
    class Liar(Maker):
        def batch(self, _: UUID) -> bytes:
            return super().batch(OTHER_MODEL)

    liar = Liar()
    liar.__dict__ |= MAKER.__dict__
    with pytest.raises(NotVerified, match="of no model that this class accepts"):
        await added(attesting, model=MODEL, maker=liar)


@pytest.mark.parametrize("how", NOT_ATTESTED)
async def test_passkey_that_was_added_elsewhere_does_not_count_where_the_class_wants_a_model(attesting, how):
    await attesting.meeting(attesting.eva, ANNA, sensitivity="open")
    anna = await added(attesting, **NOT_ATTESTED[how])
    await proved(attesting, anna, browser=OTHER_BROWSER)
    await attesting.meeting(attesting.eva, ANNA)
    assert Method.PASSKEY not in await attesting.services.participation.methods(attesting.link())
    with pytest.raises(NotVerified, match="not accepted for this class"):
        await proved(attesting, anna, browser="a third")
    assert attesting.told() == {Told.TOO_WEAK}


async def test_class_that_wants_a_model_from_now_on_shuts_what_another_opened(attesting):
    await attesting.meeting(attesting.eva, ANNA, sensitivity="open")
    anna = await added(attesting)
    await proved(attesting, anna, browser=OTHER_BROWSER)
    attesting.change_class("open", passkey_models=frozenset({str(MODEL)}))
    assert not await sees(attesting, OTHER_BROWSER)


@pytest.mark.parametrize(
    "wrong", ["yubikey", [], {"models": [], "makers": "x"}, {"models": ["x"], "makers": MAKER.root},
              {"models": [str(MODEL)], "makers": "x"}, {"models": [str(MODEL)]}],
)  # fmt: skip
def test_policy_with_models_that_are_none_or_without_makers_does_not_load(tmp_path, wrong):
    raw = shipped()
    raw["classes"]["internal"]["passkey_authenticators"] = wrong
    with pytest.raises(ConfigError, match="passkey_authenticators"):
        loaded(tmp_path, raw)
