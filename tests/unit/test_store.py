"""The store: the schema is the code's, what was said to be kept is kept, and the file shows nothing of anybody."""

import asyncio
import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import event, text
from tests.unit.world import ANNA, BROWSER, MASTER, MOBILE, build

from sluss.domain.accounts import AccountRole
from sluss.domain.assurance import Purpose
from sluss.domain.audit import Action, Entry, Outcome, parse
from sluss.domain.errors import ConfigError, NotFound, StoreUnavailable, Told
from sluss.keyring.secrets import Hasher, field_key, form_key
from sluss.store import migrations
from sluss.store.access import OrganiserRepository
from sluss.store.accounts import AccountAuthenticatorRepository
from sluss.store.database import open_engine, require_current_schema, revision, upgrade
from sluss.store.meetings import InvitationRepository
from sluss.store.schema import REVISION, metadata
from sluss.store.sealing import SealBrokenError, Sealer

BERTIL = ("Bertil Berg", "bertil@example.org", "070-174 06 06")


@pytest.fixture
def engine(tmp_path):
    url = f"sqlite:///{tmp_path}/state/sluss.db"
    assert upgrade(url) == REVISION
    engine = open_engine(url)
    yield engine
    engine.dispose()


def set_revision(engine, value):
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :v"), {"v": value})


# Schema


def test_migrations_make_the_tables_that_the_code_expects(engine):
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_code_is_written_for_the_newest_migration():
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


def test_older_and_newer_schemas_are_refused_and_say_what_to_do(engine):
    require_current_schema(engine)
    for found in ("0000", "9999"):
        set_revision(engine, found)
        with pytest.raises(ConfigError, match=f"has schema {found}, this version needs {REVISION}"):
            require_current_schema(engine)


def test_newer_schema_is_not_upgraded_and_stays_as_it_is(engine):
    set_revision(engine, "9999")
    with pytest.raises(ConfigError, match="has schema 9999, which is newer than this version"):
        upgrade(str(engine.url))
    assert revision(engine) == "9999"


def test_database_without_schema_is_refused(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path}/empty.db")
    with pytest.raises(ConfigError, match="has schema none"):
        require_current_schema(engine)
    engine.dispose()


def test_file_that_is_no_database_is_refused_in_one_line(tmp_path):
    (tmp_path / "sluss.db").write_bytes(b"not a database" * 100)
    with pytest.raises(ConfigError, match="cannot be upgraded: file is not a database"):
        upgrade(f"sqlite:///{tmp_path}/sluss.db")


def test_state_directory_is_its_owners_alone(engine, tmp_path):
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_upgrade_keeps_what_is_there(engine):
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO limits VALUES ('x', 'y', '', 1)"))
    upgrade(str(engine.url))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM limits")).scalar_one() == 1


def test_migration_to_what_was_too_weak_keeps_what_the_organiser_was_told(tmp_path):
    url, config = f"sqlite:///{tmp_path}/sluss.db", Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    engine = open_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0011")
        connection.execute(
            text("INSERT INTO organisers (id, name, email, email_hash, created_at) VALUES ('o', '', '', 'o', 1)")
        )
        connection.execute(text("INSERT INTO meetings VALUES ('m', 'o', '', '', 1, 1, '', '', 'r', NULL, 1, NULL)"))
        connection.execute(
            text(
                "INSERT INTO invitations (id, meeting_id, role, name, email, mobile, answer, state,"
                " username, created_at, other_person_at)"
                " VALUES ('i', 'm', '', '', '', '', '', '', 'u', 1, 7)"
            )
        )
    engine.dispose()
    upgrade(url)
    engine = open_engine(url)
    with engine.begin() as connection:
        told = InvitationRepository(connection, Sealer(field_key(MASTER)))
        assert told.refused_at("i", Told.OTHER_PERSON) == datetime.fromtimestamp(7, UTC)
        assert told.refused_at("i", Told.TOO_WEAK) is None
    engine.dispose()


def test_migration_to_roles_keeps_auditors_and_the_authenticators_that_people_have(tmp_path):
    url, config = f"sqlite:///{tmp_path}/sluss.db", Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    engine, sealer = open_engine(url), Sealer(field_key(MASTER))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0008")
        for who, auditor, step, enrolled in (("a", 0, 7, 100), ("b", 1, 0, None)):
            values = {n: sealer.seal(f"{n} {who}", f"organisers.{n}", who) for n in ("name", "email", "totp_secret")}
            values |= {"who": who, "auditor": auditor, "step": step, "enrolled": enrolled}
            connection.execute(
                text(
                    "INSERT INTO organisers (id, name, email, email_hash, totp_secret, totp_step, enrolled_at,"
                    " created_at, auditor)"
                    " VALUES (:who, :name, :email, :who, :totp_secret, :step, :enrolled, 50, :auditor)"
                ),
                values,
            )
    engine.dispose()
    upgrade(url)
    engine = open_engine(url)
    with engine.begin() as connection:
        organisers, own = OrganiserRepository(connection, sealer), AccountAuthenticatorRepository(connection, sealer)
        roles = [(r.organiser.name, r.organiser.role) for r in organisers.all()]
        assert roles == [("name a", AccountRole.ORGANISER), ("name b", AccountRole.AUDITOR)]
        (enrolled,) = own.of("a")
        assert (enrolled.secret, enrolled.step, enrolled.name) == ("totp_secret a", 7, "")
        assert own.of("b") == []  # not enrolled yet: it waits
        assert own.waiting("b").secret == "totp_secret b"
    engine.dispose()


# Transactions


def count(tx, what="x"):
    """Note one more of something."""
    now = datetime.fromtimestamp(0, UTC)
    at = tx.limits.free_at([(what, "")]).get((what, ""), now)
    tx.limits.put([(what, "", "", at + timedelta(seconds=1))])


def counted(world, what="x"):
    return [row["free_at"] // 1000 for row in world.sql("SELECT free_at FROM limits WHERE what = ?", what)]


async def test_what_is_written_before_a_returned_error_is_kept_and_before_a_raised_one_is_not(world):
    def returns(tx):
        count(tx, "returned")
        return NotFound("said after the commit")

    def raises(tx):
        count(tx, "raised")
        raise NotFound("rolled back")

    for work in (returns, raises):
        with pytest.raises(NotFound):
            await world.store.run(work)
    assert (counted(world, "returned"), counted(world, "raised")) == ([1], [])


async def test_transaction_ends_even_if_its_caller_goes_away(world):
    begun, go = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def work(tx):
        count(tx)
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go.wait(), loop).result()

    task = asyncio.create_task(world.store.run(work))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    await world.store.run(lambda _: None)  # behind it
    assert counted(world) == [1]


async def test_transactions_run_one_at_a_time(world):
    running, most = 0, 0

    def work(tx):
        nonlocal running, most
        running += 1
        most = max(most, running)
        count(tx)
        running -= 1

    await asyncio.gather(*(world.store.run(work) for _ in range(50)))
    assert most == 1
    assert counted(world) == [50]


@pytest.fixture
async def together(world):
    """Runs several works that waited for the store's thread at the same time; what became of each."""

    async def run(*works):
        begun, go, loop = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()

        def busy(_):
            loop.call_soon_threadsafe(begun.set)
            asyncio.run_coroutine_threadsafe(go.wait(), loop).result()

        first = asyncio.create_task(world.store.run(busy))
        await begun.wait()
        waiting = [asyncio.create_task(world.store.run(work)) for work in works]
        await asyncio.sleep(0)  # they are queued
        go.set()
        await first
        return await asyncio.gather(*waiting, return_exceptions=True)

    return run


def fails(subject, error=None, result=None):
    def work(tx):
        count(tx, subject)
        tx.audit.append(Entry(0, Action.SIGNED_IN, Outcome.DONE, subject))
        if error:
            raise error
        return result

    return work


async def test_transactions_that_waited_are_committed_once_and_undone_each_by_itself(world, together):
    commits = []
    event.listen(world.store.engine, "commit", commits.append)
    refused = NotFound("returned")
    works = [fails("a"), fails("b", error=NotFound("raised")), fails("c", result=refused), fails("d", result=4)]
    outcomes = await together(*works)
    assert outcomes[0] is None
    assert str(outcomes[1]) == "raised"
    assert outcomes[2:] == [refused, 4]
    assert len(commits) == 2  # one for whoever came first
    assert [row["what"] for row in world.sql("SELECT what FROM limits ORDER BY what")] == [
        "a",
        "c",
        "d",
    ]
    recorded = [parse(row["entry"]).actor for row in world.sql("SELECT entry FROM audit ORDER BY seq")]
    assert recorded[-3:] == ["a", "c", "d"]


async def test_nobody_is_answered_when_sqlite_undoes_everything_by_itself(world, together):
    """As it does when the disk is full."""

    def undone(tx):
        tx.limits._c.exec_driver_sql("ROLLBACK")
        raise NotFound("what came of it")

    outcomes = await together(fails("a"), undone, fails("b"))
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3
    assert world.sql("SELECT what FROM limits") == []


async def test_nobody_is_answered_when_the_commit_fails(world):
    def full(_):
        raise OSError("the disk is full")

    outcomes = await asyncio.gather(*(world.store.run(fails(name)) for name in "ab"))
    assert outcomes == [None, None]
    event.listen(world.store.engine, "commit", full)
    outcomes = await asyncio.gather(*(world.store.run(fails(name)) for name in "cde"), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["the disk is full"] * 3
    event.remove(world.store.engine, "commit", full)
    assert [row["what"] for row in world.sql("SELECT what FROM limits ORDER BY what")] == ["a", "b"]


async def test_error_of_the_database_shows_no_values(world):
    def work(tx):
        tx.limits._c.execute(text("INSERT INTO sessions VALUES (:a)"), {"a": "secret value"})

    with pytest.raises(StoreUnavailable) as error:
        await world.store.run(work)
    assert "secret value" not in str(error.value)


def test_commits_are_on_the_disk_references_hold_and_deleted_rows_are_wiped(engine):
    with engine.connect() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}


def test_writer_waits_for_nobody_halfway(engine):
    other = sqlite3.connect(engine.url.database, isolation_level=None, timeout=0)
    with engine.begin(), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")  # the write lock is there before the first statement
    other.close()


# Personal data


async def test_file_shows_no_person_meeting_link_or_code(tmp_path):
    async with build(tmp_path, durable=False) as world:
        organiser, session = await world.signed_in()
        meeting = await world.meeting(organiser, ANNA, BERTIL)
        link = world.link()
        ticket = await world.ticket(link)
        await world.authenticate(ticket.token, ticket.room)
        enrolment = (await world.services.organisers.add("Olle Ohlsson", "olle@example.org")).rpartition("/")[2]
        await world.services.participation.send_code(world.link(BERTIL[1]), BROWSER, Purpose.VIEW, "sv", "192.0.2.7")
        await world.services.meetings.resend(
            organiser, (await world.services.meetings.view(organiser, meeting.id)).participants[1].invitation.id
        )  # waits in the outbox, link and all
        shown = [text for _, text in (*world.mail.sent, *world.sms.sent)]
        secrets = [
            *(value for person in (ANNA, BERTIL) for value in person[:2]),
            *("Lindberg", "anna@", MOBILE, MOBILE[1:], "701740606", organiser.name, organiser.email, "Ohlsson"),
            *("Budget", "Öppning", "Siffror", link, enrolment, session, BROWSER, world.totp.secret, ticket.token),
            *("192.0.2.7", "personlig länk", "Personlig", *shown),
        ]
        codes = [world.code()]
        content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert len(content) > 50_000
    for secret in secrets:
        for encoding in ("utf-8", "utf-16-le"):
            assert secret.encode(encoding) not in content, secret
    for code in codes:
        assert f'"{code}'.encode() not in content
        assert f"{code} ".encode() not in content
    assert meeting.room.encode() in content  # what is not personal can be found: the search works


async def test_message_handed_over_is_forgotten(world):
    organiser, _ = await world.signed_in()
    await world.meeting(organiser)
    assert world.sql("SELECT message FROM outbox") == [{"message": b""}]


def test_sealed_field_opens_in_its_own_place_only():
    sealer = Sealer(field_key(MASTER))
    sealed = sealer.seal("Anna", "invitations.name", "a")
    assert sealer.open(sealed, "invitations.name", "a") == "Anna"
    for place in (("invitations.email", "a"), ("invitations.name", "b"), ("invitations.name", ""), ("", "")):
        with pytest.raises(SealBrokenError):
            sealer.open(sealed, *place)


def test_altered_field_and_field_under_another_key_are_refused():
    sealer = Sealer(field_key(MASTER))
    sealed = sealer.seal("Anna", "invitations.name", "a")
    for position in range(len(sealed)):
        altered = sealed[:position] + bytes([sealed[position] ^ 1]) + sealed[position + 1 :]
        with pytest.raises(SealBrokenError):
            sealer.open(altered, "invitations.name", "a")
    for short in (b"", sealed[:4], sealed[:16], sealed[:-1]):
        with pytest.raises(SealBrokenError):
            sealer.open(short, "invitations.name", "a")
    with pytest.raises(SealBrokenError, match="sealed under key"):
        Sealer(field_key(bytes(32))).open(sealed, "invitations.name", "a")


def test_same_text_is_sealed_differently_each_time():
    sealer = Sealer(field_key(MASTER))
    assert len({sealer.seal("Anna", "x.y") for _ in range(20)}) == 20


async def test_number_moved_to_another_person_is_refused(world):
    organiser, _ = await world.signed_in()
    await world.meeting(organiser, ANNA, BERTIL)
    (bertils,) = world.sql("SELECT mobile FROM invitations WHERE role = 'participant' ORDER BY rowid DESC LIMIT 1")
    world.sql("UPDATE invitations SET mobile = ?", bertils["mobile"])
    with pytest.raises(SealBrokenError):
        await world.services.participation.send_code(world.link(), BROWSER, Purpose.VIEW, "sv", "192.0.2.7")


def test_one_master_key_gives_each_use_a_key_of_its_own():
    keys = {field_key(MASTER), form_key(MASTER), Hasher(MASTER)._key, MASTER}
    assert len(keys) == 4
    assert field_key(MASTER) != field_key(bytes(32))


@given(st.lists(st.text()), st.lists(st.text()))
@example(["a\0b"], ["a", "b"])
@example(["", ""], [""])
def test_hashes_of_different_parts_differ(one, other):
    hasher = Hasher(MASTER)
    assert (hasher.digest("use", *one) == hasher.digest("use", *other)) == (one == other)
    assert hasher.matches(hasher.digest("use", *one), "use", *one)
    assert not hasher.matches(hasher.digest("another", *one), "use", *one)


def test_hashes_need_the_master_key():
    assert Hasher(MASTER).digest("link", "x") != Hasher(bytes(32)).digest("link", "x")


# Full, or late


async def test_full_disk_changes_nothing_and_is_over_when_there_is_room(world):
    organiser, _ = await world.signed_in()
    before = world.sql("SELECT count(*) AS n FROM meetings")

    def limit(pages: int) -> None:
        with world.store._begun() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    await world.store.run(lambda tx: None)
    pages = world.sql("PRAGMA page_count")[0]["page_count"]
    await asyncio.get_running_loop().run_in_executor(world.store._thread, limit, pages)
    with pytest.raises(StoreUnavailable, match="full"):
        await world.meeting(organiser, *((f"P {n}", f"p{n}@example.org", MOBILE) for n in range(150)))
    assert world.sql("SELECT count(*) AS n FROM meetings") == before
    await asyncio.get_running_loop().run_in_executor(world.store._thread, limit, 2**20)
    await world.meeting(organiser)


async def test_database_that_takes_no_write_is_not_alive(world):
    """Of a disk that is really full, tests/attacks/test_04_faults.py."""
    assert await world.store.alive()
    full = "SELECT RAISE(FAIL, 'database or disk is full')"
    world.sql(f"CREATE TRIGGER full BEFORE UPDATE ON alembic_version BEGIN {full}; END")
    assert not await world.store.alive()
    world.sql("DROP TRIGGER full")
    assert await world.store.alive()


async def test_work_whose_turn_comes_too_late_is_not_begun(world, monkeypatch):
    monkeypatch.setattr("sluss.store.database.QUEUE_SECONDS", 0.05)
    free, done = threading.Event(), []
    first = asyncio.ensure_future(world.store.run(lambda _: free.wait(10)))
    late = asyncio.ensure_future(world.store.run(lambda _: done.append("late")))
    await asyncio.sleep(0.1)
    free.set()
    await first
    with pytest.raises(StoreUnavailable):
        await late
    assert done == []
    await world.store.run(lambda _: done.append("in time"))
    assert done == ["in time"]
