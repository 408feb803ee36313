"""The connection to the database, and the thread that alone uses it.

SQLite is written by one thread with full synchronous commits. The event loop never waits for the disk, and two
transactions never run at once: "exactly one gets in" needs no cleverness. What waits while the disk works is then
committed together, each in a savepoint of its own, and answered after that commit.
"""

import asyncio
import contextvars
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from sluss.domain.audit import Head
from sluss.domain.errors import ConfigError, SlussError, StoreUnavailable
from sluss.store import schema
from sluss.store.access import OrganiserRepository, SessionRepository
from sluss.store.accounts import AccountAuthenticatorRepository, AdminRequestRepository
from sluss.store.audit import AuditRepository
from sluss.store.authenticators import AuthenticatorRepository
from sluss.store.door import AttendanceRepository, TicketRepository
from sluss.store.limits import LimitRepository
from sluss.store.meetings import InvitationRepository, MeetingRepository
from sluss.store.outbox import OutboxRepository
from sluss.store.passkeys import PasskeyRepository
from sluss.store.proof import ChallengeRepository, VerificationRepository
from sluss.store.purge import PurgeRepository
from sluss.store.sealing import Sealer
from sluss.store.sign_ins import SignInRepository

BUSY_SECONDS = 2
"""So long a transaction waits for another process that holds the database."""
QUEUE_SECONDS = 3.0
"""So long it waits for those before it. Whoever asked has given up by then: too late is a no, and changes nothing."""
MOST_TOGETHER = 16
"""So many transactions are committed together."""
T = TypeVar("T")


class Transaction:
    """One transaction: every repository on one connection. It is committed when the work returns."""

    def __init__(self, connection: Connection, sealer: Sealer, audit: AuditRepository) -> None:
        self.audit = audit
        self.organisers = OrganiserRepository(connection, sealer)
        self.account_authenticators = AccountAuthenticatorRepository(connection, sealer)
        self.admin_requests = AdminRequestRepository(connection)
        self.sessions = SessionRepository(connection, sealer)
        self.passkeys = PasskeyRepository(connection, sealer)
        self.authenticators = AuthenticatorRepository(connection, sealer)
        self.limits = LimitRepository(connection)
        self.meetings = MeetingRepository(connection, sealer)
        self.invitations = InvitationRepository(connection, sealer)
        self.challenges = ChallengeRepository(connection)
        self.verifications = VerificationRepository(connection)
        self.sign_ins = SignInRepository(connection, sealer)
        self.tickets = TicketRepository(connection, sealer)
        self.attendance = AttendanceRepository(connection, sealer)
        self.outbox = OutboxRepository(connection, sealer)
        self.purge = PurgeRepository(connection, sealer)


class Store:
    """Runs work in transactions, in order, in the store's own thread."""

    def __init__(self, url: str, sealer: Sealer, audit_key: bytes) -> None:
        self.engine = open_engine(url)
        self._sealer = sealer
        self._audit_key = audit_key
        self._audit_head: Head | None = None  # the last that was committed here
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._connection: Connection | None = None  # the thread's
        self._waiting: deque[_Waiting] = deque()

    async def run(self, work: Callable[[Transaction], T | SlussError]) -> T:
        """Commit `work`'s writes and audit entries and return its result; roll all back if it raises.

        Raises `StoreUnavailable` if it could not begin in time, or could not be committed.

        An error that `work` *returns* is raised after the commit: so a wrong code is refused and the try counted.
        Once begun, a transaction ends even if the caller goes away.
        """
        answer: asyncio.Future[T | SlussError] = asyncio.get_running_loop().create_future()
        # The context has the request's id, for the audit log.
        self._waiting.append(_Waiting(work, contextvars.copy_context(), monotonic() + QUEUE_SECONDS, answer))
        self._thread.submit(self._work_off)
        result = await asyncio.shield(answer)
        if isinstance(result, SlussError):
            raise result
        return result

    async def alive(self) -> bool:
        """Whether the database can be read and written now: it writes a row as it was, which goes to the disk."""

        def probe() -> None:
            with self._begun() as connection:
                connection.execute(text("UPDATE alembic_version SET version_num = version_num"))

        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, probe)
        except SQLAlchemyError:
            return False
        return True

    def close(self) -> None:
        """Let the last transaction end and close the file."""
        self._thread.shutdown(wait=True)
        self._let_go()
        self.engine.dispose()

    def _work_off(self) -> None:
        """Do what waits, in order; whoever asked hears of it once it is on the disk, or could not be put there."""
        together = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_TOGETHER))]
        if not together:
            return  # it was done together with an earlier one
        try:
            outcomes = self._in_transaction(together)
        except Exception as error:
            outcomes = [_failed(error)] * len(together)
        together[0].answer.get_loop().call_soon_threadsafe(_tell, together, outcomes)

    @contextmanager
    def _begun(self) -> Iterator[Connection]:
        """The thread's connection, in a transaction. It is kept, but for whatever goes wrong on it."""
        self._connection = self._connection or self.engine.connect()
        try:
            with self._connection.begin():
                yield self._connection
        except BaseException:
            self._let_go()
            raise

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _in_transaction(self, together: list["_Waiting"]) -> list[Any]:
        with self._begun() as connection:
            audit = AuditRepository(connection, self._audit_key, self._audit_head)
            tx = Transaction(connection, self._sealer, audit)
            if len(together) == 1:
                outcomes = [together[0].do(tx)]
            else:
                outcomes = [_in_savepoint(tx, connection, waiting) for waiting in together]
            head = audit.flush()
        if head is not None:
            self._audit_head = head
        return outcomes


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Work that waits for the store's thread."""

    work: Callable[[Transaction], Any]
    context: contextvars.Context
    begin_by: float
    answer: "asyncio.Future[Any]"

    def do(self, tx: Transaction) -> Any:
        if monotonic() > self.begin_by:
            raise StoreUnavailable("waited too long for the transactions before it")
        return self.context.run(self.work, tx)


@dataclass(frozen=True, slots=True)
class _Failed:
    """What is raised where the work was asked for."""

    error: Exception


def _failed(error: Exception) -> _Failed:
    return _Failed(StoreUnavailable(str(error.orig)) if isinstance(error, OperationalError) else error)


def _in_savepoint(tx: Transaction, connection: Connection, waiting: _Waiting) -> Any:
    """Its result, or what it raised, and then nothing of it is left. Raises what makes the whole transaction fail."""
    connection.exec_driver_sql("SAVEPOINT work")
    recorded = tx.audit.mark()
    try:
        outcome = waiting.do(tx)
    except Exception as error:
        # Fails if SQLite has undone everything by itself, as it does when the disk is full.
        connection.exec_driver_sql("ROLLBACK TO work")
        tx.audit.forget_since(recorded)
        outcome = _failed(error)
    connection.exec_driver_sql("RELEASE work")
    return outcome


def _tell(together: list[_Waiting], outcomes: list[Any]) -> None:
    for waiting, outcome in zip(together, outcomes, strict=True):
        if waiting.answer.cancelled():
            continue
        if isinstance(outcome, _Failed):
            waiting.answer.set_exception(outcome.error)
        else:
            waiting.answer.set_result(outcome)


def open_engine(url: str) -> Engine:
    """An engine with SQLite set to keep what it has said it kept."""
    # hide_parameters: an error must not carry names or hashes into the log.
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS, "isolation_level": None}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # The write lock from the start: a transaction that read first could be refused half-way.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def revision(engine: Engine) -> str | None:
    """The schema's revision in the database; None if there is no schema yet."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def require_current_schema(engine: Engine) -> None:
    """Refuse to run on any schema but this code's. Raises `ConfigError`."""
    try:
        found = revision(engine)
    except SQLAlchemyError as error:
        raise ConfigError(f"database: cannot be opened: {getattr(error, 'orig', error)}") from None
    if found != schema.REVISION:
        raise ConfigError(
            f"database: has schema {found or 'none'}, this version needs {schema.REVISION}: run sluss database upgrade"
        )


def upgrade(url: str) -> str:
    """Bring the database to this code's schema. Returns the revision. Raises `ConfigError` if it is a newer one."""
    # Imported here: the running service never migrates, and stays smaller for it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util.exc import CommandError  # noqa: PLC0415

    database = make_url(url).database
    if database:
        Path(database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    engine = open_engine(url)
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError:
        raise ConfigError(f"database: has schema {revision(engine)}, which is newer than this version") from None
    except SQLAlchemyError as error:
        raise ConfigError(f"database: cannot be upgraded: {getattr(error, 'orig', error)}") from None
    finally:
        engine.dispose()
    return schema.REVISION
