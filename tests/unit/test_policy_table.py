"""What the policy's explanation says is what the services do: every class, purpose, method and age of a proof."""

from dataclasses import dataclass
from datetime import timedelta
from itertools import product

import pytest
from tests.unit.policies import edited, loaded, shipped
from tests.unit.world import ANNA, MOBILE, World, build

from sluss.domain.assurance import ADDED, Method, Purpose, worth
from sluss.domain.authenticators import Authenticator
from sluss.domain.drafts import MAX_PARTICIPANTS
from sluss.domain.errors import NotVerified, TooManyTries, Waiting
from sluss.domain.explain import Explanation, explain
from sluss.domain.passkeys import Passkey
from sluss.services.common import new_id
from sluss.services.purge import purge
from sluss.services.verification import accept
from sluss.store.proof import Verification

POLICIES = {
    "shipped": (shipped, ["internal", "confidential", "secret"]),
    "edited": (edited, ["internal", "confidential", "board"]),
}
CLASSES = [(policy, name) for policy, (_, names) in POLICIES.items() for name in names]
SECOND = timedelta(seconds=1)
AGES = ("new", "half", "almost too old", "just too old", "old")


def age(which: str, fresh: timedelta) -> timedelta:
    return dict(zip(AGES, (timedelta(0), fresh / 2, fresh - SECOND, fresh, fresh * 3), strict=True))[which]


@dataclass(frozen=True)
class Row:
    """A person with a link and a proof of a certain age, and what the explanation says comes of it."""

    purpose: Purpose
    method: Method
    age: timedelta
    same_person: bool
    accepted: bool
    """Whether the proof counts at all."""
    opens: bool
    """And is fresh enough to open what it is for."""
    added_after: Method | None = None
    """How its owner had shown who they are, if it was added. None: by a method that shows the invitation."""

    def __str__(self) -> str:
        who = "" if self.same_person else " by somebody else"
        added = f" added after {self.added_after}" if self.added_after else ""
        return f"{self.purpose} by {self.method}{added}, {self.age} old{who}"


def rows(explanation: Explanation) -> list[Row]:
    """All combinations; what is expected comes from the explanation alone."""
    ways = {(way.purpose, way.method): way.fresh for way in explanation.ways}
    asked = {way.purpose: way.fresh for way in explanation.ways}
    views = {way.method for way in explanation.of(Purpose.VIEW)}
    found = []
    for purpose, method, which in product(Purpose, Method, AGES):
        for same_person in (True, False) if purpose is Purpose.JOIN else (True,):
            fresh = ways.get((purpose, method))
            old = age(which, fresh or asked[purpose])
            for added_after in others(Method) if method in ADDED else (None,):
                accepted = fresh is not None and same_person and (not added_after or added_after in views)
                found.append(
                    Row(purpose, method, old, same_person, accepted, accepted and old < (fresh or old), added_after)
                )
    return found


def others(methods) -> list[Method]:
    """All but those that are added after another."""
    return [method for method in methods if method not in ADDED]


@pytest.fixture(params=CLASSES, ids="-".join)
async def explained(request, tmp_path):
    """An installation that can do every method, one class of its policy, and the explanation of that."""
    policy, name = request.param
    async with build(
        tmp_path, durable=False, policy=loaded(tmp_path, POLICIES[policy][0]()), methods=frozenset(Method)
    ) as world:
        world.who, world.signed = await world.signed_in()
        yield world, explain(world.ground.policy.of(name), world.ground.methods)


async def invited(world: World, explanation: Explanation, number: int) -> list[tuple[str, str]]:
    """Links of so many people invited to meetings of the class that are open now, and their invitations."""
    people, found = [(f"Person {n}", f"p{n}@example.org", ANNA[2]) for n in range(number)], []
    for start in range(0, number, MAX_PARTICIPANTS):
        some = people[start : start + MAX_PARTICIPANTS]
        world.held = await world.meeting(world.who, *some, sensitivity=explanation.sensitivity.name)
        found += await world.store.run(lambda tx: tx.invitations.participants(world.held.id))
    while len({to for to, _ in world.mail.sent}) < number:
        await world.worker.deliver_due()
    return [(world.link(one.email), one.id) for one in found]


def subject(world: World, method: Method, invitation: str, person: str = "same") -> str:
    """By what the method knows the person."""
    identity = worth(method).identity
    if method in ADDED:
        return f"{person} {method} of {invitation}"
    return world.ground.phone_hash(MOBILE) if method is Method.SMS else f"{identity} of the {person} person"


async def keep_added(world: World, invitation: str, added_after: Method) -> None:
    """Let the invited person have two passkeys and two authenticators."""

    def work(tx):
        one = tx.invitations.get(invitation)
        owner = world.ground.passkey_owner_hash(one.email, one.mobile)
        for person in ("same", "other"):
            passkey_id = subject(world, Method.PASSKEY, invitation, person)
            tx.passkeys.add(Passkey(passkey_id, owner, b"", 0, added_after, "", world.clock.now))
            totp_id, of = subject(world, Method.TOTP, invitation, person), owner if person == "same" else f"-{owner}"
            tx.authenticators.put(Authenticator(totp_id, of, "A", added_after, "", world.clock.now), world.clock.now)

    await world.store.run(work)


async def prove(world: World, invitation: str, purpose: Purpose, proof: Verification, *, by_force: bool) -> bool:
    """Have a proof accepted, or put it in by force, as if the policy had been another one then."""
    rules = world.ground.policy.of(world.held.sensitivity)
    browser = world.ground.session_hash(invitation)

    def work(tx):
        refused = accept(tx, proof, browser, purpose, rules)
        if refused and by_force:
            tx.verifications.add(proof, browser, purpose)
        return refused

    try:
        await world.store.run(work)
    except NotVerified:
        return False
    return True


async def opens(world: World, purpose: Purpose, link: str, browser: str) -> bool:
    """Whether the invitation is shown; or a ticket is given, and taken at the gate."""
    if purpose is Purpose.VIEW:
        return await world.services.participation.look(link, browser) is not None
    try:
        ticket = await world.services.tickets.for_participant(link, browser)
    except NotVerified:
        return False
    return (await world.authenticate(ticket.token, ticket.room, f"xmpp-{browser}")).allow


async def outcome(world: World, explanation: Explanation, row: Row, link: str, invitation: str) -> tuple[bool, bool]:
    """Whether the row's proof counts, and whether it opens what it is for; where it did not count, put in by force."""
    at = world.clock.now - row.age
    added_after = row.added_after or others(way.method for way in explanation.of(Purpose.VIEW))[0]
    await keep_added(world, invitation, added_after)
    if row.purpose is Purpose.JOIN:
        same = [w.method for w in explanation.of(Purpose.VIEW) if w.worth.identity is worth(row.method).identity]
        by = same[0] if same else explanation.of(Purpose.VIEW)[0].method
        seen = Verification(
            new_id(), invitation, by, subject(world, by, invitation, "same" if row.same_person else "other"), at
        )
        if by is Method.SMS and not row.same_person:
            seen = Verification(seen.id, invitation, by, "another phone", at)
        counted = await prove(world, invitation, Purpose.VIEW, seen, by_force=row.added_after is not None)
        assert counted or row.added_after
    proof = Verification(new_id(), invitation, row.method, subject(world, row.method, invitation), at)
    accepted = await prove(world, invitation, row.purpose, proof, by_force=row.same_person)
    return accepted, await opens(world, row.purpose, link, invitation)


def test_table_has_over_two_hundred_rows(tmp_path):
    table = [
        row
        for make, names in POLICIES.values()
        for name in names
        for row in rows(explain(loaded(tmp_path, make()).of(name), Method))
    ]
    assert len(table) > 200
    assert 100 < sum(row.opens for row in table) < len(table) - 200


async def test_services_do_what_the_explanation_says(explained):
    world, explanation = explained
    world.change_class(explanation.sensitivity.name, waiting_room=False)
    table = rows(explanation)
    people = await invited(world, explanation, len(table))
    wrong = [
        str(row)
        for row, (link, invitation) in zip(table, people, strict=True)
        if await outcome(world, explanation, row, link, invitation) != (row.accepted, row.opens)
    ]
    assert wrong == []


async def test_whoever_may_enter_waits_for_the_organiser_where_the_explanation_says_so(explained):
    world, explanation = explained
    ways = explanation.of(Purpose.JOIN)
    for way, (link, invitation) in zip(ways, await invited(world, explanation, len(ways)), strict=True):
        row = Row(Purpose.JOIN, way.method, timedelta(0), same_person=True, accepted=True, opens=True)
        try:
            _, entered = await outcome(world, explanation, row, link, invitation)
        except Waiting:
            entered = False
        assert entered is not explanation.sensitivity.waiting_room, row


async def test_dropped_connection_comes_back_for_the_grace_that_the_explanation_says(explained):
    world, explanation = explained
    world.change_class(explanation.sensitivity.name, waiting_room=False)
    grace = explanation.sensitivity.grace
    gaps = [timedelta(0), grace / 2, grace - SECOND, grace, grace + timedelta(minutes=10)]
    cases = [(way, gap) for way in explanation.of(Purpose.JOIN) for gap in gaps if gap >= timedelta(0)]
    for (way, gap), (link, invitation) in zip(cases, await invited(world, explanation, len(cases)), strict=True):
        world.sql("UPDATE meetings SET starts_at = ?", int(world.clock.now.timestamp()))
        row = Row(Purpose.JOIN, way.method, timedelta(0), same_person=True, accepted=True, opens=True)
        assert await outcome(world, explanation, row, link, invitation) == (True, True), row
        session, username = f"xmpp-{invitation}", (await username_of(world, invitation))
        assert (await world.admit(world.held.room, username, session)).allow
        await world.services.admission.entered(world.event(world.held.room, username, session))
        world.clock.forward(seconds=(way.fresh + SECOND).seconds)  # inside for longer than the proof is fresh
        await world.services.admission.left(world.event(world.held.room, username, session))
        world.clock.forward(seconds=gap.seconds)
        try:
            came_back = bool(await world.services.tickets.for_participant(link, invitation))
        except NotVerified:
            came_back = False
        assert came_back is (gap < grace), (way.method, gap)


async def test_proof_that_is_still_fresh_gives_a_second_ticket_only_where_there_is_a_grace(explained):
    world, explanation = explained
    world.change_class(explanation.sensitivity.name, waiting_room=False)
    ways = explanation.of(Purpose.JOIN)
    for way, (link, invitation) in zip(ways, await invited(world, explanation, len(ways)), strict=True):
        row = Row(Purpose.JOIN, way.method, timedelta(0), same_person=True, accepted=True, opens=True)
        assert await outcome(world, explanation, row, link, invitation) == (True, True)
        try:
            again = bool(await world.services.tickets.for_participant(link, invitation))
        except NotVerified:
            again = False
        assert again is bool(explanation.sensitivity.grace), way.method


async def test_people_are_forgotten_when_the_explanation_says_and_not_before(explained):
    world, explanation = explained
    await invited(world, explanation, 1)
    end = world.held.closes_at
    for at, left in ((explanation.sensitivity.retention - SECOND, 2), (explanation.sensitivity.retention, 0)):
        world.clock.now = end + at
        await purge(world.ground, world.clock.now)
        assert world.sql("SELECT count(*) AS n FROM invitations") == [{"n": left}]


async def test_class_taken_out_of_the_policy_shuts_its_meetings_and_forgets_them_soonest(explained):
    world, explanation = explained
    ((link, invitation),) = await invited(world, explanation, 1)
    way = explanation.of(Purpose.JOIN)[0]
    row = Row(Purpose.JOIN, way.method, timedelta(0), same_person=True, accepted=True, opens=True)
    world.change_class(explanation.sensitivity.name, waiting_room=False)
    assert await outcome(world, explanation, row, link, invitation) == (True, True)
    soonest = min(one.retention for one in world.ground.policy.classes.values())
    world.ground.policy.classes["other"] = world.ground.policy.classes.pop(explanation.sensitivity.name)
    for purpose in Purpose:
        assert not await opens(world, purpose, link, invitation)
    world.clock.forward(seconds=30)
    code = world.totp.at(world.clock.now)
    await world.services.tickets.verify_organiser(world.signed, world.held.id, code, "192.0.2.1")
    assert await world.services.tickets.organiser_may_enter(world.signed, world.held.id)
    view = await world.services.meetings.view(world.who, world.held.id)
    assert world.services.meetings.class_of(view.meeting).title["en"] == explanation.sensitivity.name
    world.clock.now = world.held.closes_at + soonest
    await purge(world.ground, world.clock.now)
    assert world.sql("SELECT count(*) AS n FROM invitations") == [{"n": 0}]


async def username_of(world: World, invitation: str) -> str:
    return (await world.store.run(lambda tx: tx.invitations.get(invitation))).username


async def test_code_is_sent_and_counts_only_where_the_explanation_says_sms(explained):
    """The same by the factor that there is: nothing is put in by hand."""
    world, explanation = explained
    world.change_class(explanation.sensitivity.name, waiting_room=False)
    ((link, _),) = await invited(world, explanation, 1)
    accepted = {way.purpose for way in explanation.ways if way.method is Method.SMS}
    for purpose in Purpose:
        before = len(world.sms.sent)
        try:
            await world.verified(link, purpose, "her browser")
        except (NotVerified, TooManyTries, IndexError):
            assert purpose not in accepted
        else:
            assert purpose in accepted
        assert len(world.sms.sent) - before == (purpose in accepted)
        assert await opens(world, purpose, link, "her browser") is (purpose in accepted)


async def test_own_organiser_enters_with_password_and_authenticator_whatever_the_class(explained):
    world, explanation = explained
    await invited(world, explanation, 1)
    world.clock.forward(seconds=30)
    code = world.totp.at(world.clock.now)
    await world.services.tickets.verify_organiser(world.signed, world.held.id, code, "192.0.2.1")
    assert (await world.services.tickets.for_organiser(world.signed, world.held.id)).room == world.held.room
