"""Sessions: how long each role's last, who is signed in where, and what takes a factor just given."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.unit.test_audit import entries
from tests.unit.world import PASSWORD

from sluss.domain.accounts import LIFETIMES, LONGEST, AccountRole
from sluss.domain.assurance import Method
from sluss.domain.audit import Action
from sluss.domain.errors import NotFound, ProofRequired, SignInRequired

EVA, ADDRESS = "eva@example.org", "198.51.100.7"
SECOND = timedelta(seconds=1)


def test_lifetimes_are_these():
    minutes = {r: (t.idle / timedelta(minutes=1), t.absolute / timedelta(hours=1)) for r, t in LIFETIMES.items()}
    assert minutes == {AccountRole.ORGANISER: (30, 12), AccountRole.AUDITOR: (15, 4), AccountRole.ADMIN: (15, 4)}
    assert timedelta(hours=12) == LONGEST


@pytest.mark.parametrize("role", AccountRole)
async def test_session_lapses_when_unused_for_its_roles_time(world, role):
    _, session = await world.signed_in(EVA, role)
    idle = LIFETIMES[role].idle
    for _ in range(4):
        world.clock.now += idle - SECOND
        await world.services.organisers.current(session)
    world.clock.now += idle
    with pytest.raises(SignInRequired):
        await world.services.organisers.current(session)


@pytest.mark.parametrize("role", AccountRole)
async def test_session_ends_after_its_roles_time_however_much_it_is_used(world, role):
    _, session = await world.signed_in(EVA, role)
    absolute = LIFETIMES[role].absolute
    end = world.clock.now + absolute
    while world.clock.now + timedelta(minutes=10) < end:
        world.clock.now += timedelta(minutes=10)
        await world.services.organisers.current(session)
    world.clock.now = end
    with pytest.raises(SignInRequired):
        await world.services.organisers.current(session)


async def test_one_sees_where_one_is_signed_in_since_when_how_and_coarsely_from_where(world):
    _, session = await world.signed_in(EVA)
    world.clock.forward(minutes=1)
    await world.services.organisers.password("b", EVA, PASSWORD, ADDRESS)
    other = await world.services.organisers.second_factor("b", world.totp.at(world.clock.now), ADDRESS)
    shown = await world.services.organisers.open_sessions(session)
    assert [(one.network, one.method, one.this) for one in shown] == [
        ("198.51.100.0/24", Method.TOTP, False),
        ("", None, True),
    ]
    assert shown[0].since == world.clock.now
    world.clock.forward(minutes=29)
    await world.services.organisers.current(other.session)
    world.clock.forward(minutes=2)  # the first has lapsed
    assert [one.this for one in await world.services.organisers.open_sessions(other.session)] == [True]


async def test_sessions_of_others_are_not_shown(world):
    _, session = await world.signed_in(EVA)
    await world.signed_in("olle@example.org")
    assert len(await world.services.organisers.open_sessions(session)) == 1


async def test_proof_is_good_for_five_minutes_and_can_be_given_again(world):
    _, session = await world.signed_in(EVA)
    o = world.services.organisers
    world.clock.forward(minutes=4, seconds=59)
    await o.require_proof(session)
    world.clock.forward(seconds=1)
    with pytest.raises(ProofRequired):
        await o.require_proof(session)
    await o.prove_again(session, world.totp.at(world.clock.now), ADDRESS)
    await o.require_proof(session)


async def test_proof_at_a_meetings_door_is_one_for_other_things_too(world):
    eva, session = await world.signed_in(EVA)
    meeting = await world.meeting(eva, starts_in=20)
    world.clock.forward(minutes=6)
    await world.services.tickets.verify_organiser(session, meeting.id, world.totp.at(world.clock.now), ADDRESS)
    await world.services.organisers.require_proof(session)


async def test_auditor_proves_it_before_reading_an_attendance_and_not_before_the_log(world):
    eva, _ = await world.signed_in(EVA)
    meeting = await world.meeting(eva)
    _, session = await world.signed_in("audit@example.org", AccountRole.AUDITOR)
    world.clock.forward(minutes=5)
    with pytest.raises(ProofRequired):
        await world.services.attendance.report(session, meeting.id)
    await world.services.audit.shown(session, "", 10)
    await world.services.organisers.prove_again(session, world.totp.at(world.clock.now), ADDRESS)
    assert await world.services.attendance.report(session, meeting.id)


async def test_auditor_reads_the_log_newest_first_all_or_of_one_meeting_and_it_is_recorded(world):
    eva, evas = await world.signed_in(EVA)
    meeting, other = await world.meeting(eva), await world.meeting(eva)
    who, session = await world.signed_in("audit@example.org", AccountRole.AUDITOR)
    shown = await world.services.audit.shown(session, "", 3)
    assert [entry.seq for entry in shown] == sorted((entry.seq for entry in shown), reverse=True)
    assert (len(shown), shown[0].action) == (3, Action.AUDIT_READ)
    about = await world.services.audit.shown(session, meeting.id, 50)
    assert {entry.action for entry in about} == {Action.MEETING_CREATED, Action.INVITED, Action.AUDIT_READ}
    assert not any(other.id in entry.canonical() for entry in about)
    looks = await entries(world, Action.AUDIT_READ)
    assert [(e.actor, e.subject) for e in looks] == [
        (f"organiser:{who.id}", ""),
        (f"organiser:{who.id}", f"meeting:{meeting.id}"),
    ]
    await world.services.audit.shown(session, "Budget of Anna", 50)  # what was typed is not written down
    assert "Budget" not in (await entries(world, Action.AUDIT_READ))[-1].canonical()
    with pytest.raises(NotFound):
        await world.services.audit.shown(evas, "", 10)
    with pytest.raises(SignInRequired):
        await world.services.audit.shown("nobody", "", 10)
