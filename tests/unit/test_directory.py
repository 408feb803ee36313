"""The rules about the directory, with a real slapd: who signs in by it, who stays, who is a colleague."""

import asyncio
import re

import pyotp
import pytest
from tests.unit.authenticator import Authenticator
from tests.unit.slapd import ANNA, AUDITORS, BO, EVA, ORGANISERS, PASSWORD, RUT, dn, installation, running
from tests.unit.world import BROWSER, build

from sluss.domain.accounts import AccountRole
from sluss.domain.assurance import Method, Purpose
from sluss.domain.errors import (
    DirectoryUnavailable,
    InvalidInput,
    NotEnrolled,
    NotFound,
    NotVerified,
    SignInRequired,
    Told,
    TooManyTries,
)
from sluss.domain.limits import LOOK_UPS
from sluss.services.directory import AWAY, EVERY

HOME, SESSION = "192.0.2.7", "browser session"


@pytest.fixture
def slapd(tmp_path):
    with running(tmp_path / "slapd") as directory:
        yield directory


@pytest.fixture
async def world(tmp_path, slapd):
    """An installation with the directory, and a class that takes its passwords."""
    async with installation(tmp_path, slapd) as built:
        yield built


async def password(world, email=EVA, value=PASSWORD, session=SESSION, browser=""):
    await world.services.organisers.password(session, email, value, HOME, browser)


async def enrolled(world, email=EVA):
    """An organiser of the directory with an authenticator."""
    with pytest.raises(NotEnrolled):
        await password(world, email)
    await world.worker.deliver_due()
    token = re.search(r"/enrol/(\S+)", [body for to, body in world.mail.sent if to == email][-1])[1]
    enrolment = await world.services.organisers.enrolment(token, HOME)
    assert enrolment.of_directory
    totp = pyotp.TOTP(enrolment.secret)
    await world.services.organisers.enrol(token, "", totp.at(world.clock()), HOME)
    world.clock.forward(seconds=31)
    return totp


async def signed_in(world, email=EVA):
    totp = await enrolled(world, email)
    await password(world, email)
    done = await world.services.organisers.second_factor(SESSION, totp.at(world.clock()), HOME)
    return await world.services.organisers.current(done.session), done


def sessions(world):
    return len(world.sql("SELECT * FROM sessions"))


def audited(world, action):
    return [row["entry"] for row in world.sql("SELECT entry FROM audit") if f'"action":"{action}"' in row["entry"]]


# Organisers and auditors


async def test_first_right_password_mails_a_link_and_signs_nobody_in(world):
    with pytest.raises(NotEnrolled):
        await password(world)
    await world.worker.deliver_due()
    [(to, body)] = world.mail.sent
    assert to == EVA
    assert "/enrol/" in body
    assert sessions(world) == 0
    with pytest.raises(SignInRequired):
        await world.services.organisers.second_factor(SESSION, "000000", HOME)


async def test_organiser_of_the_directory_signs_in_with_its_password_and_a_second_factor_here(world):
    eva, _ = await signed_in(world)
    assert (eva.name, eva.email, eva.role) == ("Eva Ek", EVA, "organiser")
    assert world.sql("SELECT password FROM organisers") == [{"password": None}], "its password is not here"


async def test_group_makes_an_auditor(world):
    rut, _ = await signed_in(world, RUT)
    assert rut.role == "auditor"


async def test_who_is_in_no_group_is_no_organiser(world):
    with pytest.raises(NotVerified) as refused:
        await password(world, ANNA)
    assert not isinstance(refused.value, NotEnrolled)
    assert world.sql("SELECT id FROM organisers") == []
    assert world.mail.sent == []


@pytest.mark.parametrize("value", ["", "wrong", PASSWORD.upper(), f"{PASSWORD} "])
async def test_wrong_password_signs_nobody_in(world, value):
    await enrolled(world)
    with pytest.raises(NotVerified):
        await password(world, value=value)
    assert sessions(world) == 0


async def test_address_is_compared_as_the_directory_does_and_nothing_in_it_is_a_filter(world):
    await enrolled(world)
    await password(world, EVA.upper())
    for said in ("*", "eva*", f"{EVA})(uid=*", f"*)(mail={EVA}"):
        with pytest.raises(NotVerified):
            await password(world, said)


async def test_mails_with_links_to_enrol_are_few(world):
    for _ in range(5):
        with pytest.raises(NotEnrolled):
            await password(world)
    for _ in range(5):
        await world.worker.deliver_due()
    assert len(world.mail.sent) == 3


async def test_who_left_the_group_is_refused(world, slapd):
    await enrolled(world)
    slapd.join(ORGANISERS, "anna")  # a group has one member at least
    slapd.leave(ORGANISERS, "eva")
    with pytest.raises(NotVerified):
        await password(world)
    assert sessions(world) == 0


async def test_auditor_who_became_an_organiser_in_the_directory_is_none_here(world, slapd):
    """Who sees all attendance does not turn into somebody with meetings of their own, nor the other way round."""
    await enrolled(world, RUT)
    slapd.join(ORGANISERS, "rut")
    slapd.join(AUDITORS, "eva")
    slapd.leave(AUDITORS, "rut")
    with pytest.raises(NotVerified):
        await password(world, RUT)


async def test_another_entry_with_the_same_address_is_another_person(world, slapd):
    await enrolled(world)
    slapd.change("eva", "mail", "old@example.org")
    slapd.change("bo", "mail", EVA)
    slapd.join(ORGANISERS, "bo")
    with pytest.raises(NotVerified):
        await password(world)


async def test_organiser_with_a_password_here_is_not_of_the_directory(world, slapd):
    """It is who gets in when the directory is away."""
    await world.organiser(EVA)
    with pytest.raises(NotVerified):
        await password(world)
    slapd.stop()
    await password(world, value="lagom svår mening 47")


async def test_other_address_of_the_entry_does_not_lead_to_an_organiser_with_a_password_here(world, slapd):
    await world.organiser(ANNA)
    slapd.join(ORGANISERS, "anna")
    with pytest.raises(NotVerified, match="a password here"):
        await password(world, "anna.lindberg@example.org")
    assert world.sql("SELECT account_hash, entry FROM organisers") == [{"account_hash": None, "entry": None}]


async def test_organiser_who_is_handed_over_keeps_the_authenticator_and_takes_the_directorys_password(world):
    await world.organiser(EVA)
    await world.services.directory.hand_over(EVA)
    with pytest.raises(NotVerified):
        await password(world, value="lagom svår mening 47")
    await password(world)
    assert await world.services.organisers.second_factor(SESSION, world.totp.at(world.clock()), HOME)
    for email in (EVA, ANNA):
        with pytest.raises(NotFound):
            await world.services.directory.hand_over(email)


async def test_admin_is_not_handed_over_for_no_group_makes_one(world):
    await world.services.organisers.add("Ada", "ada@example.org", AccountRole.ADMIN)
    world.sql("UPDATE organisers SET password = 'x' WHERE role = 'admin'")
    with pytest.raises(NotFound):
        await world.services.directory.hand_over("ada@example.org")


async def test_directory_that_is_away_lets_nobody_in_and_is_named_in_the_log(world, slapd, capsys):
    await enrolled(world)
    slapd.stop()
    with pytest.raises(DirectoryUnavailable):
        await password(world)
    assert sessions(world) == 0
    out = capsys.readouterr().out
    assert "directory_unavailable" in out
    assert slapd.starttls in out
    slapd.start()
    await password(world)


async def test_nothing_tells_an_organiser_with_a_password_here_from_nobody(world, slapd, monkeypatch):
    """The same questions, the same time; and guesses at it are counted also while the directory is away."""
    await world.organiser("lokal@example.org")
    ldap, asked = world.services.directory._ldap, []
    bind = ldap._bind
    monkeypatch.setattr(ldap, "_bind", lambda dn, value: asked.append(value) or bind(dn, value))
    for email in ("lokal@example.org", "nobody@example.org"):
        with pytest.raises(NotVerified):
            await password(world, email, "guess 8f2c")
    assert len(asked) == 2
    assert asked[0] != "guess 8f2c", "a password of here does not go there"
    slapd.stop()
    for email in ("lokal@example.org", "nobody@example.org"):
        for _ in range(4):
            with pytest.raises(DirectoryUnavailable):
                await password(world, email, "guess 8f2c")
        with pytest.raises(TooManyTries):
            await password(world, email, "guess 8f2c")


async def test_password_is_in_no_log(world, capsys):
    await signed_in(world)
    with pytest.raises(NotVerified):
        await password(world, value="felaktigt 8f2c")
    out = capsys.readouterr().out
    assert "not_signed_in" in out or "signed_in" in out
    for secret in (PASSWORD, "felaktigt 8f2c", "service password"):
        assert secret not in out
    everything = str(world.sql("SELECT entry FROM audit"))
    assert "8f2c" not in everything


# Those who are signed in


async def tick(world, **time):
    world.clock.forward(**time)
    await world.housekeeping.tick()
    if (asking := world.housekeeping._asking) is not None:
        await asking


async def test_who_left_the_group_is_signed_out_within_ten_minutes(world, slapd):
    _, done = await signed_in(world)
    await tick(world, seconds=EVERY.seconds)
    assert await world.services.organisers.current(done.session), "who is still in it stays"
    slapd.join(ORGANISERS, "anna")
    slapd.leave(ORGANISERS, "eva")
    await tick(world, seconds=EVERY.seconds)
    with pytest.raises(SignInRequired):
        await world.services.organisers.current(done.session)
    assert any('"where":"directory"' in entry for entry in audited(world, "signed-out"))


async def test_who_is_gone_from_the_directory_is_signed_out(world, slapd):
    _, done = await signed_in(world)
    slapd.modify(f"dn: {dn('eva')}\nchangetype: delete\n")
    await tick(world, seconds=EVERY.seconds)
    with pytest.raises(SignInRequired):
        await world.services.organisers.current(done.session)


async def test_directory_that_takes_long_holds_up_nothing_else_that_is_to_be_done(world, monkeypatch):
    """Meetings whose time is over end, and who could not be put out is, meanwhile."""
    await signed_in(world)

    async def never(_):
        await asyncio.Event().wait()

    monkeypatch.setattr(world.services.directory._ldap, "by_id", never)
    world.clock.forward(seconds=EVERY.seconds)
    await asyncio.wait_for(world.housekeeping.tick(), 5)
    await world.housekeeping.stop()


async def test_who_is_renamed_in_the_directory_stays(world, slapd):
    _, done = await signed_in(world)
    slapd.change("eva", "mail", "eva.berg@example.org")
    slapd.change("eva", "displayName", "Eva Berg")
    await tick(world, seconds=EVERY.seconds)
    assert await world.services.organisers.current(done.session)


async def test_directory_that_is_away_signs_nobody_out_for_an_hour_and_then_everybody_of_it(world, slapd):
    _, done = await signed_in(world)
    local, session = await world.signed_in("lokal@example.org")
    slapd.stop()
    for _ in range(5):
        await tick(world, minutes=10)
        assert await world.services.organisers.current(done.session)
        assert await world.services.organisers.current(session) == local
    await tick(world, seconds=(AWAY / 5).seconds)
    with pytest.raises(SignInRequired):
        await world.services.organisers.current(done.session)
    assert await world.services.organisers.current(session) == local


async def with_passkey(world):
    """Eva, signed in, and her passkey."""
    return await with_passkey_of(world, await enrolled(world), PASSWORD)


async def with_passkey_of(world, totp, value):
    """The same with this authenticator and password."""
    await password(world, value=value)
    done = await world.services.organisers.second_factor(SESSION, totp.at(world.clock()), HOME)
    device = Authenticator()
    options = await world.services.passkeys.begin_adding_own(done.session)
    await world.services.passkeys.add_own(done.session, device.create(options))
    return device


async def by_passkey(world, device):
    options = await world.services.passkeys.begin_sign_in("another browser", HOME)
    return await world.services.passkeys.sign_in("another browser", device.get(options), HOME)


async def test_passkey_signs_in_whom_the_directory_still_has(world, slapd, capsys):
    device = await with_passkey(world)
    done = await by_passkey(world, device)
    assert await world.services.organisers.current(done.session)
    slapd.stop()
    before = sessions(world)
    with pytest.raises(DirectoryUnavailable):
        await by_passkey(world, device)
    assert sessions(world) == before
    slapd.start()
    slapd.join(ORGANISERS, "anna")
    slapd.leave(ORGANISERS, "eva")
    with pytest.raises(NotVerified):
        await by_passkey(world, device)
    assert sessions(world) == 0
    assert '"outcome":"refused"' in audited(world, "signed-in")[-1]


async def test_passkey_of_who_was_handed_over_waits_for_the_directorys_password(world, slapd):
    await world.organiser(EVA)
    device = await with_passkey_of(world, world.totp, "lagom svår mening 47")
    await world.services.directory.hand_over(EVA)
    slapd.join(ORGANISERS, "anna")
    slapd.leave(ORGANISERS, "eva")
    with pytest.raises(NotVerified, match="did not vouch"):
        await by_passkey(world, device)
    slapd.join(ORGANISERS, "eva")
    await password(world)
    world.clock.forward(seconds=31)
    await world.services.organisers.second_factor(SESSION, world.totp.at(world.clock()), HOME)
    assert await by_passkey(world, device)


@pytest.mark.parametrize("act", ["reset_by_host", "remove_by_host"])
async def test_who_is_reset_or_removed_while_the_directory_is_asked_is_not_signed_in(world, act, monkeypatch):
    device = await with_passkey(world)
    confirm = world.services.directory.confirm

    async def meanwhile(record):
        await confirm(record)
        await getattr(world.services.accounts, act)(EVA)

    monkeypatch.setattr(world.services.directory, "confirm", meanwhile)
    with pytest.raises(NotVerified):
        await by_passkey(world, device)
    assert sessions(world) == 0


async def test_directorys_answer_puts_nothing_back_into_an_account_that_was_removed(world, monkeypatch):
    await signed_in(world)
    by_id = world.services.directory._ldap.by_id

    async def meanwhile(entry):
        await world.services.accounts.remove_by_host(EVA)
        return await by_id(entry)

    monkeypatch.setattr(world.services.directory._ldap, "by_id", meanwhile)
    await world.services.directory.recheck()
    assert world.sql("SELECT entry, entry_seen_at FROM organisers") == [{"entry": None, "entry_seen_at": None}]


# Participants


@pytest.fixture
async def invited(world):
    """Anna, who is a colleague, and somebody who is none."""
    who = await world.organiser("org@example.org", "Olle")
    await world.meeting(who, ("Anna Lindberg", ANNA, "070-174 06 05"), ("Guest", "guest@elsewhere.test", "0701740607"))
    return world


async def verify(world, link, purpose=Purpose.VIEW, *, value=PASSWORD, browser=BROWSER, address=HOME):
    await world.services.directory.verify(link, browser, purpose, value, address)


async def test_colleague_sees_and_enters_with_link_and_password(invited):
    link = invited.link(ANNA)
    assert Method.LDAP in await invited.services.participation.methods(link)
    await verify(invited, link)
    view = await invited.services.participation.look(link, BROWSER)
    assert Method.LDAP in view.methods
    assert not view.may_enter, "who saw it proves it again to enter"
    await verify(invited, link, Purpose.JOIN)
    assert await invited.services.tickets.for_participant(link, BROWSER)
    entries = audited(invited, "verified")
    assert all('"method":"ldap"' in entry and "aal1" in entry for entry in entries)


async def test_address_may_be_any_of_the_entrys_and_in_other_letters(invited):
    invited.change_invitation(ANNA, email="ANNA.Lindberg@example.org")
    await verify(invited, invited.link(ANNA))


@pytest.mark.parametrize("value", ["", "wrong", "*"])
async def test_wrong_password_shows_nothing(invited, value):
    link = invited.link(ANNA)
    with pytest.raises(NotVerified):
        await verify(invited, link, value=value)
    assert await invited.services.participation.look(link, BROWSER) is None


async def test_colleagues_password_opens_no_link_of_another(invited, slapd):
    slapd.change("bo", "userPassword", "Bos eget lösenord")
    with pytest.raises(NotVerified):
        await verify(invited, invited.link(ANNA), value="Bos eget lösenord")
    with pytest.raises(NotVerified):
        await verify(invited, invited.link("guest@elsewhere.test"))


async def test_who_joins_is_the_entry_that_saw_the_invitation(invited, slapd):
    link = invited.link(ANNA)
    await verify(invited, link)
    slapd.modify(f"dn: {dn('anna')}\nchangetype: delete\n")
    slapd.change("bo", "mail", ANNA)  # the address is somebody else's now
    with pytest.raises(NotVerified):
        await verify(invited, link, Purpose.JOIN)
    assert invited.sql("SELECT other_person_at FROM invitations WHERE other_person_at IS NOT NULL")


async def test_entry_that_was_renamed_is_still_who_saw_the_invitation(invited, slapd):
    link = invited.link(ANNA)
    await verify(invited, link)
    slapd.modify(f"dn: {dn('anna')}\nchangetype: modrdn\nnewrdn: uid=anna.berg\ndeleteoldrdn: 0\n")
    await verify(invited, link, Purpose.JOIN)


async def test_class_that_does_not_list_it_does_not_take_it_and_the_organiser_is_told_of_a_right_one(invited):
    invited.change_class("internal", join=invited.ground.policy.of("confidential").join)
    link = invited.link(ANNA)
    await verify(invited, link)
    for value, told in (("wrong", set()), (PASSWORD, {Told.TOO_WEAK})):
        with pytest.raises(NotVerified) as refused:
            await verify(invited, link, Purpose.JOIN, value=value)
        assert refused.value.public == NotVerified.public, "it does not say whether it would have been right"
        assert invited.told() == told


async def test_link_alone_reaches_nobodys_account_where_passwords_count_for_nothing(invited, slapd):
    shipped = invited.ground.policy.of("confidential")
    invited.change_class("internal", view=shipped.view, join=shipped.join)
    invited.services.directory._pace = 0.3
    for value in (PASSWORD, "wrong", "wrong too", "wrong again"):
        began = asyncio.get_running_loop().time()
        with pytest.raises(NotVerified) as refused:
            await verify(invited, invited.link(ANNA), value=value)
        assert asyncio.get_running_loop().time() - began >= 0.3
        assert refused.value.public == NotVerified.public
    assert slapd.failures("anna") == 0
    assert invited.told() == set()


async def test_directory_that_compares_addresses_loosely_makes_nobody_somebody_else(invited, monkeypatch):
    ldap = invited.services.directory._ldap
    bo = await ldap.by_address(BO)

    async def loosely(*_, **__):
        return bo

    monkeypatch.setattr(ldap, "by_address", loosely)
    with pytest.raises(NotVerified, match="not the invited person's entry"):
        await verify(invited, invited.link(ANNA))


async def test_no_shipped_class_takes_it(world):
    for name in ("confidential", "secret"):
        assert not any(world.ground.policy.of(name).requirement(purpose).accepts(Method.LDAP) for purpose in Purpose)


async def test_directory_that_is_away_shows_nothing(invited, slapd):
    slapd.stop()
    for link in (invited.link(ANNA), "no such link"):
        with pytest.raises(DirectoryUnavailable):
            await verify(invited, link)


async def test_links_of_every_kind_ask_the_directory_alike(invited, slapd, monkeypatch):
    """One search and one bind each, so that what it is shows in nothing."""
    who = await invited.organiser("second@example.org", "Sven")
    meeting = await invited.meeting(who, ("Bo Ek", BO, "0701740606"))
    withdrawn = invited.link(BO)
    [one] = await invited.store.run(lambda tx: tx.invitations.participants(meeting.id))
    await invited.services.meetings.withdraw(who, one.id)
    ldap, asked = invited.services.directory._ldap, []
    for name in ("_one", "_bind"):
        real = getattr(ldap, name)

        def spy(*args, name=name, real=real, **kwargs):
            asked.append(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(ldap, name, spy)
    for link in (invited.link(ANNA), invited.link("guest@elsewhere.test"), withdrawn, "no such link"):
        asked.clear()
        with pytest.raises(NotVerified) as refused:
            await verify(invited, link, value="wrong", browser=link)
        assert asked == ["_one", "_bind"]
        assert str(refused.value) == "wrong password, or nobody to verify"


async def test_refusal_takes_a_while_so_that_nothing_shows_in_how_long(invited):
    invited.services.directory._pace = 0.3
    for link in (invited.link(ANNA), "no such link"):
        began = asyncio.get_running_loop().time()
        with pytest.raises(NotVerified):
            await verify(invited, link, value="wrong", browser=link)
        assert asyncio.get_running_loop().time() - began >= 0.3


# Guessing


async def test_guesses_do_not_lock_the_account_in_the_directory(invited, slapd):
    """It locks after five within half an hour."""
    link, refusals = invited.link(ANNA), []
    for n in range(40):
        for attempt in (
            verify(invited, link, value=f"guess {n}", browser=f"b{n}", address=f"198.51.100.{n}"),
            password(invited, ANNA, f"guess {n}", f"s{n}"),
        ):
            with pytest.raises((NotVerified, TooManyTries)) as refused:
                await attempt
            refusals.append(type(refused.value))
    assert slapd.failures("anna") == 2
    assert TooManyTries in refusals
    invited.clock.forward(minutes=30)
    with pytest.raises(NotVerified):
        await password(invited, ANNA, "one more")
    assert slapd.failures("anna") == 3


async def test_guesses_at_once_are_no_more_than_one_after_the_other(invited, slapd):
    link = invited.link(ANNA)
    tries = [verify(invited, link, value=f"guess {n}", browser=f"b{n}", address=f"198.51.100.{n}") for n in range(8)]
    assert all(await asyncio.gather(*tries, return_exceptions=True))
    assert slapd.failures("anna") == 2


async def test_right_password_is_not_looked_at_when_too_many_were_wrong_and_nothing_says_so(invited):
    link = invited.link(ANNA)
    for value in ("wrong", "wrong too", PASSWORD):
        with pytest.raises(NotVerified) as refused:
            await verify(invited, link, value=value)
        assert str(refused.value) == "wrong password, or nobody to verify"
    invited.clock.forward(minutes=30)
    await verify(invited, link)


async def test_others_guesses_do_not_hold_up_a_browser_that_has_proved_it_before(invited):
    link = invited.link(ANNA)
    await verify(invited, link)
    for n in range(12):
        with pytest.raises((NotVerified, TooManyTries)):
            await verify(invited, link, value="wrong", browser=f"b{n}")
    await verify(invited, link, Purpose.JOIN)


async def test_browser_that_was_verified_in_another_way_has_no_more_guesses_at_the_password(invited):
    """Whoever has the phone would lock the account in the directory, together with a stranger."""
    link = invited.link(ANNA)
    await invited.verified(link, Purpose.VIEW)
    for n in range(2):
        with pytest.raises(NotVerified):
            await verify(invited, link, value="wrong", browser=f"b{n}")
    with pytest.raises(NotVerified):
        await verify(invited, link)


async def test_others_guesses_do_not_hold_up_an_organisers_own_browser_whatever_name_is_typed_there(world, slapd):
    slapd.join(ORGANISERS, "anna")
    _, done = await signed_in(world, ANNA)
    for _ in range(2):
        with pytest.raises(NotVerified):
            await password(world, ANNA, "wrong")
    with pytest.raises(NotVerified):
        await password(world, "anna.lindberg@example.org")
    await password(world, "anna.lindberg@example.org", browser=done.browser)


@pytest.mark.parametrize("live", [True, False])
async def test_tries_with_a_link_are_limited_whether_it_is_live_or_not(invited, live):
    link = invited.link(ANNA) if live else "no such link"
    for n in range(5):
        with pytest.raises(NotVerified):
            await verify(invited, link, value="wrong", browser=f"b{n}")
    with pytest.raises(TooManyTries):
        await verify(invited, link, value=PASSWORD)


async def test_organiser_sees_that_a_link_is_locked_and_unlocks_it_but_not_the_account(invited, slapd):
    link = invited.link(ANNA)
    who = await invited.services.organisers.by_email("org@example.org")
    for n in range(12):
        with pytest.raises((NotVerified, TooManyTries)):
            await verify(invited, link, value="wrong", browser=f"b{n}", address=f"198.51.100.{n}")
    view = await invited.services.meetings.view(who, (await invited.services.meetings.list(who))[0].id)
    [status] = [one for one in view.participants if one.invitation.email == ANNA]
    assert [lock.kind for lock in status.locks] == ["passwords"]
    await invited.services.meetings.unlock(who, status.invitation.id)
    before = slapd.failures("anna")
    with pytest.raises(NotVerified):
        await verify(invited, link, value="wrong", browser="c")
    assert slapd.failures("anna") == before


# Colleagues


async def test_organiser_finds_colleagues_to_invite(world):
    who = await world.organiser()
    [anna] = await world.services.directory.look_up(who, "  lind   anna ")
    assert (anna.name, anna.email, anna.mobile) == ("Anna Lindberg", ANNA, "070-174 06 05")
    assert await world.services.directory.look_up(who, "zz") == []
    for short in ("", " a ", "\u00ad\u00ad\u00ad"):
        with pytest.raises(InvalidInput):
            await world.services.directory.look_up(who, short)


async def test_looking_up_is_limited_and_noted_once_in_half_an_hour(world):
    who = await world.organiser()
    for _ in range(LOOK_UPS.many):
        await world.services.directory.look_up(who, "anna")
    with pytest.raises(TooManyTries):
        await world.services.directory.look_up(who, "anna")
    assert len(audited(world, "colleagues-looked-up")) == 1
    assert "anna" not in str(audited(world, "colleagues-looked-up"))
    world.clock.forward(minutes=30)
    await world.services.directory.look_up(who, "anna")
    assert len(audited(world, "colleagues-looked-up")) == 2


async def test_without_a_directory_there_is_nothing_to_ask(tmp_path):
    async with build(tmp_path, durable=False) as plain:
        assert not plain.services.directory.there
        with pytest.raises(NotFound):
            await plain.services.directory.verify("x", BROWSER, Purpose.VIEW, "y", HOME)
        with pytest.raises(NotFound):
            await plain.services.directory.look_up(await plain.organiser(), "anna")
        await plain.services.directory.recheck()
