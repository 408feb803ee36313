"""Passkeys: adding one, proving who one is by one, and locking one of which there is a copy."""

import functools
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog

from sluss.delivery.texts import Notice
from sluss.domain import drafts
from sluss.domain.assurance import Method, Purpose
from sluss.domain.audit import NOBODY, Action, Outcome
from sluss.domain.errors import InvalidInput, ModelRefused, NotFound, NotVerified, SlussError, Told
from sluss.domain.freshness import is_fresh
from sluss.domain.limits import PASSKEY_ADDRESS
from sluss.domain.meetings import Invitation, Organiser
from sluss.domain.passkeys import Passkey
from sluss.services import audit, limits, notices
from sluss.services.common import Ground, new_id, new_link
from sluss.services.organisers import Organisers, SignedIn
from sluss.services.participation import Owner, Participation
from sluss.services.tickets import Tickets
from sluss.services.verification import Verifications, fits
from sluss.store.access import OrganiserRecord
from sluss.store.database import Transaction

if TYPE_CHECKING:
    from sluss.factors.passkey import Ceremonies

LIFETIME = timedelta(minutes=5)
"""A challenge is to be answered within this."""
UNUSED = timedelta(days=400)
"""So long an invited person's passkey is kept without being used: many are invited once a year."""
MOST = 10
"""So many passkeys one person may have."""

Key = tuple[str, str, Purpose]
"""What a challenge is bound to: a keyed hash of what for (with the link or meeting), browser, purpose."""
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Account:
    """An organiser's passkeys, and whether a factor was proved just before, without which they cannot be changed."""

    passkeys: tuple[Passkey, ...]
    proved: bool
    enrolled: bool
    """Whether they have a password and an authenticator here: without, they come by the provider alone."""


class Passkeys:
    """The verbs of whoever has a passkey, or is about to."""

    def __init__(
        self,
        ground: Ground,
        organisers: Organisers,
        tickets: Tickets,
        participation: Participation,
        verifications: Verifications,
    ) -> None:
        self._g = ground
        self._organisers = organisers
        self._tickets = tickets
        self._participation = participation
        self._verifications = verifications

    async def begin(self, link: str, session: str, purpose: Purpose, address: str) -> dict[str, Any]:
        """What a browser is to sign for a link, whether there is one or not. Raises `TooManyTries`."""
        return await self._request(self._key(session, "link", self._g.link_hash(link), purpose=purpose), address)

    async def verify(self, link: str, session: str, purpose: Purpose, response: str, address: str) -> None:
        """Complete a participant's verification. Raises `NotVerified` for every reason."""
        asked = self._verifications.asked(link, session, purpose, Method.PASSKEY, address)
        key = self._key(session, "link", asked.link_hash, purpose=purpose)

        def prove(tx: Transaction, invitation: Invitation | None) -> str | SlussError:
            passkey = self._proved(tx, key, response, asked.at)
            if isinstance(passkey, SlussError):
                return passkey
            theirs = invitation is not None and passkey.owner == self._person(invitation)
            if invitation is None or not theirs or not fits(tx, passkey, invitation):
                return NotVerified("passkey: of another person", told=Told.OTHER_PERSON)
            return passkey.id

        await self._verifications.verify(asked, prove)

    async def begin_adding(self, link: str, session: str) -> dict[str, Any]:
        """What a participant's browser is to make. Raises `NotVerified` unless they proved who they are just before."""
        now, key = self._g.clock(), self._key(session, "add", self._g.link_hash(link))

        def work(tx: Transaction) -> dict[str, Any] | SlussError:
            owner = self._participant(tx, link, session, now)
            return owner if isinstance(owner, SlussError) else self._creation(tx, key, owner, now)

        return await self._g.store.run(work)

    async def add(self, link: str, session: str, response: str) -> None:
        """Keep it, for this person's later invitations too. Raises `NotVerified`, `InvalidInput`."""
        now, key = self._g.clock(), self._key(session, "add", self._g.link_hash(link))

        def work(tx: Transaction) -> SlussError | None:
            owner = self._participant(tx, link, session, now)
            return owner if isinstance(owner, SlussError) else self._add(tx, key, owner, response, now)

        await self._g.store.run(work)

    async def forget(self, link: str, session: str) -> None:
        """Remove all of this person's passkeys. Raises `NotVerified`."""
        now = self._g.clock()

        def work(tx: Transaction) -> SlussError | None:
            found = self._participation.verified(tx, link, session, now)
            if found is None:
                return NotVerified("not verified to see this")
            who = audit.invitation(found[0].id)
            for passkey in tx.passkeys.of(self._person(found[0])):
                self._remove(tx, passkey, who, now)
            return None

        await self._g.store.run(work)

    async def begin_sign_in(self, session: str, address: str) -> dict[str, Any]:
        """What a browser is to sign so that an organiser is signed in. Raises `TooManyTries`."""
        return await self._request(self._key(session, "sign-in"), address)

    async def sign_in(self, session: str, response: str, address: str) -> SignedIn:
        """Both factors at once. Raises `NotVerified`."""
        now, key, new = self._g.clock(), self._key(session, "sign-in"), new_link()

        def work(tx: Transaction) -> OrganiserRecord | SlussError:
            passkey = self._proved(tx, key, response, now)
            record = None if isinstance(passkey, SlussError) else tx.organisers.find(passkey.owner)
            if record is None:
                refusal = passkey if isinstance(passkey, SlussError) else NotVerified("passkey: of no organiser")
                return self._organisers.not_signed_in(tx, now, refusal, None, address, factor="passkey")
            if record.password is None and record.entry is None:
                refusal = NotVerified("passkey: handed over to the directory, which did not vouch for them yet")
                return self._organisers.not_signed_in(tx, now, refusal, record, address, factor="passkey")
            if record.entry is None:
                self._organisers.begin_session(tx, record, key[1], new, now, Method.PASSKEY, address)
            return record

        record = await self._g.store.run(work)
        if record.entry is not None:
            await self._organisers.sign_in_confirmed(record, key[1], new, Method.PASSKEY, address)
        return self._organisers.signed_in_as(record, new)

    async def account(self, session: str) -> Account:
        """The passkeys of who is signed in. Raises `SignInRequired`."""
        now = self._g.clock()

        def work(tx: Transaction) -> Account | SlussError:
            record = self._organisers.signed_in(tx, session, now)
            if isinstance(record, SlussError):
                return record
            own = tuple(tx.passkeys.of(record.organiser.id))
            return Account(own, self._organisers.proved_lately(tx, session, now), record.enrolled_at is not None)

        return await self._g.store.run(work)

    async def of(self, organiser: Organiser) -> list[Passkey]:
        """An organiser's passkeys."""
        return await self._g.store.run(lambda tx: tx.passkeys.of(organiser.id))

    async def begin_own(self, session: str, address: str, meeting_id: str = "") -> dict[str, Any]:
        """What the browser of who is signed in is to sign: for their account, or at a meeting's door."""
        return await self._request(self._key(session, "own", meeting_id), address)

    async def prove_again(self, session: str, response: str, address: str) -> None:
        """A passkey of who is signed in, for what needs a factor once more. Raises `NotVerified`, `SignInRequired`."""
        now = self._g.clock()

        def work(tx: Transaction) -> SlussError | None:
            record = self._organisers.signed_in(tx, session, now)
            if isinstance(record, SlussError):
                return record
            passkey = self._own(tx, self._key(session, "own", ""), response, record, now)
            refusal = passkey if isinstance(passkey, SlussError) else None
            self._organisers.proved_again(tx, record, session, now, refusal, Method.PASSKEY, address)
            return refusal

        await self._g.store.run(work)

    async def verify_organiser(self, session: str, meeting_id: str, response: str, address: str) -> None:
        """A fresh passkey at the meeting's door: see `Tickets.verify_organiser`. Raises the same."""

        def prove(tx: Transaction, record: OrganiserRecord, now: datetime) -> str | SlussError:
            passkey = self._own(tx, self._key(session, "own", meeting_id), response, record, now)
            return passkey if isinstance(passkey, SlussError) else passkey.id

        await self._tickets.organiser_proves(session, meeting_id, Method.PASSKEY, address, prove)

    async def begin_adding_own(self, session: str) -> dict[str, Any]:
        """What an organiser's browser is to make. Raises `SignInRequired`, `NotVerified` without a fresh factor."""
        now = self._g.clock()

        def work(tx: Transaction) -> dict[str, Any] | SlussError:
            owner = self._organiser(tx, session, now)
            return owner if isinstance(owner, SlussError) else self._creation(tx, self._key(session, "add"), owner, now)

        return await self._g.store.run(work)

    async def add_own(self, session: str, response: str, name: str = "") -> None:
        """Keep it. Raises the same, and `InvalidInput`."""
        now, name = self._g.clock(), drafts.name(name) if name else ""

        def work(tx: Transaction) -> SlussError | None:
            owner = self._organiser(tx, session, now)
            return (
                owner
                if isinstance(owner, SlussError)
                else self._add(tx, self._key(session, "add"), owner, response, now, name)
            )

        await self._g.store.run(work)
        self._g.wake_outbox()

    async def remove_own(self, session: str, passkey_id: str) -> None:
        """Remove one of one's own. Raises `SignInRequired`, `NotVerified` without a fresh factor, `NotFound`."""
        now = self._g.clock()

        def work(tx: Transaction) -> SlussError | None:
            owner = self._organiser(tx, session, now)
            if isinstance(owner, SlussError):
                return owner
            passkey = tx.passkeys.get(passkey_id)
            if passkey is None or passkey.owner != owner.id:
                return NotFound("no such passkey of this organiser")
            self._remove(tx, passkey, owner.who, now)
            notices.tell(self._g, tx, owner.email, Notice.PASSKEY_REMOVED, now)
            return None

        await self._g.store.run(work)
        self._g.wake_outbox()

    async def _request(self, key: Key, address: str) -> dict[str, Any]:
        now = self._g.clock()

        def work(tx: Transaction) -> dict[str, Any] | SlussError:
            use = limits.Use(PASSKEY_ADDRESS, self._g.limit_key(address=address))
            return limits.spend(tx, [use], now) or self._ceremonies.request(self._challenge(tx, key, now))

        return await self._g.store.run(work)

    def _creation(self, tx: Transaction, key: Key, owner: Owner, now: datetime) -> dict[str, Any]:
        user = bytes.fromhex(self._g.hasher.digest("passkey user", owner.id))
        known = [one.credential for one in tx.passkeys.of(owner.id)]
        return self._ceremonies.creation(self._challenge(tx, key, now), user, owner.name, known)

    def _add(  # noqa: PLR0917
        self, tx: Transaction, key: Key, owner: Owner, response: str, now: datetime, name: str = ""
    ) -> SlussError | None:
        challenge = self._answered(tx, key, now)
        if isinstance(challenge, SlussError):
            return challenge
        if len(tx.passkeys.of(owner.id)) >= MOST:
            return InvalidInput("passkey", "There are ten passkeys already. Remove one first.")
        try:
            made = self._ceremonies.made(challenge, response)
        except NotVerified as refused:
            return refused
        if owner.models is not None and made.model not in owner.models:
            return ModelRefused("passkey: of no model that this class accepts, or not attested")
        new = Passkey(
            self._id(made.credential_id),
            owner.id,
            made.credential,
            made.sign_count,
            owner.by,
            owner.known_as,
            now,
            model=made.model,
            name=name,
        )
        if not tx.passkeys.add(new):
            return NotVerified("passkey: known already")
        self._g.audit.record(tx, now, Action.PASSKEY_ADDED, actor=owner.who, subject=_subject(new), method=owner.by)
        if owner.email:
            notices.tell(self._g, tx, owner.email, Notice.PASSKEY_ADDED, now)
        return None

    def _remove(self, tx: Transaction, passkey: Passkey, who: str, now: datetime) -> None:
        tx.passkeys.remove(passkey.id)
        self._g.audit.record(tx, now, Action.PASSKEY_REMOVED, actor=who, subject=_subject(passkey))

    def _own(
        self, tx: Transaction, key: Key, response: str, record: OrganiserRecord, now: datetime
    ) -> Passkey | SlussError:
        passkey = self._proved(tx, key, response, now)
        if isinstance(passkey, Passkey) and passkey.owner != record.organiser.id:
            return NotVerified("passkey: of another person")
        return passkey

    def _proved(self, tx: Transaction, key: Key, response: str, now: datetime) -> Passkey | SlussError:
        """The passkey that answered the challenge, or the refusal. Either way the challenge is used up."""
        challenge = self._answered(tx, key, now)
        if isinstance(challenge, SlussError):
            return challenge
        try:
            passkey = tx.passkeys.get(self._id(self._ceremonies.credential_id(response)))
            if passkey is None:
                return NotVerified("passkey: not known")
            sign_count = self._ceremonies.proved(challenge, response, passkey.credential)
        except NotVerified as refused:
            return refused
        if passkey.locked_at is not None:
            return NotVerified("passkey: locked")
        if passkey.is_copy(sign_count):
            tx.passkeys.lock(passkey.id, now)
            self._g.audit.record(
                tx, now, Action.PASSKEY_LOCKED, Outcome.LOCKED, actor=NOBODY, subject=_subject(passkey)
            )
            _log.warning("passkey_locked", passkey=passkey.id)
            return NotVerified("passkey: its sign count went back")
        tx.passkeys.use(passkey.id, sign_count, now)
        return passkey

    def _challenge(self, tx: Transaction, key: Key, now: datetime) -> bytes:
        """A new one, in place of what this browser had for the same: a keyed hash of what nobody can know."""
        challenge = self._g.hasher.digest("passkey challenge", *key, new_id())
        tx.challenges.put(key, challenge, "", now)
        return bytes.fromhex(challenge)

    def _answered(self, tx: Transaction, key: Key, now: datetime) -> bytes | SlussError:
        """The challenge that is being answered. It is used up."""
        found = tx.challenges.get(key)
        tx.challenges.remove(key)
        if found is None or not is_fresh(found.created_at, now, LIFETIME):
            return NotVerified("passkey: nothing to sign, or too old")
        return bytes.fromhex(found.code_hash)

    def _participant(self, tx: Transaction, link: str, session: str, now: datetime) -> Owner | SlussError:
        return self._participation.adding(tx, link, session, Method.PASSKEY, now)

    def _organiser(self, tx: Transaction, session: str, now: datetime) -> Owner | SlussError:
        record = self._organisers.proved(tx, session, now)
        if isinstance(record, SlussError):
            return record
        if not record.enrolled_at:
            return NotVerified("a passkey would outlive the account at the provider, which is all that they have")
        who = record.organiser
        return Owner(who.id, who.email, Method.TOTP, "", audit.organiser(who.id), email=who.email)

    def _person(self, invitation: Invitation) -> str:
        return self._g.passkey_owner_hash(invitation.email, invitation.mobile)

    def _key(self, session: str, *use: str, purpose: Purpose = Purpose.JOIN) -> Key:
        return self._g.hasher.digest("passkey use", *use), self._g.session_hash(session), purpose

    def _id(self, credential_id: str) -> str:
        return self._g.hasher.digest("passkey", credential_id)

    @functools.cached_property
    def _ceremonies(self) -> "Ceremonies":
        # Imported here: the library takes 4 MB, and there may be nobody with a passkey.
        from sluss.factors.passkey import Ceremonies  # noqa: PLC0415

        site = self._g.site
        makers = {maker for one in self._g.policy.classes.values() for maker in one.passkey_makers}
        return Ceremonies(site.portal_host, site.portal, site.organisation, LIFETIME, makers)


def _subject(passkey: Passkey) -> str:
    return f"passkey:{passkey.id}"
