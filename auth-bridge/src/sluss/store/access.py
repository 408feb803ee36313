"""Organisers and their sessions."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from sluss.domain.accounts import AccountRole
from sluss.domain.assurance import Method
from sluss.domain.meetings import Organiser
from sluss.store.accounts import AccountAuthenticatorRepository
from sluss.store.rows import instant, instant_or_none, seconds
from sluss.store.schema import enrolments, organisers, recovery_codes, sessions
from sluss.store.sealing import Sealer

_BY_ID = select(organisers).where(organisers.c.id == bindparam("id"))
_NETWORK = "sessions.network"


class AlreadyThereError(Exception):
    """There is an organiser with this e-mail address."""


@dataclass(frozen=True, slots=True)
class OrganiserRecord:
    """An organiser with what proves them."""

    organiser: Organiser
    password: str | None
    enrolled_at: datetime | None
    account_hash: str | None = None
    """The account at the identity provider, or the entry in the directory, that is theirs."""
    entry: str | None = None
    """Which entry in the directory, if they are of it."""
    entry_seen_at: datetime | None = None
    """When it last said that they may be what they are."""
    signed_in_at: datetime | None = None
    """Last."""

    @property
    def enrols(self) -> bool:
        """Whether a link to enrol by may go out: not to who has enrolled, nor to who comes by an account elsewhere."""
        return self.enrolled_at is None and self.account_hash is None


class OrganiserRepository:
    """Rows of `organisers`, `enrolments` and `recovery_codes`."""

    def __init__(self, connection: Connection, sealer: Sealer) -> None:
        self._c = connection
        self._sealer = sealer
        self._authenticators = AccountAuthenticatorRepository(connection, sealer)

    def add(self, organiser: Organiser, email_hash: str, totp_secret: str, now: datetime) -> None:
        """Store a new account, with the authenticator that it enrols with. Raises `AlreadyThereError`."""
        try:
            self._c.execute(
                insert(organisers).values(
                    id=organiser.id,
                    name=self._sealer.seal(organiser.name, "organisers.name", organiser.id),
                    email=self._sealer.seal(organiser.email, "organisers.email", organiser.id),
                    email_hash=email_hash,
                    created_at=seconds(now),
                    role=organiser.role.value,
                )
            )
        except IntegrityError:
            raise AlreadyThereError from None
        self._authenticators.add(organiser.id, organiser.id, totp_secret, "", now)

    def by_email(self, email_hash: str) -> OrganiserRecord | None:
        """The organiser with this address, enrolled or not."""
        row = self._c.execute(select(organisers).where(organisers.c.email_hash == email_hash)).one_or_none()
        return self._record(row) if row else None

    def by_account(self, account_hash: str) -> OrganiserRecord | None:
        """The organiser whose account at the identity provider this is."""
        row = self._c.execute(select(organisers).where(organisers.c.account_hash == account_hash)).one_or_none()
        return self._record(row) if row else None

    def bind_account(self, organiser_id: str, account_hash: str) -> None:
        """From now on this account is theirs."""
        self._c.execute(update(organisers).where(organisers.c.id == organiser_id).values(account_hash=account_hash))

    def saw_entry(self, organiser_id: str, entry: str, now: datetime) -> None:
        """They are of the directory, which says now that they may be what they are."""
        sealed = self._sealer.seal(entry, "organisers.entry", organiser_id)
        there = organisers.c.id == organiser_id, organisers.c.removed_at.is_(None)
        self._c.execute(update(organisers).where(*there).values(entry=sealed, entry_seen_at=seconds(now)))

    def of_directory_signed_in(self) -> list[OrganiserRecord]:
        """Those of the directory who have a session."""
        signed_in = select(sessions.c.organiser_id)
        found = select(organisers).where(organisers.c.entry.is_not(None), organisers.c.id.in_(signed_in))
        return [self._record(row) for row in self._c.execute(found)]

    def forget_password(self, organiser_id: str) -> None:
        """They have none here from now on."""
        self._c.execute(update(organisers).where(organisers.c.id == organiser_id).values(password=None))

    def by_id(self, organiser_id: str) -> OrganiserRecord:
        """The organiser; the id comes from another row, so it exists."""
        return self._record(self._c.execute(_BY_ID, {"id": organiser_id}).one())

    def find(self, organiser_id: str) -> OrganiserRecord | None:
        """The organiser with this id, if there is one."""
        found = select(organisers).where(organisers.c.id == organiser_id, organisers.c.removed_at.is_(None))
        row = self._c.execute(found).one_or_none()
        return self._record(row) if row else None

    def all(self) -> list[OrganiserRecord]:
        """Every account, oldest first."""
        query = select(organisers).where(organisers.c.removed_at.is_(None)).order_by(organisers.c.created_at)
        return [self._record(r) for r in self._c.execute(query)]

    def note_sign_in(self, organiser_id: str, now: datetime) -> None:
        """They have just signed in."""
        self._c.execute(update(organisers).where(organisers.c.id == organiser_id).values(signed_in_at=seconds(now)))

    def reset(self, organiser_id: str) -> None:
        """Forget password, recovery codes and enrolment links: as if never enrolled."""
        self._c.execute(
            update(organisers).where(organisers.c.id == organiser_id).values(password=None, enrolled_at=None)
        )
        for table in (recovery_codes, enrolments):
            self._c.execute(delete(table).where(table.c.organiser_id == organiser_id))

    def remove(self, organiser_id: str, now: datetime) -> None:
        """Forget who it was; the id stays, for what refers to it."""
        self.reset(organiser_id)
        self._c.execute(
            update(organisers)
            .where(organisers.c.id == organiser_id)
            .values(
                name=self._sealer.seal("", "organisers.name", organiser_id),
                email=self._sealer.seal("", "organisers.email", organiser_id),
                email_hash=f"removed {organiser_id}",
                account_hash=None,
                entry=None,
                entry_seen_at=None,
                removed_at=seconds(now),
            )
        )

    def add_enrolment(self, token_hash: str, organiser_id: str, expires_at: datetime) -> None:
        """Store a one-time enrolment link."""
        self._c.execute(
            insert(enrolments).values(token_hash=token_hash, organiser_id=organiser_id, expires_at=seconds(expires_at))
        )

    def by_enrolment(self, token_hash: str, now: datetime) -> OrganiserRecord | None:
        """Whose unused, unexpired enrolment link this is."""
        row = self._c.execute(
            select(organisers)
            .join(enrolments)
            .where(
                enrolments.c.token_hash == token_hash,
                enrolments.c.used_at.is_(None),
                enrolments.c.expires_at > seconds(now),
            )
        ).one_or_none()
        return self._record(row) if row else None

    def enrol(self, organiser_id: str, password: str | None, code_hashes: Iterable[str], now: datetime) -> None:
        """Set the password and recovery codes, take on the authenticator, use up every enrolment link."""
        self._c.execute(
            update(organisers)
            .where(organisers.c.id == organiser_id)
            .values(password=password, enrolled_at=seconds(now))
        )
        self._c.execute(
            update(enrolments)
            .where(enrolments.c.organiser_id == organiser_id, enrolments.c.used_at.is_(None))
            .values(used_at=seconds(now))
        )
        self._c.execute(delete(recovery_codes).where(recovery_codes.c.organiser_id == organiser_id))
        self._c.execute(
            insert(recovery_codes),
            [{"organiser_id": organiser_id, "code_hash": code} for code in code_hashes],
        )
        if (enrolled_with := self._authenticators.waiting(organiser_id)) is not None:
            self._authenticators.confirm(enrolled_with.id, now)

    def use_recovery_code(self, organiser_id: str, code_hash: str, now: datetime) -> bool:
        """Use up a recovery code. False if there is no such unused one."""
        return bool(
            self._c.execute(
                update(recovery_codes)
                .where(
                    recovery_codes.c.organiser_id == organiser_id,
                    recovery_codes.c.code_hash == code_hash,
                    recovery_codes.c.used_at.is_(None),
                )
                .values(used_at=seconds(now))
            ).rowcount
        )

    def _record(self, row: Row[tuple[object, ...]]) -> OrganiserRecord:
        r = row._mapping
        return OrganiserRecord(
            Organiser(
                r["id"],
                self._sealer.open(r["name"], "organisers.name", r["id"]),
                self._sealer.open(r["email"], "organisers.email", r["id"]),
                AccountRole(r["role"]),
            ),
            r["password"],
            instant_or_none(r["enrolled_at"]),
            r["account_hash"],
            self._sealer.open(r["entry"], "organisers.entry", r["id"]) if r["entry"] else None,
            instant_or_none(r["entry_seen_at"]),
            instant_or_none(r["signed_in_at"]),
        )


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A signed-in, or half signed-in, browser."""

    organiser_id: str
    complete: bool
    created_at: datetime
    seen_at: datetime
    proved_at: datetime | None = None
    """When a factor was last proved in it, signing in included."""
    network: str = ""
    """From where, coarsely."""
    method: Method | None = None
    """How it was signed in."""
    hash: str = ""


class SessionRepository:
    """Rows of `sessions`: organisers' browsers. A deleted row is a revoked session."""

    def __init__(self, connection: Connection, sealer: Sealer) -> None:
        self._c = connection
        self._sealer = sealer

    def put(
        self,
        session_hash: str,
        organiser_id: str,
        account_hash: str | None = None,
        sid_hash: str | None = None,
        proved_at: datetime | None = None,
        *,
        complete: bool,
        now: datetime,
        method: Method | None = None,
        network: str = "",
    ) -> None:
        """Begin a session, in place of whatever this browser had.

        If by an account at the provider: which, in which session there, and when it was proved there.
        """
        self.remove(session_hash)
        self._c.execute(
            insert(sessions).values(
                session_hash=session_hash,
                organiser_id=organiser_id,
                complete=complete,
                created_at=seconds(now),
                seen_at=seconds(now),
                account_hash=account_hash,
                sid_hash=sid_hash,
                proved_at=seconds(proved_at or now) if complete else None,
                method=method.value if method else None,
                network=self._sealer.seal(network, _NETWORK, session_hash) if network else None,
            )
        )

    def get(self, session_hash: str) -> SessionRecord | None:
        """The session, live or lapsed."""
        row = self._c.execute(select(sessions).where(sessions.c.session_hash == session_hash)).one_or_none()
        return self._record(row) if row else None

    def of(self, organiser_id: str) -> list[SessionRecord]:
        """Those that one account has signed in, live or lapsed, newest first."""
        query = select(sessions).where(sessions.c.organiser_id == organiser_id, sessions.c.complete)
        return [self._record(row) for row in self._c.execute(query.order_by(sessions.c.created_at.desc()))]

    def touch(self, session_hash: str, now: datetime) -> None:
        """Note that it was used."""
        self._c.execute(update(sessions).where(sessions.c.session_hash == session_hash).values(seen_at=seconds(now)))

    def prove(self, session_hash: str, now: datetime) -> None:
        """Note that a factor was proved once more."""
        self._c.execute(update(sessions).where(sessions.c.session_hash == session_hash).values(proved_at=seconds(now)))

    def remove(self, session_hash: str) -> None:
        """Revoke one."""
        self._c.execute(delete(sessions).where(sessions.c.session_hash == session_hash))

    def remove_all(self, organiser_id: str) -> None:
        """Revoke all of one organiser."""
        self._c.execute(delete(sessions).where(sessions.c.organiser_id == organiser_id))

    def remove_signed_out(self, account_hash: str, sid_hash: str) -> list[str]:
        """Revoke those that this account, or this session at the provider, or both have opened. Whose they were."""
        of_account, of_session = sessions.c.account_hash == account_hash, sessions.c.sid_hash == sid_hash
        theirs: ColumnElement[bool] = of_session if sid_hash else of_account
        if account_hash and sid_hash:  # one whose session there has no name may be it
            theirs = and_(of_account, of_session | sessions.c.sid_hash.is_(None))
        return list(self._c.execute(delete(sessions).where(theirs).returning(sessions.c.organiser_id)).scalars())

    def remove_unseen_since(self, before: datetime) -> None:
        """Forget the lapsed."""
        self._c.execute(delete(sessions).where(sessions.c.seen_at < seconds(before)))

    def _record(self, row: Row[tuple[object, ...]]) -> SessionRecord:
        r = row._mapping
        return SessionRecord(
            r["organiser_id"],
            r["complete"],
            instant(r["created_at"]),
            instant(r["seen_at"]),
            instant_or_none(r["proved_at"]),
            self._sealer.open(r["network"], _NETWORK, r["session_hash"]) if r["network"] else "",
            Method(r["method"]) if r["method"] else None,
            r["session_hash"],
        )
