"""The audit log: whatever matters is in it, and whatever is done to it shows."""

import asyncio
import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path

import pyotp
import pytest
import structlog
from click.testing import CliRunner
from tests.unit.settings import credentials, valid, written
from tests.unit.world import ANNA, BROWSER, MASTER, PASSWORD, World, build

from sluss.cli import main
from sluss.domain import audit
from sluss.domain.assurance import Purpose
from sluss.domain.audit import GENESIS, Action, Damage, Entry, Head, Line, Outcome
from sluss.domain.errors import GateUnavailable, NotVerified, TooManyTries
from sluss.domain.gate import Occupant
from sluss.domain.meetings import Answer
from sluss.keyring.secrets import Hasher, audit_key, field_key, form_key
from sluss.services.audit import OPERATOR, REQUEST_ID, UNKNOWN_A_MINUTE
from sluss.services.common import new_link
from sluss.store.audit import AuditBrokenError, AuditRepository
from sluss.store.database import Store
from sluss.store.sealing import Sealer

TOLD = "192.0.2.7"
BERTIL = ("Bertil Berg", "bertil@example.org", "070-174 06 06")


async def entries(world: World, *actions: Action) -> list[Entry]:
    found = [audit.parse(line.entry) async for line in world.services.audit.lines()]
    return [entry for entry in found if not actions or entry.action in actions]


async def outcomes(world: World, action: Action) -> list[Outcome]:
    return [entry.outcome for entry in await entries(world, action)]


def plain(count: int = 10) -> list[Line]:
    """A sound log."""
    lines, previous = [], GENESIS
    for seq in range(1, count + 1):
        text = Entry(1_800_000_000 + seq, Action.SIGNED_IN, Outcome.DONE, f"organiser:{seq}", seq=seq).canonical()
        previous = audit.chain(previous, text)
        lines.append(Line(seq, text, previous))
    return lines


def head_of(lines: list[Line]) -> Head:
    return Head(lines[-1].seq, lines[-1].hash)


def found(lines, head, noted=()):
    return [(fault.seq, fault.damage) for fault in audit.verify(lines, head, noted)]


# The rule


def test_sound_log_is_sound():
    lines = plain()
    assert found(lines, head_of(lines), [Head(3, lines[2].hash), head_of(lines)]) == []
    assert found([], Head(0, GENESIS)) == []


def test_entry_is_chained_by_sha_256_over_its_rfc_8785_form():
    (line,) = plain(1)
    assert line.entry == (
        '{"action":"signed-in","actor":"organiser:1","assurance":"","at":1800000001,"details":{},"on_behalf":"",'
        '"outcome":"done","request_id":"","seq":1,"subject":""}'
    )
    assert line.hash == audit.chain(GENESIS, line.entry)
    assert audit.parse(line.entry).canonical() == line.entry


def rechained(lines: list[Line], start: int) -> list[Line]:
    """What somebody makes who computes all hashes anew from a place on."""
    previous = lines[start - 1].hash if start else GENESIS
    done = lines[:start]
    for line in lines[start:]:
        previous = audit.chain(previous, line.entry)
        done.append(Line(line.seq, line.entry, previous))
    return done


def changed(line: Line) -> Line:
    return Line(line.seq, line.entry.replace("done", "refused"), line.hash)


def numbered(lines: list[Line]) -> list[Line]:
    return [Line(place, line.entry, line.hash) for place, line in enumerate(lines, 1)]


def test_every_damage_is_found_where_it_is():
    lines = plain()
    head = head_of(lines)
    one = changed(lines[3])
    with_own_hash = Line(4, one.entry, audit.chain(lines[2].hash, one.entry))
    cases = {
        "changed": ([*lines[:3], one, *lines[4:]], [(4, Damage.CHANGED)]),
        "changed, and its hash": ([*lines[:3], with_own_hash, *lines[4:]], [(5, Damage.CHANGED)]),
        "no entry": ([*lines[:3], Line(4, "[]", lines[3].hash), *lines[4:]], [(4, Damage.CHANGED)]),
        "first changed": ([changed(lines[0]), *lines[1:]], [(1, Damage.CHANGED)]),
        "removed": ([*lines[:3], *lines[5:]], [(4, Damage.MISSING)]),
        "first removed": (lines[1:], [(1, Damage.MISSING)]),
        "two changed places swapped": (
            numbered([*lines[:2], lines[5], *lines[3:5], lines[2], *lines[6:]]),
            [(3, Damage.REORDERED), (6, Damage.REORDERED)],
        ),
        "moved in a file": ([*lines[:2], lines[3], lines[2], *lines[4:]], [(3, Damage.MISSING), (3, Damage.REORDERED)]),
        "repeated in a file": ([*lines[:3], lines[2], *lines[3:]], [(3, Damage.DUPLICATED)]),
        "repeated in place of another": (
            numbered([*lines[:5], lines[2], *lines[6:]]),
            [(6, Damage.DUPLICATED)],
        ),
        "tail cut off": (lines[:-2], [(9, Damage.TRUNCATED)]),
        "all cut off": ([], [(1, Damage.TRUNCATED)]),
        "made anew": (rechained([*lines[:3], one, *lines[4:]], 3), [(10, Damage.REWRITTEN)]),
    }
    for name, (damaged, expected) in cases.items():
        assert found(damaged, head) == expected, name
    assert found(lines, head_of(lines[:-2])) == [(8, Damage.REWRITTEN), (9, Damage.ADDED)][1:]


def test_repeated_and_shifted_is_found_from_there_on():
    lines = plain()
    shifted = numbered([*lines[:3], *lines[2:]])
    assert found(shifted, head_of(lines))[0] == (4, Damage.DUPLICATED)


def test_head_noted_elsewhere_shows_what_was_made_anew_and_narrows_it_down():
    lines = plain()
    noted = [Head(line.seq, line.hash) for line in (lines[1], lines[4], lines[8])]
    anew = rechained([*lines[:3], changed(lines[3]), *lines[4:]], 3)
    assert found(anew, head_of(anew)) == []  # with the key, nothing shows by itself
    assert found(anew, head_of(anew), noted) == [(5, Damage.REWRITTEN), (9, Damage.REWRITTEN)]
    older = lines[:6]
    assert found(older, head_of(older), noted) == [(7, Damage.TRUNCATED)]


@pytest.mark.parametrize("text", ["", "x", "5", "5:", "5:abcd", f"-1:{'a' * 64}", f"5:{'g' * 64}", f"5:{'a' * 63}"])
def test_noted_head_that_is_none_is_refused(text):
    with pytest.raises(ValueError):
        Head.parse(text)


# In the database


@pytest.fixture
async def kept(world):
    """An installation with some entries."""
    organiser, _ = await world.signed_in()
    await world.meeting(organiser, ANNA, BERTIL)
    await world.inside(world.link())
    return world


async def damage(world: World, *noted: Head) -> list[tuple[int, Damage]]:
    _, faults = await world.services.audit.verify(noted)
    return [(fault.seq, fault.damage) for fault in faults]


def unguarded(world: World, *statements: str) -> None:
    """What somebody does who writes in the database itself."""
    for trigger in ("audit_no_update", "audit_no_delete", "audit_next"):
        world.sql(f"DROP TRIGGER IF EXISTS {trigger}")
    for statement in statements:
        world.sql(statement)


COPY = "INSERT INTO audit SELECT seq + 1, entry, hash FROM audit WHERE seq = {0}"
SHIFT = "UPDATE audit SET seq = seq + 1000 WHERE seq > {0}", "UPDATE audit SET seq = seq - 999 WHERE seq > 1000"


@pytest.mark.parametrize(
    ("statements", "first"),
    [
        (["UPDATE audit SET entry = replace(entry, 'invitation:', 'organiser:') WHERE seq = 3"], (3, Damage.CHANGED)),
        (["UPDATE audit SET hash = (SELECT hash FROM audit WHERE seq = 2) WHERE seq = 3"], (3, Damage.CHANGED)),
        (["DELETE FROM audit WHERE seq = 4"], (4, Damage.MISSING)),
        (["DELETE FROM audit WHERE seq = 1"], (1, Damage.MISSING)),
        (
            [
                "UPDATE audit SET seq = 1000 WHERE seq = 2",
                "UPDATE audit SET seq = 2 WHERE seq = 5",
                "UPDATE audit SET seq = 5 WHERE seq = 1000",
            ],
            (2, Damage.REORDERED),
        ),
        ([SHIFT[0].format(3), SHIFT[1], COPY.format(3)], (4, Damage.DUPLICATED)),
        (["DELETE FROM audit WHERE seq > 5"], (6, Damage.TRUNCATED)),
        (["DELETE FROM audit"], (1, Damage.TRUNCATED)),
        (["DELETE FROM audit", "DELETE FROM audit_head"], None),  # seen from the noted head alone
        (["DELETE FROM audit_head"], (1, Damage.ADDED)),
    ],
)
async def test_damage_done_in_the_file_is_found_where_it_is(kept, statements, first):
    noted = await kept.services.audit.head()
    assert noted.seq > 8
    assert await damage(kept, noted) == []
    unguarded(kept, *statements)
    alone = await damage(kept)
    assert (alone[0] if alone else None) == first
    assert await damage(kept, noted) != []


async def test_tail_cut_off_with_a_forged_head_is_found(kept):
    (last,) = kept.sql("SELECT hash FROM audit WHERE seq = 5")
    unguarded(kept, "DELETE FROM audit WHERE seq > 5")
    kept.sql("UPDATE audit_head SET seq = 5, hash = ?", last["hash"])
    assert await damage(kept) == [(5, Damage.HEAD_FORGED)]


async def test_older_database_put_back_is_found_with_a_head_noted_elsewhere(kept):
    (before,) = kept.sql("SELECT * FROM audit_head")
    await kept.services.organisers.add("Olle Ohlsson", "olle@example.org")
    noted = await kept.services.audit.head()
    unguarded(kept)
    kept.sql("DELETE FROM audit WHERE seq > ?", before["seq"])
    kept.sql("UPDATE audit_head SET seq = ?, hash = ?, mac = ?", before["seq"], before["hash"], before["mac"])
    assert await damage(kept) == []
    assert await damage(kept, noted) == [(noted.seq, Damage.TRUNCATED)]
    # The bridge that runs meanwhile remembers, and does not go on as if nothing had been.
    with pytest.raises(AuditBrokenError, match="set back"):
        await kept.services.organisers.add("Nils Nygren", "nils@example.org")


@pytest.mark.parametrize(
    ("statements", "says"),
    [
        (["UPDATE audit_head SET hash = (SELECT hash FROM audit WHERE seq = 5), seq = 5"], "not ours"),
        (["DELETE FROM audit_head"], "gone"),
    ],
)
@pytest.mark.parametrize("restarted", [False, True])
async def test_forged_head_is_not_made_genuine_by_the_next_entry(kept, statements, says, restarted):
    unguarded(kept, *statements)
    before = await damage(kept)
    assert before
    store = Store(f"sqlite:///{kept.database}", Sealer(field_key(MASTER)), audit_key(MASTER))
    try:
        with pytest.raises(AuditBrokenError, match=says):
            await (store if restarted else kept.store).run(
                lambda tx: tx.audit.append(Entry(0, Action.LEFT, Outcome.DONE, "nobody"))
            )
    finally:
        store.close()
    assert await damage(kept) == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET entry = '{}' WHERE seq = 1",
        "DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)",
        "INSERT OR REPLACE INTO audit VALUES (1, '{}', '')",
        "REPLACE INTO audit SELECT seq, '{}', hash FROM audit",
    ],
)
async def test_database_itself_refuses_to_change_or_remove_an_entry(kept, statement):
    before = kept.sql("SELECT * FROM audit")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        kept.sql(statement)
    assert kept.sql("SELECT * FROM audit") == before


async def test_what_was_rolled_back_leaves_no_entry(kept):
    head = await kept.services.audit.head()

    def work(tx):
        kept.ground.audit.record(tx, kept.clock.now, Action.PURGED)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await kept.store.run(work)
    assert await kept.services.audit.head() == head
    await kept.services.organisers.add("Olle Ohlsson", "olle@example.org")
    assert await damage(kept) == []


async def test_entry_that_cannot_be_written_undoes_what_it_records(kept):
    unguarded(kept, "DROP TABLE audit")
    ticket_rows = kept.sql("SELECT count(*) AS n FROM organisers")
    with pytest.raises(Exception, match="no such table"):
        await kept.services.organisers.add("Olle Ohlsson", "olle@example.org")
    assert kept.sql("SELECT count(*) AS n FROM organisers") == ticket_rows


async def test_two_processes_write_one_chain(kept):
    """The bridge runs while an admin's command writes."""
    other = Store(f"sqlite:///{kept.database}", Sealer(field_key(MASTER)), audit_key(MASTER))
    entry = Entry(1, Action.PURGED, Outcome.DONE, "sluss")
    for _ in range(3):
        await asyncio.gather(*(store.run(lambda tx: tx.audit.append(entry)) for store in (kept.store, other)))
    other.close()
    assert await damage(kept) == []


async def test_entries_of_a_transaction_cost_one_insert_and_one_write_of_the_head(kept):
    seen: list[str] = []
    with kept.store.engine.connect() as connection:
        repository = AuditRepository(connection, audit_key(MASTER))
        execute = connection.execute
        repository._c = type("C", (), {"execute": lambda _s, *a: (seen.append(str(a[0])), execute(*a))[1]})()
        for _ in range(20):
            repository.append(Entry(1, Action.PURGED, Outcome.DONE, "sluss"))
        repository.flush()
        connection.rollback()
    assert [statement.split()[0] for statement in seen] == ["SELECT", "INSERT", "INSERT"]


def test_head_has_a_key_of_its_own():
    assert len({audit_key(MASTER), field_key(MASTER), form_key(MASTER), Hasher(MASTER)._key}) == 4


# What is recorded


async def test_organiser_is_added_enrols_signs_in_and_out(world):
    link = await world.services.organisers.add("Olle Ohlsson", "olle@example.org")
    token = link.rpartition("/")[2]
    secret = pyotp.TOTP((await world.services.organisers.enrolment(token)).secret)
    codes = await world.services.organisers.enrol(token, PASSWORD, secret.at(world.clock.now))
    for password in ("wrong", PASSWORD):
        with suppress(NotVerified):
            await world.services.organisers.password("b", "olle@example.org", password, TOLD)
    with pytest.raises(NotVerified):
        await world.services.organisers.second_factor("b", "000000", TOLD)
    session = (await world.services.organisers.second_factor("b", codes[0], TOLD)).session
    await world.services.organisers.sign_out(session)
    await world.services.organisers.sign_out(session)  # nobody is signed in any more
    log = await entries(world)
    who = log[0].subject
    assert re.fullmatch(r"organiser:[0-9a-f]{32}", who)
    assert [(e.action, e.outcome, e.actor, e.details.get("factor")) for e in log] == [
        (Action.ORGANISER_ADDED, Outcome.DONE, "admin", None),
        (Action.ENROLLED, Outcome.DONE, who, None),
        (Action.SIGNED_IN, Outcome.REFUSED, "nobody", "password"),
        (Action.SIGNED_IN, Outcome.REFUSED, "nobody", "code"),
        (Action.RECOVERY_CODE_USED, Outcome.DONE, who, None),
        (Action.SIGNED_IN, Outcome.DONE, who, None),
        (Action.SIGNED_OUT, Outcome.DONE, who, None),
    ]
    assert log[5].assurance == "urn:sluss:acr:aal2"
    assert {e.subject for e in log[2:4]} == {who}


async def test_locked_sign_in_is_recorded_as_locked(world):
    await world.organiser()
    for _ in range(5):
        with pytest.raises(NotVerified):
            await world.services.organisers.password("b", "eva@example.org", "wrong", TOLD)
    with pytest.raises(TooManyTries):
        await world.services.organisers.password("b", "eva@example.org", PASSWORD, TOLD)
    assert (await outcomes(world, Action.SIGNED_IN)) == [Outcome.REFUSED] * 5 + [Outcome.LOCKED]


async def test_way_of_a_participant_is_recorded_step_by_step(world):
    organiser, _ = await world.signed_in()
    meeting = await world.meeting(organiser)
    username = await world.inside(world.link())
    world.clock.forward(minutes=5)
    await world.services.admission.left(world.event(meeting.room, username))
    log = await entries(world)
    assert [(e.action, e.details.get("purpose")) for e in log] == [
        (Action.MEETING_CREATED, None),
        (Action.INVITED, None),
        (Action.CODE_ASKED_FOR, "view"),
        (Action.VERIFIED, "view"),
        (Action.CODE_ASKED_FOR, "join"),
        (Action.VERIFIED, "join"),
        (Action.TICKET_ISSUED, None),
        (Action.TICKET_USED, None),
        (Action.ENTERED, None),
        (Action.LEFT, None),
    ]
    assert {e.outcome for e in log} == {Outcome.DONE}
    invited = log[1].subject
    assert log[1].actor == log[0].actor == f"organiser:{organiser.id}"
    assert [e.actor for e in log[2:]] == ["nobody", invited, "nobody", *([invited] * 5)]
    for place in (3, 5, 6, 7):
        assert (log[place].assurance, log[place].details["method"]) == ("urn:sluss:acr:aal1", "sms")
    assert len({e.subject for e in log[6:]}) == 1  # the same ticket all the way
    assert log[-1].at - log[-2].at == 300


async def test_refusals_are_recorded_with_their_reason(world):
    organiser, _ = await world.signed_in()
    await world.meeting(organiser)
    link = world.link()
    await world.services.participation.send_code(link, BROWSER, Purpose.VIEW, "sv", TOLD)
    for guessed in (link, new_link()):
        with pytest.raises(NotVerified):
            await world.services.participation.verify(guessed, BROWSER, Purpose.VIEW, "x", TOLD)
    await world.services.participation.send_code(new_link(), BROWSER, Purpose.VIEW, "sv", TOLD)
    ticket = await world.ticket(link)
    who = await world.authenticate(ticket.token, ticket.room)
    await world.authenticate(ticket.token, ticket.room, "xmpp-2")
    await world.authenticate(ticket.token, "another", "xmpp-2")
    await world.authenticate("rubbish", ticket.room, "xmpp-2")
    world.clock.forward(minutes=2)
    await world.authenticate(ticket.token, ticket.room, "xmpp-2")
    await world.admit(ticket.room, who.username, "xmpp-9")
    await world.admit(ticket.room, "somebody-else")
    refused = [e for e in await entries(world) if e.outcome is Outcome.REFUSED]
    invited = (await entries(world, Action.INVITED))[0].subject
    assert [(e.action, e.details.get("reason"), e.actor, bool(e.subject)) for e in refused] == [
        (Action.VERIFIED, "wrong code", "nobody", True),
        (Action.VERIFIED, "no code, or too old", "nobody", False),
        (Action.CODE_ASKED_FOR, None, "nobody", False),
        (Action.TICKET_USED, "used", invited, True),
        (Action.TICKET_USED, "wrong-room", invited, True),
        (Action.TICKET_USED, "bad-ticket", "nobody", False),
        (Action.TICKET_USED, "expired", "nobody", False),
        (Action.ADMITTED, "not-known", "nobody", False),
        (Action.ADMITTED, "not-known", invited, True),
    ]
    assert refused[0].subject == invited
    assert len({e.details["origin"] for e in refused[:7]}) == 1


async def test_organisers_verbs_are_recorded_and_so_is_what_the_door_confirmed(world):
    organiser, session = await world.signed_in()
    meeting = await world.meeting(organiser, ANNA, BERTIL)
    await world.services.tickets.verify_organiser(session, meeting.id, world.totp.at(world.clock.now), TOLD)
    with pytest.raises(NotVerified):
        await world.services.tickets.verify_organiser(session, meeting.id, "000000", TOLD)
    anna, bertil = (p.invitation.id for p in (await world.services.meetings.view(organiser, meeting.id)).participants)
    await world.inside(world.link())
    await world.services.meetings.resend(organiser, anna)
    await world.services.meetings.put_out(organiser, anna)
    world.door.connected = False
    with pytest.raises(GateUnavailable):
        await world.services.meetings.withdraw(organiser, bertil)
    with pytest.raises(GateUnavailable):
        await world.services.meetings.end(organiser, meeting.id)
    verbs = (Action.LINK_RESENT, Action.PUT_OUT, Action.WITHDRAWN, Action.EXPELLED, Action.MEETING_ENDED)
    log = await entries(world, *verbs)
    assert [(e.action, e.outcome, e.subject) for e in log] == [
        (Action.LINK_RESENT, Outcome.DONE, f"invitation:{anna}"),
        (Action.EXPELLED, Outcome.DONE, f"invitation:{anna}"),
        (Action.PUT_OUT, Outcome.DONE, f"invitation:{anna}"),
        (Action.EXPELLED, Outcome.DONE, f"invitation:{anna}"),
        (Action.WITHDRAWN, Outcome.DONE, f"invitation:{bertil}"),
        (Action.EXPELLED, Outcome.UNCONFIRMED, f"invitation:{bertil}"),
        (Action.MEETING_ENDED, Outcome.DONE, f"meeting:{meeting.id}"),
    ]
    assert {e.actor for e in log} == {f"organiser:{organiser.id}"}
    own = [e for e in await entries(world, Action.VERIFIED) if e.details["method"] == "totp"]
    assert [e.outcome for e in own] == [Outcome.DONE, Outcome.REFUSED]
    assert [e.assurance for e in own] == ["urn:sluss:acr:aal2", ""]


async def test_what_somebody_answered_is_recorded_and_nobody_answers_for_them(world):
    organiser, _ = await world.signed_in()
    meeting = await world.meeting(organiser)
    with pytest.raises(NotVerified):
        await world.services.participation.answer(world.link(), BROWSER, Answer.ACCEPTED)
    await world.verified(world.link(), Purpose.VIEW)
    for answer in (Answer.ACCEPTED, Answer.DECLINED):
        await world.services.participation.answer(world.link(), BROWSER, answer)
    invited = (await entries(world, Action.INVITED))[0].subject
    assert [
        (e.action, e.outcome, e.actor, e.subject, e.details)
        for e in await entries(world, Action.ACCEPTED, Action.DECLINED)
    ] == [
        (action, Outcome.DONE, invited, invited, {"meeting": meeting.id})
        for action in (Action.ACCEPTED, Action.DECLINED)
    ]


async def test_link_reported_as_anothers_and_ends_by_time_are_recorded(world):
    organiser, _ = await world.signed_in()
    meeting = await world.meeting(organiser, ANNA, BERTIL)
    username = await world.inside(world.link())
    await world.services.participation.not_me(world.link(BERTIL[1]), TOLD)
    await world.services.participation.not_me(new_link(), TOLD)
    ((report,), (expelled,)) = [await entries(world, action) for action in (Action.NOT_ME, Action.EXPELLED)]
    assert (report.actor, report.subject) == ("nobody", expelled.subject)
    world.clock.now = meeting.closes_at
    await world.housekeeping.tick()
    (end,) = await entries(world, Action.MEETING_ENDED)
    assert (end.actor, end.subject, end.details) == ("sluss", f"meeting:{meeting.id}", {"reason": "time"})
    await world.services.admission.roll_called("e2", 0, [])
    (left,) = await entries(world, Action.LEFT)
    assert left.details["reason"] == "roll-call"
    stranger = Occupant(meeting.room, "xmpp-8", f"{username}@x/y", 1)
    await world.services.admission.roll_called("e2", 0, [stranger])
    assert (await entries(world, Action.EXPELLED))[-1].actor == "sluss"


async def test_event_sent_again_is_recorded_once(kept):
    room = kept.sql("SELECT room FROM meetings")[0]["room"]
    event = kept.event(room, "p-x")
    for _ in range(2):
        await kept.services.admission.left(event)
    assert len(await entries(kept, Action.LEFT)) == 1


async def test_log_says_nothing_that_names_or_reaches_anybody(tmp_path):
    async with build(tmp_path, durable=False) as world:
        organiser, session = await world.signed_in()
        await world.meeting(organiser, ANNA, BERTIL)
        await world.inside(world.link())
        ticket = await world.ticket(world.link(BERTIL[1]), "b", "+46701740606")
        text = "".join(line.entry for line in [line async for line in world.services.audit.lines()])
        codes = re.findall(r"\d{6}", "".join(sms for _, sms in world.sms.sent))
    secrets = [*ANNA, *BERTIL, "701740605", "Budget", organiser.name, organiser.email, TOLD, session, ticket.token]
    for secret in [*secrets, world.link(), world.link(BERTIL[1]), BROWSER]:
        assert secret not in text
    for code in codes:
        assert not re.search(rf"(?<![0-9a-f]){code}(?![0-9a-f])", text)  # a hash can have its digits
    assert organiser.id in text


async def test_request_id_and_operator_come_from_who_asked(world):
    request, operator = REQUEST_ID.set("req-12345678"), OPERATOR.set("admin")
    await world.services.organisers.add("Olle Ohlsson", "olle@example.org")
    organiser, _ = await world.signed_in()
    await world.meeting(organiser)
    REQUEST_ID.reset(request)
    OPERATOR.reset(operator)
    log = await entries(world)
    assert {e.request_id for e in log} == {"req-12345678"}
    assert (log[0].actor, log[0].on_behalf) == ("admin", "")
    assert {(e.actor, e.on_behalf) for e in log[1:]} == {("admin", f"organiser:{organiser.id}")}


async def test_who_has_proved_nothing_cannot_fill_the_disk(world):
    now = world.clock.now

    def work(tx, count, actor="nobody"):
        for _ in range(count):
            world.ground.audit.record(tx, now, Action.SIGNED_IN, Outcome.REFUSED, actor=actor)

    await world.store.run(lambda tx: work(tx, UNKNOWN_A_MINUTE + 7))
    assert len(await entries(world)) == UNKNOWN_A_MINUTE
    await world.store.run(lambda tx: work(tx, 1, "organiser:1"))
    assert (await entries(world))[-1].details == {"unrecorded": "7"}  # that there were more is not lost
    now += timedelta(minutes=1)
    await world.store.run(lambda tx: work(tx, 1))
    assert len(await entries(world)) == UNKNOWN_A_MINUTE + 2


async def test_head_is_noted_in_the_log_at_start_hourly_and_at_the_end(world):
    await world.services.organisers.add("Olle Ohlsson", "olle@example.org")
    with structlog.testing.capture_logs() as logs:
        await world.housekeeping.tick()
        for minutes in (30, 29, 2):
            world.clock.forward(minutes=minutes)
            await world.housekeeping.tick()
        await world.housekeeping.stop()
    head = str(await world.services.audit.head())
    assert [line["head"] for line in logs if line["event"] == "audit_head"] == [head] * 3


async def test_head_of_a_new_installation_is_noted_soon_after_its_first_entry(world):
    with structlog.testing.capture_logs() as logs:
        await world.housekeeping.tick()
        world.clock.forward(seconds=10)
        await world.services.organisers.add("Olle Ohlsson", "olle@example.org")
        for _ in range(3):
            world.clock.forward(seconds=10)
            await world.housekeeping.tick()
    head = str(await world.services.audit.head())
    assert [line["head"] for line in logs if line["event"] == "audit_head"] == [head]


@pytest.mark.parametrize("days", [-1, 1])
async def test_head_is_noted_hourly_whatever_the_clock_is_set_to(world, days):
    await world.services.organisers.add("Olle Ohlsson", "olle@example.org")
    await world.housekeeping.tick()
    world.clock.set(days=days)
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            world.clock.forward(minutes=30)
            await world.housekeeping.tick()
    assert len([line for line in logs if line["event"] == "audit_head"]) == 1


# The commands


@pytest.fixture
def sluss(tmp_path, monkeypatch):
    path = written(tmp_path, valid(tmp_path))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials(tmp_path)))

    def run(*arguments):
        return CliRunner().invoke(main, ["--config", str(path), *arguments])

    run("database", "upgrade")
    run("organiser", "add", "--name", "Eva Ek", "--email", "eva@example.org")
    at = ("--organiser", "eva@example.org", "--title", "Budget", "--in", "5")
    people = [word for n in range(3) for word in ("--participant", f"P{n},p{n}@example.org,070-174060{n}")]
    run.meeting = run("meeting", "add", *at, *people).output.strip()
    run("meeting", "add", *at, "--participant", "A,a@example.org,0701740605")
    run.database = tmp_path / "state" / "sluss.db"
    return run


def test_show_prints_the_newest_or_those_about_a_meeting(sluss):
    lines = sluss("audit", "show").output.splitlines()
    assert [line.split()[0] for line in lines] == [str(n) for n in range(1, 8)]
    assert re.fullmatch(
        r"1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ organiser-added done by=admin subject=organiser:\w+ role=organiser",
        lines[0],
    )
    assert "for=organiser:" in lines[1]
    assert sluss("audit", "show", "--limit", "2").output.splitlines() == lines[-2:]
    assert sluss("audit", "show", "--meeting", sluss.meeting).output.splitlines() == lines[1:5]
    assert sluss("audit", "show", "--meeting", "none").output == ""


async def test_show_of_a_meeting_has_what_its_people_did(kept):
    (meeting,) = {e.subject.partition(":")[2] for e in await entries(kept, Action.MEETING_CREATED)}
    await kept.services.organisers.add("Olle Ohlsson", "olle@example.org")
    about = await kept.services.audit.about(meeting, 100)
    assert about == [e for e in await entries(kept) if e.action is not Action.ORGANISER_ADDED]
    assert len(about) == 10


def test_verify_says_ok_and_the_head_or_what_is_wrong_and_where(sluss):
    result = sluss("audit", "verify")
    assert result.exit_code == 0
    head = re.fullmatch(r"ok (7:[0-9a-f]{64})\n", result.output)[1]
    assert sluss("audit", "verify", "--head", head).exit_code == 0
    wrong = sluss("audit", "verify", "--head", f"7:{'0' * 64}")
    assert (wrong.exit_code, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith("sluss: entry 7: rewritten: ")
    later = sluss("audit", "verify", "--head", f"9:{'0' * 64}")
    assert later.stderr.startswith("sluss: entry 8: truncated: 2 cut off, up to 9")
    assert sluss("audit", "verify", "--head", "rubbish").exit_code == 2
    (path,) = sluss.database.parent.glob("*.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER audit_no_delete")
        connection.execute("DELETE FROM audit WHERE seq = 3")
    broken = sluss("audit", "verify")
    assert (broken.exit_code, broken.stderr) == (1, "sluss: entry 3: missing: 1 removed, up to 3\n")


def test_export_with_a_mark_goes_on_where_it_was_and_finds_that_it_cannot(sluss, tmp_path):
    mark = tmp_path / "exported"
    export = ("audit", "export", "--mark", str(mark))
    lines = sluss("audit", "export").output.splitlines()
    mark.write_text(f"4:{json.loads(lines[3])['hash']}")
    assert sluss(*export).output.splitlines() == lines[4:]
    assert mark.read_text() == f"7:{json.loads(lines[6])['hash']}\n"
    assert sluss(*export).output == ""
    sluss("organiser", "add", "--name", "Olle Ohlsson", "--email", "olle@example.org")
    (new,) = sluss(*export).output.splitlines()
    assert (json.loads(new)["seq"], json.loads(new)["prev"]) == (8, json.loads(lines[6])["hash"])
    for other in (f"8:{'0' * 64}", f"9:{json.loads(new)['hash']}"):  # made anew, or an older database put back
        mark.write_text(other)
        refused = sluss(*export)
        assert (refused.exit_code, refused.stdout, mark.read_text()) == (1, "", other)
        assert refused.stderr == (
            f"sluss: audit: {mark} notes {other}, which is not in the log: run sluss audit verify --head {other}\n"
        )
    mark.write_text("rubbish")
    assert sluss(*export).exit_code == os.EX_CONFIG


def test_export_with_a_new_mark_begins_at_the_beginning(sluss, tmp_path):
    everything = sluss("audit", "export").output
    assert sluss("audit", "export", "--mark", str(tmp_path / "new")).output == everything


def test_export_can_be_checked_by_anybody_as_the_manual_says(sluss, tmp_path):
    text = sluss("audit", "export").output
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, 8))
    assert [line["prev"] for line in lines] == [GENESIS, *(line["hash"] for line in lines[:-1])]
    assert sluss("audit", "export", "--after", "4").output.splitlines() == text.splitlines()[4:]
    manual = Path(__file__).parents[2].joinpath("docs", "operate.md").read_text("utf-8")
    script = re.search(r"```python\n(.*?)```", manual, re.DOTALL)[1]

    def check(exported: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", script], input=exported, capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr.strip().rpartition("\n")[2]

    assert check(text) == f"ok 7:{lines[-1]['hash']}\n"
    assert "3" in check(text.replace('"invited"', '"withdrawn"', 1))
    assert "4" in check("".join(text.splitlines(keepends=True)[:3] + text.splitlines(keepends=True)[4:]))
