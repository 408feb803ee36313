"""The attendance as it is read: right, for whom it is meant, recorded, signed, and forgotten in time."""

import base64
import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.settings import credentials, valid, written
from tests.unit.test_audit import entries
from tests.unit.world import ANNA, BROWSER, MASTER, PORTAL, World, build

from sluss.cli import main
from sluss.domain.accounts import AccountRole
from sluss.domain.assurance import Method, Purpose
from sluss.domain.attendance import FOLD, Presence, coarse_origin, fold
from sluss.domain.audit import Action, Outcome
from sluss.domain.errors import InvalidInput, NotFound, NotVerified, SignInRequired
from sluss.domain.gate import Occupant
from sluss.keyring.ring import create_first_key
from sluss.keyring.secrets import audit_key, field_key
from sluss.keyring.tickets import BadTicketError, TicketKeys
from sluss.policy_file import default_policy
from sluss.services.admission import Admission
from sluss.services.attendance import COLUMNS, _cell
from sluss.services.housekeeping import Housekeeping
from sluss.store.database import Store
from sluss.store.sealing import Sealer

BERTIL = ("Bertil Berg", "bertil@example.org", "070-174 06 06")
BERTILS_MOBILE = "+46701740606"
TOLD = "192.0.2.7"
NOON = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)


# Folding


def presence(start: float, end: float | None, *, exact: bool = True, method=Method.SMS, origin: str = "") -> Presence:
    """A connection from minute `start` to minute `end`."""
    at = NOON
    left = None if end is None else at + timedelta(minutes=end)
    return Presence("i", at + timedelta(minutes=start), left, exact, method, origin)


def folded(*connections: Presence) -> list[tuple]:
    def minutes(at: datetime | None) -> float | None:
        return at and (at - NOON).total_seconds() / 60

    return [(minutes(s.entered_at), minutes(s.left_at), s.devices) for s in fold(connections)]


def test_who_is_back_within_a_minute_was_not_away():
    assert folded(presence(0, 5), presence(6, 9)) == [(0, 9, 1)]
    assert folded(presence(0, 5), presence(6.02, 9)) == [(0, 5, 1), (6.02, 9, 1)]
    assert folded(presence(6, 9), presence(0, 5)) == [(0, 9, 1)]
    assert folded() == []


def test_devices_at_once_are_counted_once():
    assert folded(presence(0, 10), presence(2, 4)) == [(0, 10, 2)]
    assert folded(presence(0, 10), presence(2, 4), presence(5, 6)) == [(0, 10, 2)]
    assert folded(presence(0, 3), presence(2, None)) == [(0, None, 2)]
    (stay,) = fold([presence(0, 10), presence(2, 12)])
    assert stay.seconds(stay.entered_at) == 12 * 60


def test_stay_says_what_was_used_and_whether_its_end_was_seen():
    (stay,) = fold([presence(0, 5, method=Method.TOTP, origin="b"), presence(1, 9, exact=False, origin="a")])
    assert (stay.methods, stay.origins, stay.exact) == ((Method.SMS, Method.TOTP), ("a", "b"), False)
    assert stay.assurance == "urn:sluss:acr:aal1"  # the weakest of them
    (stay,) = fold([presence(0, 5, exact=False), presence(1, 9)])
    assert stay.exact


@given(st.lists(st.tuples(st.integers(0, 5000), st.none() | st.integers(0, 3000)), max_size=8))
def test_stays_are_apart_in_order_and_lose_no_moment(spans):
    connections = [presence(a / 10, None if n is None else (a + n) / 10) for a, n in spans]
    stays = fold(connections)
    for one, other in pairwise(stays):
        assert other.entered_at - one.left_at > FOLD
    for connection in connections:
        begin = connection.entered_at
        (around,) = [s for s in stays if s.entered_at <= begin and (s.left_at is None or begin <= s.left_at)]
        assert around.left_at is None or (connection.left_at and connection.left_at <= around.left_at)


@pytest.mark.parametrize(
    ("address", "network"),
    [("192.0.2.7", "192.0.2.0/24"), ("2001:db8:1:2::3", "2001:db8:1::/48"), ("", ""), ("unix:", ""), ("1.2.3", "")],
)
def test_origin_is_the_network_alone(address, network):
    assert coarse_origin(address) == network


# Reading


@pytest.fixture
async def met(world):
    """Anna was there for ten minutes, lost her connection for 30 s, and stayed five more; Bertil was not."""
    return await had(world)


async def had(world: World, name: str = ANNA[0]) -> World:
    await world.housekeeping.tick()  # the clock is known from here on
    world.who, world.session = await world.signed_in()
    world.meeting_id = (await world.meeting(world.who, (name, *ANNA[1:]), BERTIL)).id
    room = world.sql("SELECT room FROM meetings")[0]["room"]
    username = await world.inside(world.link())
    world.began = world.clock.now
    world.clock.forward(minutes=10)
    await world.services.admission.left(world.event(room, username))
    world.clock.forward(seconds=30)
    ticket = await world.services.tickets.for_participant(world.link(), BROWSER)
    assert (await world.authenticate(ticket.token, room, "xmpp-2")).allow
    assert (await world.admit(room, username, "xmpp-2")).allow
    await world.services.admission.entered(world.event(room, username, "xmpp-2"))
    world.clock.forward(minutes=5)
    await world.services.admission.left(world.event(room, username, "xmpp-2"))
    return world


async def fresh(world: World) -> None:
    world.clock.forward(seconds=31)
    await world.services.tickets.verify_organiser(world.session, world.meeting_id, world.totp.at(world.clock.now), TOLD)


async def auditor(world: World) -> str:
    """An auditor's session."""
    return (await world.signed_in("audit@example.org", AccountRole.AUDITOR))[1]


async def test_report_folds_a_reconnect_and_says_how_from_where_and_how_long(met):
    await fresh(met)
    report = await met.services.attendance.report(met.session, met.meeting_id)
    assert [(p.name, p.role.value, p.seconds(report.at)) for p in report.people] == [
        ("Eva Ek", "organiser", 0),
        (ANNA[0], "participant", 15 * 60 + 30),
        (BERTIL[0], "participant", 0),
    ]
    (stay,) = report.people[1].stays
    assert (stay.entered_at, stay.devices, stay.exact) == (met.began.replace(microsecond=0), 1, True)
    assert (stay.methods, stay.assurance, stay.origins) == ((Method.SMS,), "urn:sluss:acr:aal1", ("192.0.2.0/24",))


async def test_network_is_kept_only_where_the_class_says_so(world):
    world.change_class(keeps_origin=False)
    await had(world)
    await fresh(world)
    report = await world.services.attendance.report(world.session, world.meeting_id)
    assert report.people[1].stays[0].origins == ()
    assert world.sql("SELECT count(*) AS n FROM tickets WHERE origin IS NOT NULL") == [{"n": 0}]


def test_classes_say_what_is_kept_and_how_long():
    kept = {c.name: (c.keeps_origin, c.retention.days) for c in default_policy().classes.values()}
    assert kept == {"internal": (True, 90), "confidential": (False, 30), "secret": (False, 7)}


async def test_without_a_fresh_second_factor_nothing_is_shown(met):
    verbs = (met.services.attendance.report, met.services.attendance.as_csv, met.services.attendance.receipt)
    for verb in verbs:
        with pytest.raises(NotVerified):
            await verb(met.session, met.meeting_id)
    await fresh(met)
    met.clock.forward(minutes=4, seconds=59)
    for verb in verbs:
        await verb(met.session, met.meeting_id)
    met.clock.forward(seconds=1)
    for verb in verbs:
        with pytest.raises(NotVerified):
            await verb(met.session, met.meeting_id)
    looks = await entries(met, Action.ATTENDANCE_READ, Action.ATTENDANCE_EXPORTED)
    assert [(e.outcome, e.details["form"]) for e in looks] == [
        (outcome, form)
        for outcome in (Outcome.REFUSED, Outcome.DONE, Outcome.REFUSED)
        for form in ("page", "csv", "receipt")
    ]
    assert {(e.actor, e.subject) for e in looks} == {(f"organiser:{met.who.id}", f"meeting:{met.meeting_id}")}


async def test_code_given_in_another_browser_opens_nothing_here(met):
    await fresh(met)
    other = "another-browser"
    hashed = met.ground.session_hash(other)
    await met.store.run(lambda tx: tx.sessions.put(hashed, met.who.id, complete=True, now=met.clock.now))
    with pytest.raises(NotVerified):
        await met.services.attendance.report(other, met.meeting_id)


async def test_another_organiser_is_told_there_is_no_such_meeting(met):
    await fresh(met)
    _, session = await met.signed_in("olle@example.org")
    for which in (met.meeting_id, "no-such-meeting"):
        with pytest.raises(NotFound):
            await met.services.attendance.report(session, which)
    with pytest.raises(SignInRequired):
        await met.services.attendance.report("nobody", met.meeting_id)
    looks = await entries(met, Action.ATTENDANCE_READ)
    assert [(e.outcome, e.subject) for e in looks] == [
        (Outcome.REFUSED, f"meeting:{met.meeting_id}"),
        (Outcome.REFUSED, ""),
    ]


async def test_auditor_sees_every_meeting_and_its_attendance_and_it_is_recorded(met):
    session = await auditor(met)
    (meeting,) = await met.services.attendance.meetings(session)
    assert (meeting.id, meeting.sensitivity, meeting.purged) == (met.meeting_id, "internal", False)
    report = await met.services.attendance.report(session, met.meeting_id)
    assert report.people[1].name == ANNA[0]
    (look,) = await entries(met, Action.ATTENDANCE_READ)
    assert look.actor not in ("nobody", f"organiser:{met.who.id}")
    with pytest.raises(NotFound):
        await met.services.attendance.meetings(met.session)


async def test_auditor_has_no_meetings_of_their_own(met):
    session = await auditor(met)
    who = await met.services.organisers.current(session)
    assert who.role is AccountRole.AUDITOR
    with pytest.raises(NotFound):
        await met.meeting(who)
    with pytest.raises(NotFound):
        await met.services.meetings.view(who, met.meeting_id)


async def test_auditor_who_was_registered_does_not_become_an_organiser(world):
    await world.services.organisers.add("Ada Alm", "ada@example.org", AccountRole.AUDITOR)
    await world.services.organisers.add("Ada Alm", "ada@example.org", AccountRole.AUDITOR)
    with pytest.raises(InvalidInput):
        await world.services.organisers.add("Ada Alm", "ada@example.org")
    added = await entries(world, Action.ORGANISER_ADDED)
    assert [e.details["role"] for e in added] == ["auditor", "auditor"]


# Killed in any state


async def test_record_is_whole_whenever_the_bridge_is_killed(tmp_path):
    """After each event, a copy of the files is what a kill would have left; another bridge goes on with it."""
    async with build(tmp_path / "first", durable=False) as world:
        who, _ = await world.signed_in()
        meeting = await world.meeting(who)
        username = await world.inside(world.link())
        begun = int(world.clock.now.timestamp())
        world.clock.forward(minutes=1)
        anna = Occupant(meeting.room, "xmpp-1", f"{username}@x/y", begun)
        left = world.event(meeting.room, username)
        steps = [
            lambda s: s.admission.roll_called("e1", 1, [anna]),
            lambda s: s.admission.left(left),
            lambda s: s.admission.left(left),
            lambda s: s.admission.roll_called("e2", 0, []),
        ]
        for step in [None, *steps]:
            if step:
                await step(world.services)
            copy = tmp_path / f"copy{steps.index(step) if step else ''}"
            copy.mkdir()
            for file in world.database.parent.iterdir():
                (copy / file.name).write_bytes(file.read_bytes())
            store = Store(f"sqlite:///{copy}/sluss.db", Sealer(field_key(MASTER)), audit_key(MASTER))
            again = Admission(replace(world.ground, store=store), world.keys, None, lambda: world.door)
            await again.roll_called("e1", 1, [anna] if step is None else [])
            await again.left(left)  # resent
            (interval,) = await store.run(lambda tx: tx.attendance.of(meeting.id))
            store.close()
            assert (int(interval.entered_at.timestamp()), int(interval.left_at.timestamp())) == (begun, left.at)
            assert interval.exact


# Exports


async def test_csv_is_a_table_a_spreadsheet_reads_and_runs_nothing(world):
    await had(world, "=cmd|'/c calc'!A1, \"Anna\"")
    await fresh(world)
    text = await world.services.attendance.as_csv(world.session, world.meeting_id)
    assert text.startswith("\ufeffname,role,")
    assert text.count("\r\n") == text.count("\n") == 4
    rows = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
    assert tuple(rows[0]) == COLUMNS
    assert rows[1] == ["Eva Ek", "organiser", *[""] * 8]
    local = world.began.replace(microsecond=0).astimezone(ZoneInfo("Europe/Stockholm"))
    assert rows[2] == [
        "'=cmd|'/c calc'!A1, \"Anna\"",
        "participant",
        local.isoformat(),
        (local + timedelta(minutes=15, seconds=30)).isoformat(),
        *("yes", "930", "sms", "urn:sluss:acr:aal1", "192.0.2.0/24", "1"),
    ]
    for start in ("=", "+", "-", "@", "\t", "\r", "\n"):
        assert _cell(f"{start}1") == f"'{start}1"
    assert _cell("Anna-Karin") == "Anna-Karin"


async def signed(world: World) -> str:
    await had(world)
    await fresh(world)
    return await world.services.attendance.receipt(world.session, world.meeting_id)


async def test_receipt_is_signed_by_the_active_key_and_says_who_was_there(world):
    receipt = await signed(world)
    header = json.loads(base64.urlsafe_b64decode(receipt.partition(".")[0] + "=="))
    assert header == {"alg": "RS256", "typ": "sluss-attendance+jwt", "kid": world.keys.active_kid}
    claims = world.keys.check_receipt(receipt)
    assert (claims["iss"], claims["sub"]) == (f"https://{PORTAL}", f"meeting:{world.meeting_id}")
    assert claims["meeting"]["title"] == "Budget"
    anna = claims["people"][1]
    assert (anna["name"], anna["seconds"], anna["stays"][0]["methods"]) == (ANNA[0], 930, ["sms"])


async def test_receipt_is_no_ticket_and_a_ticket_no_receipt(world):
    receipt = await signed(world)
    room = world.sql("SELECT room FROM meetings")[0]["room"]
    assert (await world.authenticate(receipt, room, "xmpp-9")).reason == "bad-ticket"
    with pytest.raises(BadTicketError, match="another type"):
        world.keys.check(receipt, issuer="x", audience="y", now=world.clock.now)
    ticket = await world.services.tickets.for_organiser(world.session, world.meeting_id)
    with pytest.raises(BadTicketError, match="another type"):
        world.keys.check_receipt(ticket.token)


async def test_command_checks_a_receipt_and_finds_it_altered(tmp_path, monkeypatch):
    path = written(tmp_path, valid(tmp_path))
    secrets = credentials(tmp_path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(secrets))
    keys = TicketKeys({p.name.removeprefix("ticket-keys_"): p.read_bytes() for p in secrets.glob("ticket-keys_*")})
    receipt = keys.sign_receipt({"sub": "meeting:1", "people": [{"name": "Åsa"}]})
    head, body, signature = receipt.split(".")
    forged = base64.urlsafe_b64encode(base64.urlsafe_b64decode(body + "==").replace(b"meeting:1", b"meeting:2"))
    none = base64.urlsafe_b64encode(
        b'{"alg":"none","typ":"sluss-attendance+jwt","kid":"%s"}' % keys.active_kid.encode()
    )
    kid, _ = create_first_key(tmp_path / "others")
    other = TicketKeys({f"{kid}.active.pem": (tmp_path / "others" / f"{kid}.active.pem").read_bytes()})

    def verify(text: str):
        (tmp_path / "record.jws").write_text(text)
        return CliRunner().invoke(main, ["--config", str(path), "attendance", "verify", str(tmp_path / "record.jws")])

    good = verify(receipt + "\n")
    assert (good.exit_code, json.loads(good.output)["people"][0]["name"]) == (0, "Åsa")
    for bad in (
        f"{head}.{forged.decode().rstrip('=')}.{signature}",
        f"{none.decode().rstrip('=')}.{body}.",
        receipt[:-6],
        other.sign_receipt({"sub": "meeting:1"}),
        keys.sign({"sub": "meeting:1"}),
        "",
        "Å",
    ):
        result = verify(bad)
        assert (result.exit_code, result.stdout) == (1, ""), bad
        assert "not signed by a key of this installation, or altered" in result.stderr


# Forgetting


def personal(world: World) -> dict[str, int]:
    tables = ("attendance", "tickets", "verifications", "outbox", "invitations")
    return {table: world.sql(f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in tables}  # noqa: S608


async def test_meeting_is_forgotten_when_its_classes_time_is_over_and_not_before(met):
    meeting = await met.store.run(lambda tx: tx.meetings.get(met.meeting_id))
    due = meeting.closes_at + timedelta(days=90)
    met.sql("UPDATE outbox SET due_at = 1")  # even a message that still waits
    met.clock.now = due - timedelta(seconds=1)
    await met.housekeeping.tick()
    before = personal(met)
    assert 0 not in before.values()
    met.clock.now = due + timedelta(hours=1)
    await met.housekeeping.tick()
    assert set(personal(met).values()) == {0}
    purged = await met.store.run(lambda tx: tx.meetings.get(met.meeting_id))
    assert (purged.purged, purged.title, purged.agenda) == (True, "", "")
    met.clock.forward(hours=2)
    await met.housekeeping.tick()
    (entry,) = await entries(met, Action.PURGED)
    assert (entry.actor, entry.subject) == ("sluss", f"meeting:{met.meeting_id}")
    end, faults = await met.services.audit.verify()
    assert (faults, end.seq > 10) == ([], True)  # the log stays


@pytest.mark.parametrize("hours", [0.5, 2])
async def test_clock_that_jumps_ahead_forgets_nothing_that_is_not_due(met, hours):
    """Not at once, nor later in the hour, nor when it is set right."""
    before = personal(met)
    met.clock.set(days=365)
    await met.housekeeping.tick()
    met.clock.forward(hours=hours)
    await met.housekeeping.tick()
    met.clock.set(days=-365)
    for _ in range(3):
        met.clock.forward(hours=1)
        await met.housekeeping.tick()
    assert personal(met) == before


async def test_bridge_that_starts_with_a_wrong_clock_forgets_nothing_within_an_hour(met):
    before, new = (
        personal(met),
        Housekeeping(met.ground, met.services.admission, met.services.directory, met.clock.seconds),
    )
    met.clock.forward(days=91)
    await new.tick()
    met.clock.forward(minutes=59)
    await new.tick()
    assert personal(met) == before
    met.clock.forward(minutes=1)
    await new.tick()
    assert set(personal(met).values()) == {0}


async def test_what_is_due_is_forgotten_after_an_hour_in_which_the_clock_was_not_set(met):
    met.clock.forward(days=92)
    met.clock.set(days=-1)
    await met.housekeeping.tick()
    assert 0 not in personal(met).values()
    met.clock.forward(hours=1)
    await met.housekeeping.tick()
    assert set(personal(met).values()) == {0}


async def test_other_meetings_and_classes_are_left_alone(met):
    await met.meeting(met.who, BERTIL)
    met.sql("UPDATE meetings SET sensitivity = 'secret' WHERE id = ?", met.meeting_id)
    met.clock.forward(days=8)
    await met.housekeeping.tick()
    assert [row["purged_at"] is None for row in met.sql("SELECT purged_at FROM meetings ORDER BY rowid")] == [
        False,
        True,
    ]
    assert met.sql("SELECT count(*) AS n FROM invitations") == [{"n": 2}]


async def test_meeting_that_was_ended_early_is_forgotten_from_then_on(met):
    await met.services.meetings.end(met.who, met.meeting_id)
    met.clock.forward(days=90)
    await met.housekeeping.tick()
    assert met.sql("SELECT purged_at IS NULL AS kept FROM meetings") == [{"kept": 0}]


async def test_forgotten_meeting_is_nobodys_any_more(met):
    session = await auditor(met)
    link = met.link()
    met.clock.forward(days=91)
    await met.housekeeping.tick()
    met.session = await again(met, met.session, met.who.id)
    session = await again(met, session, (await met.services.organisers.all())[-1][0].id)
    assert await met.services.meetings.list(met.who) == []
    with pytest.raises(NotFound):
        await met.services.meetings.view(met.who, met.meeting_id)
    with pytest.raises(NotFound):
        await met.services.attendance.report(session, met.meeting_id)
    (listed,) = await met.services.attendance.meetings(session)
    assert (listed.id, listed.purged) == (met.meeting_id, True)
    assert await met.services.participation.look(link, BROWSER) is None
    await met.services.participation.send_code(link, BROWSER, Purpose.VIEW, "sv", TOLD)


async def again(world: World, session: str, who: str) -> str:
    """Signed in anew, in the same browser."""
    hashed = world.ground.session_hash(session)
    await world.store.run(lambda tx: tx.sessions.put(hashed, who, complete=True, now=world.clock.now))
    return session


async def test_file_has_nothing_of_a_forgotten_meeting(met):
    rooms = met.sql("SELECT username FROM invitations")
    met.clock.forward(days=91)
    await met.housekeeping.tick()
    met.sql("PRAGMA wal_checkpoint(TRUNCATE)")
    content = met.database.read_bytes()
    for row in rooms:
        assert row["username"].encode() not in content
    assert met.meeting_id.encode() in content
