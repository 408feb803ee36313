"""BankID for participants: the right person gets in, nobody else does, and every link goes the same way until then."""

import asyncio
from datetime import timedelta

import jwt
import pytest
from sqlalchemy import event
from tests.doubles.bankid.double import SIGNS, STARTED, WAITS, complete, failed, refused
from tests.unit.bankid import ANNA_SIGNS, BO_SIGNS, HOME, NAMESAKE_SIGNS, NUMBER, installation
from tests.unit.world import ANNA

from sluss.domain.assurance import Method, Purpose, Risk
from sluss.domain.audit import Action, Outcome, parse
from sluss.domain.errors import BankIdUnavailable, Told, TooManyTries
from sluss.domain.limits import LockKind
from sluss.factors.bankid import State
from sluss.services.bankid import GONE, LIFETIME, REFUSED, Progress
from sluss.services.common import new_link

WITH_NUMBER = (*ANNA, "", "811228-9874")
DONE, NO = Progress(State.COMPLETE), Progress(State.FAILED, REFUSED)
MARRIED = complete(NUMBER, "Anna", "Ek")
JOIN = Purpose.JOIN


@pytest.fixture
async def bank(tmp_path):
    """Anna is invited by name."""
    async with installation(tmp_path) as made:
        yield made


@pytest.fixture
async def numbered(tmp_path):
    """Anna is invited with her personal number."""
    async with installation(tmp_path, WITH_NUMBER) as made:
        yield made


def entries(bank, action: Action) -> list:
    return [e for row in bank.world.sql("SELECT entry FROM audit") if (e := parse(row["entry"])).action is action]


async def status(bank):
    return (await bank.world.services.meetings.view(bank.organiser, bank.meeting.id)).participants[0]


# The right person


async def test_person_of_the_number_sees_the_invitation_and_enters_the_meeting(numbered):
    link = numbered.world.link()
    assert await numbered.signs(ANNA_SIGNS) == DONE
    assert (await numbered.looks()).meeting.title == "Budget"
    assert await numbered.looks(browser="another") is None
    assert await numbered.signs(ANNA_SIGNS, purpose=JOIN) == DONE
    numbered.world.change_class("confidential", waiting_room=False)
    ticket = await numbered.world.services.tickets.for_participant(link, "b")
    claims = jwt.decode(ticket.token, options={"verify_signature": False})
    assert (claims["acr"], claims["amr"]) == ("urn:sluss:acr:aal2", ["pop", "user", "mfa"])
    (seen,) = numbered.world.sql("SELECT * FROM verifications WHERE purpose = 'view'")
    assert (seen["method"], seen["subject"]) == ("bankid", numbered.world.ground.personal_number_hash(NUMBER))


async def test_number_decides_whatever_the_name_in_the_certificate(numbered):
    assert await numbered.signs(MARRIED) == DONE


async def test_person_of_the_invited_name_is_bound_by_the_first_look(bank):
    assert await bank.signs(ANNA_SIGNS) == DONE
    assert await bank.signs(NAMESAKE_SIGNS, browser="namesake's") == NO
    assert await bank.looks(browser="namesake's") is None
    assert await bank.signs(MARRIED, browser="phone") == DONE, "the same person under another name"
    assert await bank.signs(ANNA_SIGNS, purpose=JOIN) == DONE


async def test_new_link_binds_anew(bank):
    assert await bank.signs(NAMESAKE_SIGNS) == DONE
    await bank.world.services.meetings.resend(bank.organiser, (await status(bank)).invitation.id)
    await bank.world.worker.deliver_due()
    assert await bank.signs(ANNA_SIGNS) == DONE
    assert await bank.signs(NAMESAKE_SIGNS, browser="namesake's") == NO


# Everybody else


async def test_bankid_of_another_person_is_refused_recorded_and_told_to_the_organiser(numbered):
    for wrong in (BO_SIGNS, NAMESAKE_SIGNS):
        assert await numbered.signs(wrong) == NO
    assert await numbered.looks() is None
    last = entries(numbered, Action.VERIFIED)[-1]
    assert (last.outcome, last.details["reason"]) == (Outcome.REFUSED, "BankID of another person")
    assert (last.details["method"], last.details["risk"]) == ("bankid", "low")
    assert (await status(numbered)).other_person_at == numbered.world.clock.now
    assert (await status(numbered)).viewed_at is None


async def test_bankid_in_another_name_is_refused(bank):
    assert await bank.signs(BO_SIGNS) == NO
    assert await bank.looks() is None
    assert (await status(bank)).other_person_at is not None


async def test_who_saw_the_invitation_and_who_enters_are_one_person(numbered):
    assert await numbered.signs(ANNA_SIGNS) == DONE
    assert await numbered.signs(BO_SIGNS, purpose=JOIN) == NO
    assert await numbered.signs(ANNA_SIGNS, purpose=JOIN, browser="c") == DONE


async def test_nobody_enters_by_bankid_who_has_not_seen_the_invitation_by_it(numbered):
    assert await numbered.signs(ANNA_SIGNS, purpose=JOIN) == NO
    assert (await status(numbered)).other_person_at is None, "it was the right person"


async def test_class_that_does_not_accept_bankid_is_not_opened_by_it(numbered):
    numbered.world.change_class("confidential", view=numbered.world.ground.policy.of("confidential").view.__class__(
        (Method.PASSKEY,), timedelta(hours=1)
    ))  # fmt: skip
    assert await numbered.signs(BO_SIGNS) == NO
    assert numbered.world.told() == {Told.OTHER_PERSON}
    assert await numbered.signs(ANNA_SIGNS) == NO
    assert await numbered.looks() is None
    assert numbered.world.told() == {Told.OTHER_PERSON, Told.TOO_WEAK}, "neither hides the other"
    assert (await status(numbered)).too_weak_at == numbered.world.clock.now


# Risk


@pytest.mark.parametrize(
    ("accepted", "seen", "let_in"),
    [
        (Risk.LOW, "low", True),
        (Risk.LOW, "moderate", False),
        (Risk.MODERATE, "moderate", True),
        (Risk.MODERATE, "high", False),
        (Risk.HIGH, "high", True),
        (Risk.LOW, None, True),  # BankID cannot always tell
    ],
)
async def test_risk_above_what_is_accepted_is_refused_and_recorded(tmp_path, accepted, seen, let_in):
    async with installation(tmp_path, risk=accepted) as bank:
        signs = complete(NUMBER, "Anna", "Lindberg", seen)
        assert await bank.signs(signs) == (DONE if let_in else NO)
        entry = entries(bank, Action.VERIFIED)[-1]
        assert entry.details["risk"] == (seen or "unknown")
        assert (entry.outcome is Outcome.DONE) is let_in
        assert bank.world.told() == (set() if let_in else {Told.TOO_WEAK})


async def test_another_persons_bankid_is_told_as_that_whatever_the_risk(bank):
    assert await bank.signs(complete("195001182046", "Bo", "Ek", "high")) == NO
    assert bank.world.told() == {Told.OTHER_PERSON}


# Orders that come to nothing


@pytest.mark.parametrize(
    "hint",
    ["expiredTransaction", "certificateErr", "userCancel", "cancelled", "startFailed", "userDeclinedCall", "new"],
)
async def test_failed_order_verifies_nobody_and_can_be_begun_again(bank, hint):
    bank.double.story = [WAITS, failed(hint)]
    link = bank.world.link()
    await bank.start(link)
    assert await bank.collect(link) == Progress(State.PENDING, "outstandingTransaction")
    assert await bank.collect(link) == Progress(State.FAILED, hint)
    assert await bank.collect(link) == Progress(State.FAILED, hint), "told again, not asked again"
    assert bank.double.collects == 2
    assert await bank.looks() is None
    assert await bank.signs(ANNA_SIGNS) == DONE


@pytest.mark.parametrize(("code", "number"), [("Maintenance", 503), ("internalError", 500), ("requestTimeout", 408)])
async def test_service_that_is_away_begins_nothing_and_ends_what_was_begun(bank, code, number):
    link = bank.world.link()
    bank.double.on_auth = refused(number, code)
    with pytest.raises(BankIdUnavailable):
        await bank.start(link)
    assert bank.orders.progress(link, "b", Purpose.VIEW) is None
    bank.double.on_auth = None
    bank.double.story = [refused(number, code), ANNA_SIGNS]
    await bank.start(link)
    assert await bank.collect(link) == Progress(State.FAILED, code)
    assert await bank.collect(link) == Progress(State.FAILED, code)
    assert await bank.looks() is None


async def test_completed_order_verifies_once_however_often_it_is_asked_about(bank):
    assert await bank.signs(ANNA_SIGNS) == DONE
    asked = bank.double.collects
    assert await bank.collect(bank.world.link()) == DONE
    assert bank.double.collects == asked
    assert len(bank.world.sql("SELECT id FROM verifications")) == 1


async def test_cancelled_order_is_taken_back_and_verifies_nobody(bank):
    link = bank.world.link()
    bank.double.story = [ANNA_SIGNS]
    await bank.start(link)
    await bank.orders.cancel(link, "b", Purpose.VIEW)
    assert bank.double.last.cancelled
    assert await bank.collect(link) == Progress(State.FAILED, GONE)


async def test_order_that_is_cancelled_while_bankid_answers_verifies_nobody(bank):
    link = bank.world.link()
    bank.double.story = [ANNA_SIGNS]
    await bank.start(link)
    bank.double.hold = asyncio.Event()
    asking = asyncio.create_task(bank.collect(link))
    await bank.double.arrived.wait()
    cancelling = asyncio.create_task(bank.orders.cancel(link, "b", Purpose.VIEW))
    await asyncio.sleep(0)
    bank.double.hold.set()
    assert await asking == Progress(State.FAILED, GONE)
    await cancelling
    assert await bank.looks() is None


async def test_new_order_takes_the_old_one_back(bank):
    link = bank.world.link()
    await bank.start(link)
    await bank.start(link)
    old, new = bank.double.orders
    assert (old.cancelled, new.cancelled) == (True, False)


async def test_order_is_forgotten_after_its_time(bank):
    link = bank.world.link()
    await bank.start(link)
    bank.world.clock.forward(seconds=LIFETIME.total_seconds() + 1)
    assert bank.orders.start_token(link, "b", Purpose.VIEW) == bank.orders.qr_code(link, "b", Purpose.VIEW) == ""
    assert await bank.collect(link) == Progress(State.FAILED, GONE)
    await bank.start(new_link())
    assert len(bank.orders._orders) == 1


async def test_restart_ends_orders_politely(bank):
    link = bank.world.link()
    await bank.start(link)
    await bank.orders.stop()
    assert bank.double.last.cancelled
    assert await bank.collect(link) == Progress(State.FAILED, GONE)


async def test_bankid_that_is_away_does_not_hold_up_the_end(bank):
    await bank.start(bank.world.link())
    bank.double.orders.clear()
    await bank.orders.stop()


# Whose order it is


async def test_order_is_of_one_browser_link_and_purpose(bank):
    link = bank.world.link()
    bank.double.story = [ANNA_SIGNS]
    await bank.start(link)
    for other, browser, purpose in ((link, "c", Purpose.VIEW), (new_link(), "b", Purpose.VIEW), (link, "b", JOIN)):
        assert await bank.collect(other, purpose, browser) == Progress(State.FAILED, GONE)
        assert bank.orders.qr_code(other, browser, purpose) == bank.orders.start_token(other, browser, purpose) == ""
    assert bank.double.collects == 0
    nonce = bank.double.last.asked["returnUrl"].rpartition("/")[2]
    assert bank.orders.returned("b", nonce) == (link, Purpose.VIEW)
    assert bank.orders.returned("c", nonce) is None
    assert bank.orders.returned("b", "wrong") is None


async def test_code_moves_each_second_and_the_app_reads_it(bank):
    link = bank.world.link()
    await bank.start(link)
    for second in range(3):
        assert bank.double.last.reads(bank.orders.qr_code(link, "b", Purpose.VIEW)) == second
        bank.world.clock.forward(seconds=1)
    bank.world.clock.set(hours=-1)
    assert bank.double.last.reads(bank.orders.qr_code(link, "b", Purpose.VIEW)) == 0


async def test_bankid_is_asked_once_at_a_time_and_once_a_second(bank):
    link = bank.world.link()
    await bank.start(link)
    bank.world.clock.forward(seconds=2)
    bank.double.hold = asyncio.Event()
    many = [asyncio.create_task(bank.orders.collect(link, "b", Purpose.VIEW, HOME)) for _ in range(5)]
    await asyncio.sleep(0)
    bank.double.hold.set()
    await asyncio.gather(*many)
    await bank.orders.collect(link, "b", Purpose.VIEW, HOME)
    assert bank.double.collects == 1


async def test_slow_bankid_is_not_asked_again_meanwhile(bank):
    link = bank.world.link()
    bank.double.story = [ANNA_SIGNS]
    await bank.start(link)
    bank.double.hold = asyncio.Event()
    asking = asyncio.create_task(bank.collect(link))
    await bank.double.arrived.wait()
    assert (await asyncio.wait_for(bank.collect(link), 2)).state is State.PENDING
    bank.double.hold.set()
    assert await asking == DONE
    assert bank.double.collects == 1


# Links


async def wrong(bank) -> str:
    return new_link()


async def withdrawn(bank) -> str:
    await bank.world.services.meetings.withdraw(bank.organiser, (await status(bank)).invitation.id)
    return bank.world.link()


async def reported(bank) -> str:
    await bank.world.services.participation.not_me(bank.world.link(), HOME)
    return bank.world.link()


@pytest.mark.parametrize("dead", [wrong, withdrawn, reported])
async def test_dead_link_gets_an_order_like_a_live_one_and_the_same_refusal(bank, dead):
    seen, statements = [], []
    live = bank.world.link()
    await bank.start(live, browser="first")  # the limits' rows are there
    event.listen(bank.world.store.engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    for link, browser in ((live, "x"), (await dead(bank), "y")):
        if dead is wrong:
            await bank.start(link, browser="first")
        statements.clear()
        await bank.start(link, browser=browser)
        asked, done = bank.double.last.asked | {"returnUrl": ""}, list(statements)
        bank.double.last.story = [STARTED, SIGNS, BO_SIGNS]
        told = [await bank.collect(link, browser=browser) for _ in range(3)]
        seen.append((asked, done, told))
    assert seen[0] == seen[1]
    assert seen[0][2][-1] == NO


async def test_right_person_with_a_withdrawn_link_is_refused(bank):
    link = await withdrawn(bank)
    assert await bank.signs(ANNA_SIGNS, link) == NO
    assert await bank.looks(link) is None


async def test_app_names_the_organisation_and_to_who_saw_the_invitation_the_organiser(bank):
    link = bank.world.link()
    for purpose in Purpose:
        await bank.start(link, purpose)
        assert "Demo" in bank.double.last.text
        assert "portal.sluss.test" in bank.double.last.text
        for secret in ("Eva", "Budget", "Anna", "Öppning"):
            assert secret not in bank.double.last.text
    await bank.signs(ANNA_SIGNS)
    await bank.start(link, JOIN, locale="sv")
    assert "Inbjuden av *Eva Ek*" in bank.double.last.text
    for secret in ("Budget", "Anna", "Öppning"):
        assert secret not in bank.double.last.text


async def test_nothing_that_leaves_us_or_is_kept_has_the_link_or_the_number(numbered, capsys):
    link = numbered.world.link()
    await numbered.signs(ANNA_SIGNS)
    await numbered.signs(BO_SIGNS, browser="c")
    assert link not in str([order.asked for order in numbered.double.orders])
    kept = numbered.world.database.read_bytes() + (numbered.world.database.parent / "sluss.db-wal").read_bytes()
    order = numbered.double.orders[0]
    logged = "".join(capsys.readouterr())
    assert "bankid_started" in logged
    for secret in (NUMBER, NUMBER[2:], "Anna Maria", order.ref, order.start_token, order.qr_token, order.qr_secret):
        assert secret.encode() not in kept
        assert secret not in logged


# Limits


async def until_locked(bank, start) -> TooManyTries:
    for number in range(1000):
        try:
            await start(number)
        except TooManyTries as refusal:
            return refusal
    pytest.fail("never")


async def test_orders_of_a_link_are_limited_told_to_the_organiser_and_unlocked(bank):
    link = bank.world.link()
    refusal = await until_locked(bank, lambda n: bank.start(link, browser=f"b{n}"))
    assert len(bank.double.orders) == 12
    assert refusal.retry_after <= 30 * 60
    assert [lock.kind for lock in (await status(bank)).locks] == [LockKind.BANKID]
    await bank.world.services.meetings.unlock(bank.organiser, (await status(bank)).invitation.id)
    assert await bank.signs(ANNA_SIGNS) == DONE


async def test_strangers_with_the_link_do_not_lock_who_has_seen_the_invitation(bank):
    link = bank.world.link()
    assert await bank.signs(ANNA_SIGNS) == DONE
    await until_locked(bank, lambda n: bank.start(link, browser=f"b{n}", address=f"203.0.113.{n % 250}"))
    assert len(bank.double.orders) == 24
    assert await bank.signs(ANNA_SIGNS, purpose=JOIN) == DONE
    refusal = await until_locked(bank, lambda _: bank.start(link, JOIN))
    assert (len(bank.double.orders), refusal.retry_after) == (24 + 12, 292), "one comes back every five minutes"


async def test_orders_of_an_address_and_of_all_are_limited_whatever_the_links(bank):
    await until_locked(bank, lambda n: bank.start(new_link(), browser=f"b{n}"))
    assert len(bank.double.orders) == 300
    await bank.start(bank.world.link(), address="203.0.113.9")
    await until_locked(bank, lambda n: bank.start(new_link(), browser=f"b{n}", address=f"203.0.113.{n % 250}"))
    assert len(bank.double.orders) == 600, "all together"
