"""Organisers, auditors and admins: enrolment, and signing in with both factors. Their sessions are in sessions.py."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from sluss.delivery.texts import Notice
from sluss.domain import drafts
from sluss.domain.accounts import BETWEEN_FACTORS, ENROLMENT_LIFETIME, RECOVERY_CODES, AccountRole
from sluss.domain.assurance import Method
from sluss.domain.audit import ADMIN, SYSTEM, Action
from sluss.domain.errors import (
    DirectoryUnavailable,
    InvalidInput,
    NotEnrolled,
    NotFound,
    NotVerified,
    SignInRefused,
    SignInRequired,
    SlussError,
)
from sluss.domain.freshness import is_fresh
from sluss.domain.limits import (
    DOOR_SESSION,
    ENROL_LINK,
    SECOND_ACCOUNT,
    SECOND_ACCOUNT_ADDRESS,
    SECOND_BROWSER,
    SIGN_IN_ACCOUNT,
    SIGN_IN_ACCOUNT_ADDRESS,
    SIGN_IN_ADDRESS,
    SIGN_IN_ALL,
    SIGN_IN_BROWSER,
    WRONG_ENROL_ADDRESS,
    Limit,
)
from sluss.domain.meetings import Organiser
from sluss.factors import totp
from sluss.factors.passwords import Passwords, check_strength
from sluss.factors.sign_in import Account, same_address
from sluss.services import audit, limits, notices
from sluss.services.common import Ground, new_id, new_link
from sluss.services.directory import Directory, may_be
from sluss.services.sessions import Sessions
from sluss.store.access import AlreadyThereError, OrganiserRecord
from sluss.store.database import Transaction

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What the enrolment page shows."""

    name: str
    email: str
    secret: str
    otpauth_uri: str
    of_directory: bool = False
    """The password is the directory's: none is set here."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What a browser keeps after signing in."""

    session: str
    browser: str
    """Not a credential: see `Organisers.password`."""


class Organisers(Sessions):
    """The verbs of whoever has an account, or is given one."""

    def __init__(self, ground: Ground, passwords: Passwords, directory: Directory) -> None:
        super().__init__(ground)
        self._passwords = passwords
        self._directory = directory

    async def add(self, name: str, email: str, role: AccountRole = AccountRole.ORGANISER) -> str:
        """Make an account; returns the one-time enrolment link. One not yet enrolled gets a new link.

        Raises `InvalidInput`.
        """
        organiser = Organiser(new_id(), drafts.name(name), drafts.email(email), role)
        token, now = new_link(), self._g.clock()
        await self._g.store.run(lambda tx: self.register(tx, organiser, token, now, ADMIN))
        return notices.enrolment_url(self._g, token)

    def register(self, tx: Transaction, organiser: Organiser, token: str, now: datetime, actor: str) -> None:
        """The same, inside a transaction of another verb; `token` becomes the link. Raises `InvalidInput`."""
        email_hash, who = self.email_hash(organiser.email), organiser.id
        try:
            tx.organisers.add(organiser, email_hash, totp.new_secret(), now)
        except AlreadyThereError:
            known = tx.organisers.by_email(email_hash)
            fit = known is not None and known.enrols and known.organiser.role is organiser.role
            if known is None or not fit or not same_address(known.organiser.email, organiser.email):
                raise InvalidInput("email", "There is an account with this address already.") from None
            who = known.organiser.id
        tx.organisers.add_enrolment(self._g.link_hash(token), who, now + ENROLMENT_LIFETIME)
        subject, role = audit.organiser(who), organiser.role.value
        self._g.audit.record(tx, now, Action.ORGANISER_ADDED, actor=actor, subject=subject, role=role)
        _log.info("organiser_added", organiser=who)

    async def all(self) -> list[tuple[Organiser, datetime | None]]:
        """Every organiser and when they enrolled."""
        records = await self._g.store.run(lambda tx: tx.organisers.all())
        return [(r.organiser, r.enrolled_at) for r in records]

    async def by_email(self, email: str) -> Organiser:
        """Raises `NotFound`."""
        record = await self._g.store.run(lambda tx: tx.organisers.by_email(self.email_hash(email)))
        if record is None:
            raise NotFound(f"no organiser {email}")
        return record.organiser

    async def unlock(self, email: str) -> None:
        """Undo what holds up this organiser's signing in, by whomever it was used up. Raises `NotFound`."""
        now, email_hash = self._g.clock(), self.email_hash(email)

        def work(tx: Transaction) -> NotFound | None:
            record = tx.organisers.by_email(email_hash)
            if record is None:
                return NotFound(f"no organiser {email}")
            limits.undo(tx, [email_hash])
            self._g.audit.record(tx, now, Action.UNLOCKED, actor=ADMIN, subject=audit.organiser(record.organiser.id))
            return None

        await self._g.store.run(work)

    async def enrolment(self, token: str, address: str = "") -> Enrolment:
        """What an enrolment link opens, as often as it is looked at. Raises `NotFound`, `TooManyTries`."""
        record, secret = await self._enrolling(token, address)
        who = record.organiser
        return Enrolment(who.name, who.email, secret, self.otpauth_uri(who, secret), record.entry is not None)

    def otpauth_uri(self, who: Organiser, secret: str) -> str:
        """What an authenticator reads from a QR code."""
        return totp.enrolment_uri(secret, who.email, f"Sluss {self._g.site.organisation}")

    async def enrol(self, token: str, password: str, code: str, address: str = "") -> list[str]:
        """Set the password, prove the authenticator; returns the recovery codes, shown this once.

        Whoever is of the directory has their password there, and none here.

        Raises `InvalidInput` naming `password` or `code`, `NotFound`, `TooManyTries`.
        """
        record, secret = await self._enrolling(token, address, ENROL_LINK)
        if record.entry is None:
            check_strength(password, [*record.organiser.name.split(), *record.organiser.email.split("@")])
        now = self._g.clock()
        if (right := totp.match(secret, digits(code), now)) is None:
            raise InvalidInput("code", "That code is not right. Check that the phone's clock is, and try the next one.")
        stored = await self._passwords.hash(password) if record.entry is None else None
        codes = [_recovery_code() for _ in range(RECOVERY_CODES)]

        def work(tx: Transaction) -> None:
            if tx.organisers.by_enrolment(self._g.link_hash(token), now) is None:
                raise NotFound("enrolment link used meanwhile")
            who, authenticator = record.organiser.id, tx.account_authenticators.waiting(record.organiser.id)
            if authenticator is None:
                raise NotFound("enrolled meanwhile")
            tx.organisers.enrol(who, stored, [self._recovery_hash(who, c) for c in codes], now)
            tx.account_authenticators.use_step(authenticator.id, right.step, right.drift, now)
            tx.sessions.remove_all(who)
            notices.tell(self._g, tx, record.organiser.email, Notice.ENROLLED, now)
            self._g.audit.record(tx, now, Action.ENROLLED, actor=audit.organiser(who), subject=audit.organiser(who))

        await self._g.store.run(work)
        self._g.wake_outbox()
        _log.info("organiser_enrolled", organiser=record.organiser.id)
        return codes

    async def password(self, session: str, email: str, password: str, address: str, browser: str = "") -> None:
        """The first factor. `browser` is what `second_factor` gave this browser the last time.

        Where there is a directory, it is asked about everybody who has no password here. Raises `NotVerified` or
        `TooManyTries`; neither says whether there is such an organiser. `NotEnrolled` says that the password is right.
        """
        now, email_hash = self._g.clock(), self.email_hash(email)
        known = self._known_browser(email_hash, browser)
        failures = self._uses(SIGN_IN_BROWSER, SIGN_IN_ACCOUNT_ADDRESS, SIGN_IN_ACCOUNT, email_hash, address, known)
        every = []
        if not known:
            failures.append(limits.Use(SIGN_IN_ADDRESS, self._g.limit_key(address=address)))
            every.append(limits.Use(SIGN_IN_ALL, ""))

        def begin(tx: Transaction) -> OrganiserRecord | SlussError | None:
            if refusal := limits.refusal(tx, [*failures, *every], now):
                return self.not_signed_in(tx, now, refusal, None, address, factor="password")
            if every:
                limits.take(tx, every, now)
            return tx.organisers.by_email(email_hash)

        record = await self._g.store.run(begin)
        right = await self._passwords.verify(record.password if record else None, password)
        account: Account | DirectoryUnavailable | None = None
        if self._directory.there and not right:
            local = record is not None and record.password is not None
            account = await self._directory.account(
                "" if local else email,
                password,
                known=lambda one: self._known_browser(self.email_hash(one), browser) is not None,
            )

        def work(tx: Transaction) -> SlussError | None:
            # Again: others may have failed while this password was being hashed.
            if refusal := limits.refusal(tx, failures, now):
                return self.not_signed_in(tx, now, refusal, record, address, factor="password")
            found = self._whose(tx, record if right else None, account, now)
            if isinstance(found, SlussError):
                limits.take(tx, failures, now)
                why = "no answer of the directory" if isinstance(found, DirectoryUnavailable) else str(found)
                return self.not_signed_in(tx, now, found, record, address, factor="password", reason=why)
            if found.enrolled_at is None:
                self._directory.send_enrolment(tx, found, now)
                needed = NotEnrolled("no second factor yet")
                return self.not_signed_in(tx, now, needed, found, address, factor="password", reason=str(needed))
            tx.sessions.put(self._g.session_hash(session), found.organiser.id, complete=False, now=now)
            return None

        try:
            await self._g.store.run(work)
        finally:
            self._g.wake_outbox()

    async def second_factor(self, session: str, code: str, address: str, browser: str = "") -> SignedIn:
        """The second factor: an authenticator or recovery code. Returns what goes into new cookies.

        Raises `NotVerified`, `TooManyTries`, or `SignInRequired` if the password was not given just before.
        """
        now, old, new = self._g.clock(), self._g.session_hash(session), new_link()

        def work(tx: Transaction) -> OrganiserRecord | SlussError:
            half = tx.sessions.get(old)
            if half is None or half.complete or not is_fresh(half.created_at, now, BETWEEN_FACTORS):
                return SignInRequired("no password just before")
            record = tx.organisers.by_id(half.organiser_id)
            email_hash = self.email_hash(record.organiser.email)
            known = self._known_browser(email_hash, browser)
            uses = self._uses(SECOND_BROWSER, SECOND_ACCOUNT_ADDRESS, SECOND_ACCOUNT, email_hash, address, known)
            if refusal := self.prove(tx, record, code, now, uses, recovery=True):
                return self.not_signed_in(tx, now, refusal, record, address, factor="code")
            self.begin_session(tx, record, old, new, now, Method.TOTP, address)
            return record

        return self.signed_in_as(await self._g.store.run(work), new)

    async def sign_in_confirmed(
        self, record: OrganiserRecord, old: str, new: str, method: Method, address: str
    ) -> None:
        """`begin_session` of one who is of the directory, if that still has them. Raises `NotVerified`."""
        try:
            await self._directory.confirm(record)
        except NotVerified as gone:
            now, refusal = self._g.clock(), gone
            await self._g.store.run(
                lambda tx: self.not_signed_in(tx, now, refusal, record, address, factor=method, reason=str(refusal))
            )
        now = self._g.clock()

        def work(tx: Transaction) -> NotVerified | None:
            # While the directory was asked, what they came with may have been voided.
            if tx.organisers.by_id(record.organiser.id).enrolled_at != record.enrolled_at:
                return NotVerified("reset or removed meanwhile")
            self.begin_session(tx, record, old, new, now, method, address)
            return None

        await self._g.store.run(work)

    def signed_in_as(self, record: OrganiserRecord, session: str) -> SignedIn:
        """What the browser is given, after `begin_session` was committed."""
        _log.info("signed_in", organiser=record.organiser.id)
        return SignedIn(session, self._browser(self.email_hash(record.organiser.email)))

    async def prove_again(self, session: str, code: str, address: str) -> None:
        """An authenticator or recovery code of who is signed in, for what needs one again: see `proved`.

        Raises `NotVerified`, `TooManyTries`, `SignInRequired`.
        """
        now = self._g.clock()

        def work(tx: Transaction) -> SlussError | None:
            record = self.signed_in(tx, session, now)
            if isinstance(record, SlussError):
                return record
            refusal = self.prove(tx, record, code, now, [self.door_use(session, record)], recovery=True)
            self.proved_again(tx, record, session, now, refusal, Method.TOTP, address)
            return refusal

        await self._g.store.run(work)

    async def by_account(self, session: str, account: Account | SignInRefused, address: str) -> SignedIn:
        """Sign in by an account at the organisation's provider. Returns what `second_factor` does.

        The account is known by issuer and subject. The first time, it is the registered organiser's with its verified
        address, or, if its groups say so, a new one's. Raises `NotVerified` for every reason.
        """
        now, old, new = self._g.clock(), self._g.session_hash(session), new_link()

        def refused(tx: Transaction, why: SlussError) -> SlussError:
            return self.not_signed_in(tx, now, why, None, address, factor="sign_in", reason=str(why))

        def work(tx: Transaction) -> OrganiserRecord | SlussError:
            if isinstance(account, SlussError):
                return refused(tx, account)
            record = self._of_account(tx, account, now)
            if isinstance(record, SlussError):
                return refused(tx, record)
            self.begin_session(tx, record, old, new, now, account.method, address, account)
            return record

        return self.signed_in_as(await self._g.store.run(work), new)

    async def prove_by_account(self, session: str, account: Account | SignInRefused, address: str) -> None:
        """A fresh sign-in at the provider of who is signed in here: see `prove_again`. Raises the same."""
        now = self._g.clock()

        def work(tx: Transaction) -> SlussError | None:
            record = self.signed_in(tx, session, now)
            if isinstance(record, SlussError):
                return record
            refusal: SlussError | None = None
            method, proved_at = Method.SIGN_IN, None
            if isinstance(account, SlussError):
                refusal = account
            else:
                method, proved_at = account.method, account.signed_in_at
                if self.account_hash(account) != record.account_hash:
                    refusal = NotVerified("another's account")
            self.proved_again(tx, record, session, now, refusal, method, address, proved_at)
            return refusal

        await self._g.store.run(work)

    def _of_account(self, tx: Transaction, account: Account, now: datetime) -> OrganiserRecord | NotVerified:
        """Whose account it is, or why it is nobody's. Where groups decide, they decide each time."""
        account_hash = self.account_hash(account)
        record = tx.organisers.by_account(account_hash)
        if record is None and account.email:
            record = tx.organisers.by_email(self.email_hash(account.email))
            if record is not None and (record.account_hash or not same_address(record.organiser.email, account.email)):
                return NotVerified("the address is an organiser's with another account")
        if record is None:
            made = self._new_of_account(tx, account, account_hash, now) if account.roles else None
            return made or NotVerified("no organiser's account")
        if account.roles is not None and not may_be(record.organiser, account.roles):
            return NotVerified("its groups do not make it what it was")
        if record.account_hash is None:
            tx.organisers.bind_account(record.organiser.id, account_hash)
            who = audit.organiser(record.organiser.id)
            self._g.audit.record(tx, now, Action.ACCOUNT_BOUND, actor=who, subject=who)
        return record

    def _whose(
        self, tx: Transaction, local: OrganiserRecord | None, account: Account | SlussError | None, now: datetime
    ) -> OrganiserRecord | SlussError:
        """Whose password it is: of one whose own here is right, or as the directory says."""
        if isinstance(account, Account):
            return self._of_directory(tx, account, now)
        return account or local or NotVerified("wrong password or no such organiser")

    def _of_directory(self, tx: Transaction, account: Account, now: datetime) -> OrganiserRecord | NotVerified:
        """Whose entry it is, or why it is nobody's. Who has a password here is not of the directory."""
        local = tx.organisers.by_email(self.email_hash(account.email))
        if local is not None and local.password is not None:
            return NotVerified("an organiser with a password here")
        found = self._of_account(tx, account, now)
        if isinstance(found, OrganiserRecord):
            tx.organisers.saw_entry(found.organiser.id, account.subject, now)
            return tx.organisers.by_id(found.organiser.id)
        return found

    def _new_of_account(
        self, tx: Transaction, account: Account, account_hash: str, now: datetime
    ) -> OrganiserRecord | NotVerified:
        role = AccountRole.ORGANISER if "organiser" in (account.roles or ()) else AccountRole.AUDITOR
        try:
            email = drafts.email(account.email)
            organiser = Organiser(new_id(), drafts.name(account.name or email), email, role)
        except InvalidInput:
            return NotVerified("an organiser's account without a verified address, or a name that cannot be")
        tx.organisers.add(organiser, self.email_hash(email), totp.new_secret(), now)
        tx.organisers.bind_account(organiser.id, account_hash)
        who = audit.organiser(organiser.id)
        self._g.audit.record(
            tx, now, Action.ORGANISER_ADDED, actor=SYSTEM, subject=who, role=role.value, by=account.method
        )
        return tx.organisers.by_id(organiser.id)

    def prove(
        self,
        tx: Transaction,
        record: OrganiserRecord,
        code: str,
        now: datetime,
        uses: Sequence[limits.Use],
        *,
        recovery: bool,
    ) -> SlussError | None:
        """Check an authenticator code (or, for signing in, a recovery code) and use it up. The refusal, if any.

        A wrong one takes from `uses`.
        """
        if refusal := limits.refusal(tx, uses, now):
            return refusal
        who, right = record.organiser.id, False
        for one in tx.account_authenticators.of(who):
            found = totp.match(one.secret, digits(code), now, one.drift)
            right = right or (
                found is not None and tx.account_authenticators.use_step(one.id, found.step, found.drift, now)
            )
        if not right and recovery:
            right = tx.organisers.use_recovery_code(who, self._recovery_hash(who, code), now)
            if right:
                self._g.audit.record(tx, now, Action.RECOVERY_CODE_USED, actor=audit.organiser(who))
                notices.tell(self._g, tx, record.organiser.email, Notice.RECOVERY_CODE_USED, now)
        if not right:
            limits.take(tx, uses, now)
            return NotVerified("wrong or used authenticator code")
        return None

    def _uses(  # noqa: PLR0917
        self, browser: Limit, there: Limit, anywhere: Limit, email_hash: str, address: str, known: str | None
    ) -> list[limits.Use]:
        """What a failure uses: a known browser's own limit, or those of the account, from there and from anywhere."""
        if known:
            return [limits.Use(browser, known, email_hash)]
        return [
            limits.Use(there, self._g.limit_key(email_hash, address=address), email_hash),
            limits.Use(anywhere, email_hash, email_hash),
        ]

    def door_use(self, session: str, record: OrganiserRecord) -> limits.Use:
        """What a wrong code at a meeting's door uses."""
        return limits.Use(DOOR_SESSION, self._g.session_hash(session), self.email_hash(record.organiser.email))

    def _browser(self, email_hash: str) -> str:
        """What tells a browser that has signed in before. It opens nothing, but others' guesses do not lock it."""
        nonce = secrets.token_urlsafe(16)
        return f"{nonce}.{self._g.hasher.digest('browser', email_hash, nonce)}"

    def _known_browser(self, email_hash: str, value: str) -> str | None:
        """Whose limit that browser has, if it has signed in to this account before."""
        nonce, _, proof = value.partition(".")
        known = proof.isascii() and self._g.hasher.matches(proof, "browser", email_hash, nonce)
        return self._g.limit_key(nonce) if known else None

    async def _enrolling(self, token: str, address: str, limit: Limit | None = None) -> tuple[OrganiserRecord, str]:
        """Whose enrolment link it is, and the secret of the authenticator to be.

        `limit` is used up by trying the link, another one by a link that is none.
        """
        now, token_hash = self._g.clock(), self._g.link_hash(token)

        def work(tx: Transaction) -> tuple[OrganiserRecord, str] | SlussError:
            record = tx.organisers.by_enrolment(token_hash, now)
            authenticator = tx.account_authenticators.waiting(record.organiser.id) if record else None
            if record is None or authenticator is None:
                wrong = limits.Use(WRONG_ENROL_ADDRESS, self._g.limit_key(address=address))
                return limits.spend(tx, [wrong], now) or NotFound("no such enrolment link, or used, or too old")
            refusal = limits.spend(tx, [limits.Use(limit, token_hash)], now) if limit else None
            return refusal or (record, authenticator.secret)

        return await self._g.store.run(work)

    def email_hash(self, email: str) -> str:
        """How an account is known by its address: the owner of its limits."""
        return self._g.hasher.digest("organiser", email.strip().casefold())

    def _recovery_hash(self, organiser_id: str, code: str) -> str:
        return self._g.hasher.digest("recovery", organiser_id, "".join(c for c in code.lower() if c.isalnum()))


def digits(code: str) -> str:
    """A code as typed, without white space."""
    return "".join(code.split())


def _recovery_code() -> str:
    return "-".join(secrets.token_hex(2) for _ in range(4))
