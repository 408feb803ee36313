"""Organisers: enrolment, signing in with both factors, sessions that can be revoked."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from sluss.domain import drafts
from sluss.domain.assurance import ASSURANCE, Method
from sluss.domain.audit import ADMIN, NOBODY, Action, Outcome
from sluss.domain.errors import InvalidInput, NotFound, NotVerified, SignInRequired, SlussError, TooManyTries
from sluss.domain.meetings import Organiser
from sluss.factors import totp
from sluss.factors.passwords import Passwords, check_strength
from sluss.services import audit, lockout
from sluss.services.common import Ground, new_id, new_link
from sluss.store.access import AlreadyThereError, OrganiserRecord, SessionRecord
from sluss.store.database import Transaction

ENROLMENT_LIFETIME = timedelta(days=7)
IDLE = timedelta(minutes=30)
ABSOLUTE = timedelta(hours=12)
BETWEEN_FACTORS = timedelta(minutes=5)
RECOVERY_CODES = 10
_TOUCH_EVERY = timedelta(seconds=60)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What the enrolment page shows."""

    name: str
    email: str
    secret: str
    otpauth_uri: str


class Organisers:
    """The verbs about the people who may create meetings."""

    def __init__(self, ground: Ground, passwords: Passwords) -> None:
        self._g = ground
        self._passwords = passwords

    async def add(self, name: str, email: str, *, auditor: bool = False) -> str:
        """Register an organiser or auditor; returns the one-time enrolment link. One not yet enrolled gets a new link.

        Raises `InvalidInput`.
        """
        name, email = drafts.name(name), drafts.email(email)
        token, now = new_link(), self._g.clock()
        role = "auditor" if auditor else "organiser"
        organiser = Organiser(new_id(), name, email, auditor)

        def work(tx: Transaction) -> None:
            try:
                tx.organisers.add(organiser, self._email_hash(email), totp.new_secret(), now)
                who = organiser.id
            except AlreadyThereError:
                known = tx.organisers.by_email(self._email_hash(email))
                if known is None or known.enrolled_at is not None or known.organiser.auditor != auditor:
                    raise InvalidInput("email", f"{email} is an organiser already.") from None
                who = known.organiser.id
            tx.organisers.add_enrolment(self._g.link_hash(token), who, now + ENROLMENT_LIFETIME)
            self._g.audit.record(tx, now, Action.ORGANISER_ADDED, actor=ADMIN, subject=audit.organiser(who), role=role)

        await self._g.store.run(work)
        _log.info("organiser_added", organiser=organiser.id)
        return f"{self._g.site.portal}/enrol/{token}"

    async def all(self) -> list[tuple[Organiser, datetime | None]]:
        """Every organiser and when they enrolled."""
        records = await self._g.store.run(lambda tx: tx.organisers.all())
        return [(r.organiser, r.enrolled_at) for r in records]

    async def by_email(self, email: str) -> Organiser:
        """Raises `NotFound`."""
        record = await self._g.store.run(lambda tx: tx.organisers.by_email(self._email_hash(email)))
        if record is None:
            raise NotFound(f"no organiser {email}")
        return record.organiser

    async def enrolment(self, token: str) -> Enrolment:
        """What an enrolment link opens, as often as it is looked at. Raises `NotFound`."""
        record = await self._enrolling(token)
        return Enrolment(
            record.organiser.name,
            record.organiser.email,
            record.totp_secret,
            totp.enrolment_uri(record.totp_secret, record.organiser.email, f"Sluss {self._g.site.organisation}"),
        )

    async def enrol(self, token: str, password: str, code: str) -> list[str]:
        """Set the password, prove the authenticator; returns the recovery codes, shown this once.

        Raises `InvalidInput` naming `password` or `code`, `NotFound`.
        """
        record = await self._enrolling(token)
        check_strength(password, [*record.organiser.name.split(), *record.organiser.email.split("@")])
        now = self._g.clock()
        if (step := totp.matching_step(record.totp_secret, _digits(code), now)) is None:
            raise InvalidInput("code", "That code is not right. Check that the phone's clock is, and try the next one.")
        stored = await self._passwords.hash(password)
        codes = [_recovery_code() for _ in range(RECOVERY_CODES)]

        def work(tx: Transaction) -> None:
            if tx.organisers.by_enrolment(self._g.link_hash(token), now) is None:
                raise NotFound("enrolment link used meanwhile")
            who = record.organiser.id
            tx.organisers.enrol(who, stored, [self._recovery_hash(who, c) for c in codes], now)
            tx.organisers.use_step(who, step)
            tx.sessions.remove_all(who)
            self._g.audit.record(tx, now, Action.ENROLLED, actor=audit.organiser(who), subject=audit.organiser(who))

        await self._g.store.run(work)
        _log.info("organiser_enrolled", organiser=record.organiser.id)
        return codes

    async def password(self, session: str, email: str, password: str, address: str) -> None:
        """The first factor. Raises `NotVerified` or `TooManyTries`; neither says whether there is such an organiser."""
        now, email_hash = self._g.clock(), self._email_hash(email)
        subjects = (f"sign-in:{email_hash}", f"sign-in-from:{self._g.hasher.digest('address', address)}")

        def locked(tx: Transaction) -> SlussError | None:
            return next((refusal for s in subjects if (refusal := lockout.locked(tx, s, now))), None)

        def known(tx: Transaction) -> OrganiserRecord | SlussError | None:
            if refusal := locked(tx):
                return self._not_signed_in(tx, now, refusal, None, address, factor="password")
            return tx.organisers.by_email(email_hash)

        record = await self._g.store.run(known)
        right = await self._passwords.verify(record.password if record else None, password)

        def work(tx: Transaction) -> SlussError | None:
            # Again: others may have failed while this password was being hashed.
            if refusal := locked(tx):
                return self._not_signed_in(tx, now, refusal, record, address, factor="password")
            if not right or record is None:
                for subject in subjects:
                    lockout.failed(tx, subject, now)
                refusal = NotVerified("wrong password or no such organiser")
                return self._not_signed_in(tx, now, refusal, record, address, factor="password")
            tx.sessions.put(self._g.session_hash(session), record.organiser.id, complete=False, now=now)
            return None

        await self._g.store.run(work)

    async def second_factor(self, session: str, code: str, address: str) -> str:
        """The second factor: an authenticator or recovery code. Returns a new session value, for a new cookie.

        Raises `NotVerified`, `TooManyTries`, or `SignInRequired` if the password was not given just before.
        """
        now, old, new = self._g.clock(), self._g.session_hash(session), new_link()

        def work(tx: Transaction) -> str | SlussError:
            half = tx.sessions.get(old)
            if half is None or half.complete or now - half.created_at > BETWEEN_FACTORS:
                return SignInRequired("no password just before")
            record = tx.organisers.by_id(half.organiser_id)
            if refusal := self.prove(tx, record, code, now, recovery=True):
                return self._not_signed_in(tx, now, refusal, record, address, factor="code")
            tx.sessions.remove(old)
            tx.sessions.put(self._g.session_hash(new), half.organiser_id, complete=True, now=now)
            for subject in (
                f"sign-in:{self._email_hash(record.organiser.email)}",
                f"sign-in-from:{self._g.hasher.digest('address', address)}",
            ):
                lockout.succeeded(tx, subject)
            self._g.audit.record(
                tx,
                now,
                Action.SIGNED_IN,
                actor=audit.organiser(half.organiser_id),
                assurance=ASSURANCE[Method.TOTP],
                origin=self._g.origin(address),
            )
            return half.organiser_id

        organiser_id = await self._g.store.run(work)
        _log.info("signed_in", organiser=organiser_id)
        return new

    def prove(
        self, tx: Transaction, record: OrganiserRecord, code: str, now: datetime, *, recovery: bool
    ) -> SlussError | None:
        """Check an authenticator code (or, for signing in, a recovery code) and use it up. The refusal, if any."""
        subject = f"code:{record.organiser.id}"
        if refusal := lockout.locked(tx, subject, now):
            return refusal
        step = totp.matching_step(record.totp_secret, _digits(code), now)
        right = step is not None and tx.organisers.use_step(record.organiser.id, step)
        if not right and recovery:
            who = record.organiser.id
            right = tx.organisers.use_recovery_code(who, self._recovery_hash(who, code), now)
            if right:
                self._g.audit.record(tx, now, Action.RECOVERY_CODE_USED, actor=audit.organiser(who))
        if not right:
            lockout.failed(tx, subject, now)
            return NotVerified("wrong or used authenticator code")
        lockout.succeeded(tx, subject)
        return None

    async def current(self, session: str) -> Organiser:
        """Who is signed in with both factors in this browser. Raises `SignInRequired`."""
        now = self._g.clock()
        record = await self._g.store.run(lambda tx: self.signed_in(tx, session, now))
        return record.organiser

    def signed_in(self, tx: Transaction, session: str, now: datetime) -> OrganiserRecord | SignInRequired:
        """The same, inside a transaction of another verb."""
        hashed = self._g.session_hash(session)
        found = tx.sessions.get(hashed)
        if found is None or not found.complete or _lapsed(found, now):
            return SignInRequired("no live session")
        if now - found.seen_at > _TOUCH_EVERY:
            tx.sessions.touch(hashed, now)
        return tx.organisers.by_id(found.organiser_id)

    async def sign_out(self, session: str) -> None:
        """Revoke this browser's session."""
        now, hashed = self._g.clock(), self._g.session_hash(session)

        def work(tx: Transaction) -> None:
            found = tx.sessions.get(hashed)
            if found is not None and found.complete:
                self._g.audit.record(tx, now, Action.SIGNED_OUT, actor=audit.organiser(found.organiser_id))
            tx.sessions.remove(hashed)

        await self._g.store.run(work)

    async def sign_out_everywhere(self, organiser: Organiser) -> None:
        """Revoke all of an organiser's sessions."""
        now = self._g.clock()

        def work(tx: Transaction) -> None:
            tx.sessions.remove_all(organiser.id)
            self._g.audit.record(tx, now, Action.SIGNED_OUT, actor=audit.organiser(organiser.id), where="everywhere")

        await self._g.store.run(work)

    def _not_signed_in(
        self,
        tx: Transaction,
        now: datetime,
        refusal: SlussError,
        record: OrganiserRecord | None,
        address: str,
        *,
        factor: str,
    ) -> SlussError:
        self._g.audit.record(
            tx,
            now,
            Action.SIGNED_IN,
            Outcome.LOCKED if isinstance(refusal, TooManyTries) else Outcome.REFUSED,
            actor=NOBODY,
            subject=audit.organiser(record.organiser.id if record else None),
            factor=factor,
            origin=self._g.origin(address),
        )
        return refusal

    async def _enrolling(self, token: str) -> OrganiserRecord:
        now = self._g.clock()
        record = await self._g.store.run(lambda tx: tx.organisers.by_enrolment(self._g.link_hash(token), now))
        if record is None:
            raise NotFound("no such enrolment link, or used, or too old")
        return record

    def _email_hash(self, email: str) -> str:
        return self._g.hasher.digest("organiser", email.strip().casefold())

    def _recovery_hash(self, organiser_id: str, code: str) -> str:
        return self._g.hasher.digest("recovery", organiser_id, "".join(c for c in code.lower() if c.isalnum()))


def _lapsed(session: SessionRecord, now: datetime) -> bool:
    return now - session.seen_at > IDLE or now - session.created_at > ABSOLUTE


def _digits(code: str) -> str:
    return "".join(code.split())


def _recovery_code() -> str:
    return "-".join(secrets.token_hex(2) for _ in range(4))
