"""The organisation's directory: whose password it is, who may be an organiser or auditor, and who is a colleague.

Nothing is taken from it for granted: each password is asked for there, and the groups at each sign-in and every ten
minutes. Without an answer nobody is let in by it. Wrong passwords are counted here before the directory counts them.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from sluss.delivery import texts
from sluss.delivery.worker import MAIL
from sluss.domain.accounts import ENROLMENT_LIFETIME, AccountRole
from sluss.domain.assurance import Method, Purpose
from sluss.domain.audit import ADMIN, SYSTEM, Action
from sluss.domain.directory import SHORTEST_QUERY, Colleague
from sluss.domain.drafts import MAX_EMAIL
from sluss.domain.errors import DirectoryUnavailable, InvalidInput, NotFound, NotVerified, SlussError, TooManyTries
from sluss.domain.freshness import is_fresh
from sluss.domain.limits import (
    ENROL_MAILS,
    LDAP_ACCOUNT,
    LDAP_ACCOUNT_BROWSER,
    LDAP_ADDRESS,
    LDAP_ALL,
    LDAP_BROWSER,
    LDAP_LINK,
    LDAP_LINK_ADDRESS,
    LOOK_UPS,
    LOOK_UPS_NOTED,
)
from sluss.domain.meetings import Invitation, Organiser
from sluss.factors.sign_in import Account, same_address
from sluss.services import audit, limits
from sluss.services.common import Ground, new_id, new_link
from sluss.services.verification import Verifications, live
from sluss.store.access import OrganiserRecord
from sluss.store.database import Transaction

if TYPE_CHECKING:
    from sluss.factors.ldap import Ldap

ISSUER = "directory"
"""In place of an identity provider's, which is an https address."""
EVERY = timedelta(minutes=10)
"""So often the directory is asked about organisers who are signed in."""
AWAY = timedelta(hours=1)
"""Whoever it has not vouched for within this is signed out."""
PACE = 1.0
"""Seconds that a refusal takes at least: how long the directory looks tells nothing of whether it has somebody."""
_WORDS = 5

_log = structlog.get_logger()


class Directory:
    """The verbs. Without a directory they raise `NotFound`; without its answer `DirectoryUnavailable`."""

    def __init__(self, ground: Ground, ldap: "Ldap | None", verifications: Verifications, pace: float = PACE) -> None:
        self._g = ground
        self._ldap = ldap
        self._verifications = verifications
        self._pace = pace

    @property
    def there(self) -> bool:
        """Whether this installation has a directory."""
        return self._ldap is not None

    async def account(
        self, address: str, password: str, *, known: Callable[[str], bool]
    ) -> Account | DirectoryUnavailable | None:
        """Who has this address (or name to sign in with) and password, with what their groups make them.

        `known`: whether the browser has signed in before as who has an address, whatever name is typed. Without an
        `address` it takes as long as for somebody, and the password goes nowhere. That there is no answer is returned,
        for it must not make guessing free.
        """

        def theirs(person: Colleague) -> bool:
            return any(known(one) for one in person.emails)

        try:
            if not address:
                await self._person(self._nobody(), new_id(), known=theirs, organiser=True)
                return None
            person = await self._person(address, password, known=theirs, organiser=True)
        except DirectoryUnavailable as away:
            return away
        if person is None:
            return None
        now = self._g.clock()
        return Account(ISSUER, person.id, "", Method.LDAP, person.email, person.name, now, person.roles)

    async def verify(self, link: str, session: str, purpose: Purpose, password: str, address: str) -> None:
        """Complete a participant's verification with the password of whoever has the invited address in the directory.

        Where the class takes no passwords, it is asked for a browser that has proved something by the link: a right one
        opens nothing there, and the organiser is told. The refusal takes as long as that of a wrong one.
        Raises `NotVerified` for every reason, `TooManyTries`.
        """
        if not password:
            raise NotVerified("no password")
        asked = self._verifications.asked(link, session, purpose, Method.LDAP, address)

        def begin(tx: Transaction) -> tuple[TooManyTries | None, str, bool, bool]:
            known = tx.verifications.any_of(asked.link_hash, asked.session_hash)
            refusal = limits.spend(tx, self._uses(asked.link_hash, asked.session_hash, address, known=known), asked.at)
            invitation, meeting = live(tx, asked.link_hash)
            if invitation is None or meeting is None:
                return refusal, "", False, False
            opens = self._g.policy.of(meeting.sensitivity).requirement(purpose).accepts(Method.LDAP)
            if not opens and not known:
                return refusal, "", False, False  # a link alone uses up nobody's tries where they are good for nothing
            # A browser has tries of its own at a password that it has proved before, and not by the phone, say.
            seen = [tx.verifications.latest(invitation.id, asked.session_hash, one, asked.at) for one in Purpose]
            proved = any(one is not None and one.method is Method.LDAP for one in seen)
            return refusal, invitation.email, opens, proved

        refusal, email, opens, proved = await self._g.store.run(begin)
        person = None
        if refusal is None:
            whose = email or self._nobody()
            person = await self._person(whose, password, known=lambda _: proved, opens=opens)

        def prove(_: Transaction, invitation: Invitation | None) -> str | SlussError:
            if refusal is not None:
                return refusal
            if person is None or invitation is None:
                return NotVerified("wrong password, or nobody to verify")
            if not any(same_address(invitation.email, one) for one in person.emails):
                return NotVerified("not the invited person's entry")
            return self._g.hasher.digest("entry", person.id)

        await self._verifications.verify(asked, prove)

    async def look_up(self, organiser: Organiser, query: str) -> list[Colleague]:
        """Colleagues by name or the beginning of their address. Raises `InvalidInput`, `TooManyTries`."""
        ldap, now = self._there(), self._g.clock()
        words = [word for word in query.split() if word.isprintable()][:_WORDS]
        if len("".join(words)) < SHORTEST_QUERY:
            raise InvalidInput("colleague", "Write at least 2 letters of the name.")

        def work(tx: Transaction) -> TooManyTries | None:
            if refusal := limits.spend(tx, [limits.Use(LOOK_UPS, organiser.id)], now):
                return refusal
            if limits.spend(tx, [limits.Use(LOOK_UPS_NOTED, organiser.id)], now) is None:
                self._g.audit.record(tx, now, Action.COLLEAGUES_LOOKED_UP, actor=audit.organiser(organiser.id))
            return None

        await self._g.store.run(work)
        try:
            return await ldap.named(words)
        except DirectoryUnavailable as away:
            raise self._said(away) from None

    def send_enrolment(self, tx: Transaction, record: OrganiserRecord, now: datetime) -> None:
        """Mail a link to set up the second factor to the address in the directory, but not too often."""
        if limits.spend(tx, [limits.Use(ENROL_MAILS, record.organiser.id)], now):
            return
        token, site = new_link(), self._g.site
        tx.organisers.add_enrolment(self._g.link_hash(token), record.organiser.id, now + ENROLMENT_LIFETIME)
        subject, body = texts.second_factor(site.locale, f"{site.portal}/enrol/{token}")
        message = {"to": record.organiser.email, "subject": subject, "body": body}
        tx.outbox.put(MAIL, message, None, now=now, expires_at=now + ENROLMENT_LIFETIME)

    async def confirm(self, record: OrganiserRecord) -> None:
        """Ask whether an organiser of the directory still may be one. Raises `NotVerified` if not, signed out then."""
        if record.entry is None:
            return
        ldap = self._ldap
        if ldap is None:
            raise NotVerified("an organiser of a directory that is not set up")
        try:
            person = await ldap.by_id(record.entry)
        except DirectoryUnavailable as away:
            raise self._said(away) from None
        now, entry = self._g.clock(), record.entry
        stays = person is not None and may_be(record.organiser, person.roles)

        def work(tx: Transaction) -> None:
            if stays:
                tx.organisers.saw_entry(record.organiser.id, entry, now)
            else:
                self._sign_out(tx, record, now)

        await self._g.store.run(work)
        if not stays:
            raise NotVerified("the directory does not have them, or not in the group")

    async def recheck(self) -> None:
        """Sign out those whom the directory does not vouch for any more, or has not for too long."""
        if self._ldap is None:
            return
        for record in await self._g.store.run(lambda tx: tx.organisers.of_directory_signed_in()):
            try:
                await self.confirm(record)
            except NotVerified:
                _log.info("signed_out_by_directory", organiser=record.organiser.id)
            except DirectoryUnavailable:
                await self._sign_out_unconfirmed()
                return

    async def hand_over(self, email: str) -> None:
        """An organiser with a password here is of the directory from the next sign-in on. Raises `NotFound`."""
        now = self._g.clock()

        def work(tx: Transaction) -> NotFound | None:
            record = tx.organisers.by_email(self._g.hasher.digest("organiser", email.strip().casefold()))
            if record is None or record.password is None or record.organiser.role is AccountRole.ADMIN:
                return NotFound(f"no organiser or auditor {email} with a password here")  # no group makes an admin
            tx.organisers.forget_password(record.organiser.id)
            tx.sessions.remove_all(record.organiser.id)
            who = audit.organiser(record.organiser.id)
            self._g.audit.record(tx, now, Action.PASSWORD_REMOVED, actor=ADMIN, subject=who)
            return None

        await self._g.store.run(work)

    async def _sign_out_unconfirmed(self) -> None:
        now = self._g.clock()

        def work(tx: Transaction) -> None:
            for record in tx.organisers.of_directory_signed_in():
                if record.entry_seen_at is None or not is_fresh(record.entry_seen_at, now, AWAY):
                    self._sign_out(tx, record, now)

        await self._g.store.run(work)

    def _sign_out(self, tx: Transaction, record: OrganiserRecord, now: datetime) -> None:
        tx.sessions.remove_all(record.organiser.id)
        who = audit.organiser(record.organiser.id)
        self._g.audit.record(tx, now, Action.SIGNED_OUT, actor=SYSTEM, subject=who, where="directory")

    async def _person(
        self,
        address: str,
        password: str,
        *,
        known: Callable[[Colleague], bool],
        organiser: bool = False,
        opens: bool = True,
    ) -> Colleague | None:
        """Who has this address and password. None alike for a wrong one, for nobody, and for too many wrong ones.

        Not `opens`: it takes as long for a right one.
        """
        ldap, began = self._there(), asyncio.get_running_loop().time()
        try:
            asked = address if len(address) <= MAX_EMAIL else self._nobody()
            person = await ldap.by_address(asked, organiser=organiser)
            key = self._g.hasher.digest("entry tries", person.id if person else new_id())
            # Taken before it is asked, so that many at once are not more than one after the other.
            use = limits.Use(LDAP_ACCOUNT_BROWSER if person and known(person) else LDAP_ACCOUNT, key, key)
            taken = await self._g.store.run(lambda tx: limits.spend(tx, [use], self._g.clock()) is None)
            dn = person.dn if person and taken else ldap.nobody()
            right = await ldap.knows(dn, password) and person is not None and taken
        except DirectoryUnavailable as away:
            raise self._said(away) from None
        if right:
            await self._g.store.run(lambda tx: limits.undo(tx, [key]))
        elif person is not None and not taken:
            _log.warning("directory_tries_used_up", limit=use.limit.what)
        if not (right and opens):
            await asyncio.sleep(began + self._pace - asyncio.get_running_loop().time())
        return person if right else None

    def _uses(self, link_hash: str, session_hash: str, address: str, *, known: bool) -> list[limits.Use]:
        """What a try uses. A browser `known` to be the right person's shares nothing with others."""
        if known:
            return [limits.Use(LDAP_BROWSER, self._g.limit_key(link_hash, session_hash), link_hash)]
        return [
            limits.Use(LDAP_LINK, link_hash, link_hash),
            limits.Use(LDAP_LINK_ADDRESS, self._g.limit_key(link_hash, address=address), link_hash),
            limits.Use(LDAP_ADDRESS, self._g.limit_key(address=address)),
            limits.Use(LDAP_ALL, ""),
        ]

    @staticmethod
    def _said(away: DirectoryUnavailable) -> DirectoryUnavailable:
        _log.warning("directory_unavailable", reason=str(away))
        return away

    @staticmethod
    def _nobody() -> str:
        """An address that nobody has (RFC 2606), for a link that is none."""
        return f"{new_id()}@nobody.invalid"

    def _there(self) -> "Ldap":
        if self._ldap is None:
            raise NotFound("no directory is set up")
        return self._ldap


def may_be(organiser: Organiser, roles: frozenset[str]) -> bool:
    """Whether groups make somebody what they are here."""
    return organiser.role.value in roles
