"""Accounts: who may do what with them, what takes two admins, and what is left when somebody goes."""

from __future__ import annotations

import re

import pyotp
import pytest
from tests.unit.authenticator import Authenticator
from tests.unit.test_audit import entries
from tests.unit.world import ANNA, BROWSER, MOBILE, PASSWORD, PORTAL, World

from sluss.delivery.texts import Notice, notice
from sluss.domain.accounts import AccountRole
from sluss.domain.assurance import Purpose
from sluss.domain.audit import Action, Outcome
from sluss.domain.errors import InvalidInput, NotFound, NotVerified, ProofRequired, SignInRequired
from sluss.domain.meetings import Organiser

ADDRESS = "192.0.2.1"
EVA, OLLE = "eva@example.org", "olle@example.org"
BERTIL = ("Bertil Berg", "bertil@example.org", "070-174 06 06")


@pytest.fixture
async def admin(world) -> str:
    """An admin's session."""
    return (await world.signed_in("admin@example.org", AccountRole.ADMIN, "Ada Alm"))[1]


@pytest.fixture
async def second(world) -> str:
    """Another admin's."""
    return (await world.signed_in("second@example.org", AccountRole.ADMIN, "Bo Berg"))[1]


async def mails(world: World, to: str) -> list[str]:
    await world.worker.deliver_due()
    return [text for address, text in world.mail.sent if address == to]


async def told(world: World, to: str, what: Notice) -> bool:
    """Whether somebody had the mail that says so."""
    return notice("sv", what, f"https://{PORTAL}")[1] in await mails(world, to)


async def enrolment(world: World, to: str) -> str:
    """The token in the last mail with a link to enrol by."""
    links = [found for text in await mails(world, to) if (found := re.search(r"/enrol/([\w-]+)", text))]
    return links[-1][1]


async def proves(world: World, session: str) -> None:
    """A factor is given in this session now, whoever's it is."""
    hashed = world.ground.session_hash(session)
    await world.store.run(lambda tx: tx.sessions.prove(hashed, world.clock.now))


# Who may


async def test_admin_sees_accounts_and_what_holds_them_up_and_nobody_else_does(world, admin):
    eva, session = await world.signed_in(EVA)
    o = world.services.organisers
    for _ in range(5):
        with pytest.raises(NotVerified):
            await o.password("b", EVA, "wrong", ADDRESS)
    shown = {one.email: one for one in await world.services.accounts.all(admin)}
    assert (shown[EVA].name, shown[EVA].role, shown[EVA].locked) == ("Eva Ek", AccountRole.ORGANISER, True)
    assert not shown["admin@example.org"].locked
    await world.services.accounts.unlock(admin, eva.id)
    assert not (await world.services.accounts.one(admin, eva.id)).locked
    auditor = (await world.signed_in("audit@example.org", AccountRole.AUDITOR))[1]
    for other in (session, auditor):
        with pytest.raises(NotFound):
            await world.services.accounts.all(other)
    with pytest.raises(SignInRequired):
        await world.services.accounts.all("nobody")


async def test_last_sign_in_is_shown(world, admin):
    await world.organiser(EVA)
    world.clock.forward(minutes=1)
    await world.services.organisers.password("b", EVA, PASSWORD, ADDRESS)
    await world.services.organisers.second_factor("b", world.totp.at(world.clock.now), ADDRESS)
    (eva,) = [one for one in await world.services.accounts.all(admin) if one.email == EVA]
    assert eva.signed_in_at == world.clock.now


async def every_act(world: World, session: str, account: str) -> list:
    a = world.services.accounts
    return [
        lambda: a.invite(session, "Nils Ny", "nils@example.org", "organiser"),
        lambda: a.send_link(session, account),
        lambda: a.unlock(session, account),
        lambda: a.reset(session, account),
        lambda: a.remove(session, account),
    ]


async def test_every_act_of_an_admin_takes_a_factor_of_the_last_five_minutes(world, admin):
    eva = await world.organiser(EVA)
    world.clock.forward(minutes=5)
    for act in await every_act(world, admin, eva.id):
        with pytest.raises(ProofRequired):
            await act()
    assert world.sql("SELECT count(*) AS n FROM organisers") == [{"n": 2}]
    await proves(world, admin)
    assert await world.services.accounts.reset(admin, eva.id)


async def test_organiser_and_auditor_can_do_none_of_it(world):
    eva, session = await world.signed_in(EVA)
    auditor = (await world.signed_in("audit@example.org", AccountRole.AUDITOR))[1]
    for other in (session, auditor):
        for act in await every_act(world, other, eva.id):
            with pytest.raises(NotFound):
                await act()


async def test_admin_has_no_meetings_and_reads_no_log_and_no_attendance(world, admin):
    eva, _ = await world.signed_in(EVA)
    meeting = await world.meeting(eva)
    who = await world.services.organisers.current(admin)
    with pytest.raises(NotFound):
        await world.meeting(who)
    with pytest.raises(NotFound):
        await world.services.meetings.view(who, meeting.id)
    with pytest.raises(NotFound):
        await world.services.attendance.meetings(admin)
    with pytest.raises(NotFound):
        await world.services.attendance.report(admin, meeting.id)
    with pytest.raises(NotFound):
        await world.services.audit.shown(admin, "", 10)


# Inviting


@pytest.mark.parametrize("role", [AccountRole.ORGANISER, AccountRole.AUDITOR])
async def test_admin_invites_and_the_link_goes_by_mail_alone(world, admin, role):
    done = await world.services.accounts.invite(admin, "Nils Ny", "nils@example.org", role)
    assert done is None
    token = await enrolment(world, "nils@example.org")
    totp = pyotp.TOTP((await world.services.organisers.enrolment(token)).secret)
    await world.services.organisers.enrol(token, PASSWORD, totp.at(world.clock.now))
    assert await told(world, "nils@example.org", Notice.ENROLLED)
    (new,) = [one for one in await world.services.accounts.all(admin) if one.email == "nils@example.org"]
    assert (new.role, new.enrolled_at) == (role, world.clock.now)
    (added,) = await entries(world, Action.ORGANISER_ADDED)
    assert added.actor == f"organiser:{(await world.services.organisers.current(admin)).id}"


@pytest.mark.parametrize("role", ["admin", "", "root"])
async def test_admin_makes_no_other_admin_for_then_they_would_be_two(world, admin, role):
    with pytest.raises(InvalidInput) as refused:
        await world.services.accounts.invite(admin, "Nils Ny", "nils@example.org", role)
    assert refused.value.field == "role"


async def test_address_that_is_taken_is_refused_and_not_sent_a_link(world, admin):
    await world.organiser(EVA)
    with pytest.raises(InvalidInput):
        await world.services.accounts.invite(admin, "Eva Ek", EVA, "organiser")
    assert await mails(world, EVA) == []


async def test_who_has_not_enrolled_is_sent_another_link_and_who_has_is_not(world, admin):
    await world.services.accounts.invite(admin, "Nils Ny", "nils@example.org", "organiser")
    first = await enrolment(world, "nils@example.org")
    nils = next(one.id for one in await world.services.accounts.all(admin) if one.email == "nils@example.org")
    await world.services.accounts.send_link(admin, nils)
    assert await enrolment(world, "nils@example.org") != first
    eva = await world.organiser(EVA)
    with pytest.raises(NotFound):
        await world.services.accounts.send_link(admin, eva.id)


async def test_link_to_enrol_goes_to_no_address_that_only_looks_alike(world, admin):
    """`ß` and `ss` are two mailboxes, although they are alike where accounts are told apart."""
    await world.services.accounts.invite(admin, "Eva Groß", "groß@example.org", "organiser")
    with pytest.raises(InvalidInput):
        await world.services.accounts.invite(admin, "Eva Groß", "gross@example.org", "organiser")
    assert await mails(world, "gross@example.org") == []


async def test_one_admin_gives_no_second_way_in_to_who_comes_by_an_account_elsewhere(world, admin):
    """That takes a reset, and so two admins where there are secret meetings."""
    eva = await world.organiser(EVA)
    world.sql("UPDATE organisers SET enrolled_at = NULL, password = NULL, account_hash = 'x' WHERE id = ?", eva.id)
    await secret_meeting(world, eva)
    with pytest.raises(NotFound):
        await world.services.accounts.send_link(admin, eva.id)
    with pytest.raises(InvalidInput):
        await world.services.accounts.invite(admin, "Eva Ek", EVA, "organiser")
    assert not await world.services.accounts.reset(admin, eva.id)
    assert not any("/enrol/" in text for text in await mails(world, EVA))


# Resetting


async def test_reset_voids_everything_and_a_mailed_link_sets_it_up_anew(world, admin):
    eva, session = await world.signed_in(EVA)
    device = Authenticator()
    await world.services.passkeys.add_own(
        session, device.create(await world.services.passkeys.begin_adding_own(session))
    )
    before = world.totp
    assert await world.services.accounts.reset(admin, eva.id)
    with pytest.raises(SignInRequired):
        await world.services.organisers.current(session)
    with pytest.raises(NotVerified):
        await world.services.organisers.password("b", EVA, PASSWORD, ADDRESS)
    answer = device.get(await world.services.passkeys.begin_sign_in("b", ADDRESS))
    with pytest.raises(NotVerified):
        await world.services.passkeys.sign_in("b", answer, ADDRESS)
    assert world.sql("SELECT * FROM recovery_codes WHERE organiser_id = ?", eva.id) == []
    assert await told(world, EVA, Notice.RESET)

    token = await enrolment(world, EVA)
    secret = (await world.services.organisers.enrolment(token)).secret
    assert secret != before.secret
    codes = await world.services.organisers.enrol(token, PASSWORD, pyotp.TOTP(secret).at(world.clock.now))
    await world.services.organisers.password("b", EVA, PASSWORD, ADDRESS)
    with pytest.raises(NotVerified):
        await world.services.organisers.second_factor("b", before.at(world.clock.now), ADDRESS)
    await world.services.organisers.second_factor("b", codes[0], ADDRESS)
    (reset,) = await entries(world, Action.ACCOUNT_RESET)
    by = (await world.services.organisers.current(admin)).id
    assert (reset.actor, reset.subject) == (f"organiser:{by}", f"organiser:{eva.id}")


async def test_reset_leaves_no_older_link_and_lasts_seven_days(world, admin):
    first = (await world.services.organisers.add("Nils Ny", "nils@example.org")).rpartition("/")[2]
    nils = next(one.id for one in await world.services.accounts.all(admin) if one.email == "nils@example.org")
    await world.services.accounts.reset(admin, nils)
    with pytest.raises(NotFound):
        await world.services.organisers.enrolment(first)
    token = await enrolment(world, "nils@example.org")
    world.clock.forward(days=6, hours=23)
    assert await world.services.organisers.enrolment(token)
    world.clock.forward(hours=1)
    with pytest.raises(NotFound):
        await world.services.organisers.enrolment(token)


async def test_who_is_reset_inside_a_meeting_is_outside_and_needs_a_new_proof(world, admin):
    eva, session = await world.signed_in(EVA)
    meeting = await world.meeting(eva)
    await world.services.tickets.verify_organiser(session, meeting.id, world.totp.at(world.clock.now), ADDRESS)
    ticket = await world.services.tickets.for_organiser(session, meeting.id)
    await world.services.accounts.reset(admin, eva.id)
    assert [room for room, _ in world.door.expelled] == [meeting.room]
    assert not (await world.authenticate(ticket.token, ticket.room)).allow


async def secret_meeting(world: World, who: Organiser, starts_in: int = 10) -> str:
    world.change_class(two_admins=True)
    return (await world.meeting(who, starts_in=starts_in)).id


async def test_shipped_policy_asks_two_admins_of_secret_meetings_alone(world):
    asks = {one.name for one in world.ground.policy.classes.values() if one.two_admins}
    assert asks == {"secret"}
    assert world.ground.policy.of("gone from the policy").two_admins


async def test_organiser_with_an_open_secret_meeting_is_reset_by_two_admins(world, admin, second):
    eva, session = await world.signed_in(EVA)
    await secret_meeting(world, eva)
    a = world.services.accounts
    for _ in range(2):  # the same admin twice is one admin
        assert not await a.reset(admin, eva.id)
        assert await world.services.organisers.current(session)
    assert await told(world, EVA, Notice.RESET_ASKED)
    assert (await a.one(second, eva.id)).asked.by == (await world.services.organisers.current(admin)).id
    assert await a.reset(second, eva.id)
    with pytest.raises(SignInRequired):
        await world.services.organisers.current(session)
    (reset,) = await entries(world, Action.ACCOUNT_RESET)
    ids = [(await world.services.organisers.current(one)).id for one in (admin, second)]
    assert (reset.details["first_admin"], reset.actor) == (ids[0], f"organiser:{ids[1]}")
    asked = await entries(world, Action.SECOND_ADMIN_NEEDED)
    assert {one.actor for one in asked} == {f"organiser:{ids[0]}"}
    assert (await a.one(second, eva.id)).asked is None


async def test_second_admin_comes_within_a_day_or_is_the_first(world, admin, second):
    eva = await world.organiser(EVA)
    await secret_meeting(world, eva, starts_in=3 * 24 * 60)
    assert not await world.services.accounts.reset(admin, eva.id)
    world.clock.forward(hours=24)
    second = await again(world, "second@example.org")
    assert not await world.services.accounts.reset(second, eva.id)
    admin = await again(world, "admin@example.org")
    assert await world.services.accounts.reset(admin, eva.id)


async def again(world: World, email: str) -> str:
    """Somebody who has an account signs in anew."""
    who, session = await world.services.organisers.by_email(email), f"again {email}"
    hashed = world.ground.session_hash(session)
    await world.store.run(lambda tx: tx.sessions.put(hashed, who.id, complete=True, now=world.clock.now))
    return session


async def test_admin_who_was_removed_since_does_not_count_as_the_first(world, admin, second):
    eva = await world.organiser(EVA)
    await secret_meeting(world, eva)
    assert not await world.services.accounts.reset(admin, eva.id)
    await world.services.accounts.remove(second, (await world.services.organisers.current(admin)).id)
    assert not await world.services.accounts.reset(second, eva.id)


async def test_one_admin_is_enough_when_the_secret_meeting_is_over(world, admin):
    eva = await world.organiser(EVA)
    meeting = await secret_meeting(world, eva)
    await world.services.meetings.end(eva, meeting)
    assert await world.services.accounts.reset(admin, eva.id)


async def test_what_one_admin_asked_for_is_not_what_the_other_does(world, admin, second):
    """A reset that was asked for is not the first half of a hand-over, nor a hand-over to one that to another."""
    eva, olle = await world.organiser(EVA), await world.organiser(OLLE, "Olle Ohlsson")
    nils = await world.organiser("nils@example.org", "Nils Ny")
    await secret_meeting(world, eva)
    a = world.services.accounts
    assert not await a.reset(admin, eva.id)
    assert not await a.remove(second, eva.id, olle.id)
    assert not await a.remove(admin, eva.id, nils.id)
    assert await a.remove(second, eva.id, nils.id)
    assert [m.organiser_id for m in await world.services.meetings.list(nils)] == [nils.id]


async def test_nobody_resets_or_removes_their_own_account(world, admin):
    own = (await world.services.organisers.current(admin)).id
    for act in (world.services.accounts.reset, world.services.accounts.remove, world.services.accounts.unlock):
        with pytest.raises(InvalidInput):
            await act(admin, own)


# Leaving


async def test_who_leaves_is_out_at_once_and_what_was_known_of_them_is_gone(world, admin):
    eva, session = await world.signed_in(EVA)
    await world.services.accounts.remove(admin, eva.id)
    with pytest.raises(SignInRequired):
        await world.services.organisers.current(session)
    with pytest.raises(NotVerified):
        await world.services.organisers.password("b", EVA, PASSWORD, ADDRESS)
    with pytest.raises(NotFound):
        await world.services.organisers.by_email(EVA)
    assert [one.email for one in await world.services.accounts.all(admin)] == ["admin@example.org"]
    for table in ("account_authenticators", "recovery_codes", "passkeys", "enrolments", "sessions"):
        column = "owner" if table == "passkeys" else "organiser_id"
        assert world.sql(f"SELECT * FROM {table} WHERE {column} = ?", eva.id) == []  # noqa: S608
    (left,) = world.sql("SELECT * FROM organisers WHERE id = ?", eva.id)
    assert (left["password"], left["account_hash"], left["email_hash"]) == (None, None, f"removed {eva.id}")
    (removed,) = await entries(world, Action.ACCOUNT_REMOVED)
    assert removed.subject == f"organiser:{eva.id}"
    assert await told(world, EVA, Notice.REMOVED)
    await world.services.organisers.add("Eva Ek", EVA)  # whoever comes back gets an account of its own


async def test_meetings_to_come_are_withdrawn_and_those_who_are_invited_told_without_a_word_of_what(world, admin):
    eva = await world.organiser(EVA)
    meeting = await world.meeting(eva, ANNA, BERTIL)
    link = world.link()
    await world.verified(link, Purpose.VIEW)
    await world.services.accounts.remove(admin, eva.id)
    assert await world.services.participation.look(link, BROWSER) is None
    for to in (ANNA[1], BERTIL[1]):
        said = (await mails(world, to))[-1]
        assert "A personal link that you were sent opens nothing any more." in said
        assert not any(word in said for word in ("Budget", "Eva", "http", ANNA[0]))
    assert world.door.ended == [meeting.room]
    (withdrawn,) = await entries(world, Action.MEETING_WITHDRAWN)
    assert withdrawn.subject == f"meeting:{meeting.id}"


async def test_organiser_withdraws_a_whole_meeting_and_those_invited_are_told(world):
    eva, _ = await world.signed_in(EVA)
    meeting, other = await world.meeting(eva, ANNA, BERTIL, starts_in=60), await world.meeting(eva, BERTIL)
    olle = await world.organiser(OLLE)
    with pytest.raises(NotFound):
        await world.services.meetings.withdraw_all(olle, meeting.id)
    await world.services.meetings.withdraw_all(eva, meeting.id)
    assert "opens nothing any more" in (await mails(world, ANNA[1]))[-1]
    assert {p.invitation.state for p in (await shown(world, eva, meeting.id)).participants} == {"withdrawn"}
    assert {p.invitation.state for p in (await shown(world, eva, other.id)).participants} == {"live"}
    assert world.door.ended == []  # its door was not open
    with pytest.raises(NotFound):
        await world.services.meetings.withdraw_all(eva, meeting.id)
    await world.services.meetings.withdraw_all(eva, other.id)
    assert world.door.ended == [other.room]


async def test_meetings_are_handed_over_with_their_links_and_the_successor_enters_as_organiser(world, admin):
    eva, evas = await world.signed_in(EVA)
    meeting = await world.meeting(eva)
    link = world.link()
    await world.services.tickets.verify_organiser(evas, meeting.id, world.totp.at(world.clock.now), ADDRESS)
    evas_ticket = await world.services.tickets.for_organiser(evas, meeting.id)
    olle, session = await world.signed_in(OLLE, name="Olle Ohlsson")
    assert await world.services.accounts.remove(admin, eva.id, olle.id)
    assert not (await world.authenticate(evas_ticket.token, evas_ticket.room)).allow
    assert await told(world, OLLE, Notice.MEETINGS_TAKEN_OVER)

    assert [one.id for one in await world.services.meetings.list(olle)] == [meeting.id]
    await world.verified(link, Purpose.VIEW)
    assert (await world.services.participation.look(link, BROWSER)).organiser_name == "Olle Ohlsson"
    await world.services.tickets.verify_organiser(session, meeting.id, world.totp.at(world.clock.now), ADDRESS)
    ticket = await world.services.tickets.for_organiser(session, meeting.id)
    verdict = await world.authenticate(ticket.token, ticket.room)
    assert (verdict.allow, verdict.name) == (True, "Olle Ohlsson")
    (handed,) = await entries(world, Action.MEETING_HANDED_OVER)
    assert (handed.subject, handed.details["to"]) == (f"meeting:{meeting.id}", olle.id)


async def test_attendance_stays_readable_for_the_successor_and_auditors_with_who_was_there(world, admin):
    eva, evas = await world.signed_in(EVA)
    meeting = await world.meeting(eva)
    await world.services.tickets.verify_organiser(evas, meeting.id, world.totp.at(world.clock.now), ADDRESS)
    ticket = await world.services.tickets.for_organiser(evas, meeting.id)
    inside = await world.authenticate(ticket.token, ticket.room)
    await world.services.admission.entered(world.event(ticket.room, inside.username))
    world.clock.forward(minutes=3)
    olle, session = await world.signed_in(OLLE, name="Olle Ohlsson")
    await world.services.accounts.remove(admin, eva.id, olle.id)
    assert (meeting.room, inside.username) in world.door.expelled
    await world.services.admission.left(world.event(ticket.room, inside.username))

    await world.services.tickets.verify_organiser(session, meeting.id, world.totp.at(world.clock.now), ADDRESS)
    report = await world.services.attendance.report(session, meeting.id)
    auditor = (await world.signed_in("audit@example.org", AccountRole.AUDITOR))[1]
    assert (await world.services.attendance.report(auditor, meeting.id)).people == report.people
    there = {person.name: person.seconds(report.at) for person in report.people}
    assert there == {"Eva Ek": 180, "Olle Ohlsson": 0, ANNA[0]: 0}


async def test_past_meetings_go_to_the_successor_as_they_were(world, admin):
    eva = await world.organiser(EVA)
    meeting = await world.meeting(eva)
    world.clock.forward(hours=3)
    admin = await again(world, "admin@example.org")
    olle, session = await world.signed_in(OLLE, name="Olle Ohlsson")
    await world.services.accounts.remove(admin, eva.id, olle.id)
    await world.services.tickets.verify_organiser(session, meeting.id, world.totp.at(world.clock.now), ADDRESS)
    report = await world.services.attendance.report(session, meeting.id)
    assert (report.organiser_name, [one.name for one in report.people]) == ("Eva Ek", ["Eva Ek", ANNA[0]])


async def test_successor_who_was_invited_becomes_the_organiser_and_is_there_once(world, admin):
    eva = await world.organiser(EVA)
    olle = await world.organiser(OLLE, "Olle Ohlsson")
    meeting = await world.meeting(eva, ANNA, ("Olle Ohlsson", OLLE, "070-174 06 06"))
    await world.services.accounts.remove(admin, eva.id, olle.id)
    states = {p.invitation.email: p.invitation.state for p in (await shown(world, olle, meeting.id)).participants}
    assert states == {ANNA[1]: "live", OLLE: "withdrawn"}


async def shown(world: World, who: Organiser, meeting_id: str):
    return await world.services.meetings.view(who, meeting_id)


async def test_nothing_is_half_done_when_the_successor_cannot_have_one_of_the_meetings(world, admin):
    eva, session = await world.signed_in(EVA)
    olle = await world.organiser(OLLE, "Bertil Berg")
    first, other = await world.meeting(eva), await world.meeting(eva, BERTIL)
    before = world.sql("SELECT * FROM invitations"), world.sql("SELECT * FROM meetings")
    with pytest.raises(InvalidInput) as refused:
        await world.services.accounts.remove(admin, eva.id, olle.id)
    assert refused.value.field == "successor"
    assert (world.sql("SELECT * FROM invitations"), world.sql("SELECT * FROM meetings")) == before
    assert (await world.services.organisers.current(session)).id == eva.id
    assert {one.id for one in await world.services.meetings.list(eva)} == {first.id, other.id}
    assert await entries(world, Action.MEETING_HANDED_OVER, Action.ACCOUNT_REMOVED) == []
    assert world.door.expelled == []


async def test_only_another_organiser_can_have_the_meetings(world, admin):
    eva = await world.organiser(EVA)
    auditor = await world.organiser("audit@example.org", role=AccountRole.AUDITOR)
    for wrong in (eva.id, auditor.id, "nobody", (await world.services.organisers.current(admin)).id):
        with pytest.raises(InvalidInput):
            await world.services.accounts.remove(admin, eva.id, wrong)


async def test_secret_meetings_are_handed_over_by_two_admins_also_when_they_are_past(world, admin, second):
    """One admin could invite an organiser of their own, and hand them what they may not see."""
    eva, olle = await world.organiser(EVA), await world.organiser(OLLE, "Olle Ohlsson")
    meeting = await secret_meeting(world, eva)
    await world.services.meetings.end(eva, meeting)
    assert not await world.services.accounts.remove(admin, eva.id, olle.id)
    assert await world.services.meetings.list(olle) == []
    assert await world.services.accounts.remove(second, eva.id, olle.id)
    assert [one.id for one in await world.services.meetings.list(olle)] == [meeting]


async def test_one_admin_is_enough_to_withdraw_them(world, admin):
    eva = await world.organiser(EVA)
    await secret_meeting(world, eva)
    assert await world.services.accounts.remove(admin, eva.id)


async def test_not_me_after_who_invited_has_left_mails_nobody(world, admin):
    eva = await world.organiser(EVA)
    await world.meeting(eva)
    link = world.link()
    world.clock.forward(hours=3)
    await world.services.accounts.remove(await again(world, "admin@example.org"), eva.id)
    await mails(world, EVA)
    sent = len(world.mail.sent)
    await world.services.participation.not_me(link, ADDRESS)
    await world.worker.deliver_due()
    assert len(world.mail.sent) == sent


# On the host


async def test_host_resets_and_removes_without_a_second_admin_and_it_is_audited(world):
    eva, session = await world.signed_in(EVA)
    await secret_meeting(world, eva)
    url = await world.services.accounts.reset_by_host(EVA)
    assert url.startswith(f"https://{PORTAL}/enrol/")
    with pytest.raises(SignInRequired):
        await world.services.organisers.current(session)
    olle = await world.organiser(OLLE, "Olle Ohlsson")
    await world.services.accounts.remove_by_host(EVA, OLLE)
    assert len(await world.services.meetings.list(olle)) == 1
    acts = await entries(world, Action.ACCOUNT_RESET, Action.ACCOUNT_REMOVED)
    assert [(one.actor, one.outcome) for one in acts] == [("admin", Outcome.DONE)] * 2
    for wrong in ((EVA,), (OLLE, EVA)):
        with pytest.raises(NotFound):
            await world.services.accounts.remove_by_host(*wrong)
    with pytest.raises(NotFound):
        await world.services.accounts.reset_by_host(EVA)


# Further authenticators


async def added(world: World, session: str, name: str = "Läsplattan") -> pyotp.TOTP:
    """A further authenticator, its first code given."""
    a = world.services.account_authenticators
    await a.begin(session, name)
    totp = pyotp.TOTP((await a.waiting(session)).secret)
    await a.confirm(session, totp.at(world.clock.now))
    return totp


async def signs_in(world: World, totp: pyotp.TOTP) -> str:
    world.clock.forward(seconds=31)
    await world.services.organisers.password("b", EVA, PASSWORD, ADDRESS)
    return (await world.services.organisers.second_factor("b", totp.at(world.clock.now), ADDRESS)).session


async def test_either_authenticator_signs_in_and_a_step_of_each_counts_once(world):
    _, session = await world.signed_in(EVA)
    first, other = world.totp, await added(world, session)
    assert await told(world, EVA, Notice.AUTHENTICATOR_ADDED)
    for totp in (first, other):
        await signs_in(world, totp)
        await world.services.organisers.password("b", EVA, PASSWORD, ADDRESS)
        with pytest.raises(NotVerified):
            await world.services.organisers.second_factor("b", totp.at(world.clock.now), ADDRESS)
    assert [one.name for one in await world.services.account_authenticators.of(session)] == ["", "Läsplattan"]


async def test_authenticator_proves_nothing_before_its_first_code(world):
    _, session = await world.signed_in(EVA)
    await world.services.account_authenticators.begin(session, "Ny")
    totp = pyotp.TOTP((await world.services.account_authenticators.waiting(session)).secret)
    with pytest.raises(InvalidInput):
        await world.services.account_authenticators.confirm(session, "000000")
    with pytest.raises(NotVerified):
        await signs_in(world, totp)


async def test_authenticator_that_waits_is_forgotten_after_ten_minutes(world):
    _, session = await world.signed_in(EVA)
    await world.services.account_authenticators.begin(session, "Ny")
    world.clock.forward(minutes=10)
    await proves(world, session)
    with pytest.raises(NotFound):
        await world.services.account_authenticators.waiting(session)


async def test_lost_phone_is_removed_after_another_was_added_and_its_codes_are_worthless(world):
    _, session = await world.signed_in(EVA)
    lost, a = world.totp, world.services.account_authenticators
    (first,) = await a.of(session)
    with pytest.raises(InvalidInput):  # never the last
        await a.remove(session, first.id)
    new = await added(world, session)
    await a.remove(session, first.id)
    assert await told(world, EVA, Notice.AUTHENTICATOR_REMOVED)
    with pytest.raises(NotVerified):
        await signs_in(world, lost)
    await signs_in(world, new)


async def test_at_most_five_authenticators(world):
    _, session = await world.signed_in(EVA)
    for number in range(4):
        await added(world, session, f"Nr {number}")
    with pytest.raises(InvalidInput):
        await world.services.account_authenticators.begin(session, "Nr 5")


async def test_anothers_authenticator_is_not_removed(world):
    _, evas = await world.signed_in(EVA)
    await added(world, evas)
    _, session = await world.signed_in(OLLE)
    await added(world, session)
    evas_own = (await world.services.account_authenticators.of(evas))[0].id
    with pytest.raises(NotFound):
        await world.services.account_authenticators.remove(session, evas_own)


async def test_changing_what_signs_in_takes_a_factor_of_the_last_five_minutes(world):
    _, session = await world.signed_in(EVA)
    await added(world, session)
    own = [one.id for one in await world.services.account_authenticators.of(session)]
    await world.services.account_authenticators.begin(session, "Ny")
    world.clock.forward(minutes=5)
    a, p = world.services.account_authenticators, world.services.passkeys
    for act in (
        lambda: a.begin(session, "Ny"),
        lambda: a.waiting(session),
        lambda: a.confirm(session, "000000"),
        lambda: a.remove(session, own[0]),
        lambda: p.begin_adding_own(session),
        lambda: p.add_own(session, "{}"),
        lambda: p.remove_own(session, "x"),
    ):
        with pytest.raises(ProofRequired):
            await act()


async def test_who_comes_by_the_provider_alone_gets_no_authenticator_that_would_outlive_that(world):
    _, session = await world.signed_in(EVA)
    world.sql("UPDATE organisers SET enrolled_at = NULL")
    with pytest.raises(NotFound):
        await world.services.account_authenticators.begin(session, "Ny")


async def test_passkeys_have_names_and_every_change_is_mailed(world):
    _, session = await world.signed_in(EVA)
    p = world.services.passkeys
    await p.add_own(session, Authenticator().create(await p.begin_adding_own(session)), "Nyckelknippan")
    (own,) = (await p.account(session)).passkeys
    assert own.name == "Nyckelknippan"
    assert await told(world, EVA, Notice.PASSKEY_ADDED)
    await p.remove_own(session, own.id)
    assert await told(world, EVA, Notice.PASSKEY_REMOVED)


async def test_recovery_code_that_was_used_is_mailed(world):
    token = (await world.services.organisers.add("Eva Ek", EVA)).rpartition("/")[2]
    totp = pyotp.TOTP((await world.services.organisers.enrolment(token)).secret)
    codes = await world.services.organisers.enrol(token, PASSWORD, totp.at(world.clock.now))
    await world.services.organisers.password("b", EVA, PASSWORD, ADDRESS)
    await world.services.organisers.second_factor("b", codes[0], ADDRESS)
    assert await told(world, EVA, Notice.RECOVERY_CODE_USED)


@pytest.mark.parametrize("what", Notice)
def test_every_notice_is_in_both_languages_and_leads_to_the_account(what):
    swedish, english = (notice(locale, what, "https://p.example")[1] for locale in ("sv", "en"))
    assert swedish != english
    assert swedish.endswith("https://p.example/account\n")


async def test_nothing_of_it_stands_in_the_file_of_the_database(world, admin):
    _, session = await world.signed_in(EVA)
    totp = await added(world, session, "Läsplattan")
    await world.services.organisers.password("b", EVA, PASSWORD, "198.51.100.7")
    world.clock.forward(seconds=31)
    await world.services.organisers.second_factor("b", totp.at(world.clock.now), "198.51.100.7")
    content = b"".join(path.read_bytes() for path in world.database.parent.iterdir())
    for secret in ("Läsplattan", totp.secret, "198.51.100", MOBILE):
        assert secret.encode() not in content
