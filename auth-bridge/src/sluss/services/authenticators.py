"""Authenticators of people who were invited: adding one, and proving who one is by its codes.

There are no recovery codes: whoever has lost the phone verifies in another way, as before, and adds a new one.
"""

from dataclasses import dataclass

from sluss.domain.assurance import Method, Purpose
from sluss.domain.audit import Action
from sluss.domain.authenticators import Authenticator
from sluss.domain.errors import NotVerified, SlussError, Told
from sluss.domain.limits import TOTP_PERSON, TOTP_PERSON_BROWSER
from sluss.domain.meetings import Invitation
from sluss.factors import totp
from sluss.services import audit, limits
from sluss.services.common import Ground, new_id
from sluss.services.participation import Owner, Participation
from sluss.services.verification import Verifications, fits
from sluss.store.database import Transaction

_NOBODYS = "A" * 32
"""What a code is checked against where there is no authenticator: it takes time."""


@dataclass(frozen=True, slots=True)
class Offered:
    """What the page shows that adds an authenticator."""

    secret: str
    otpauth_uri: str


class Authenticators:
    """The verbs of whoever has an authenticator, or is about to."""

    def __init__(self, ground: Ground, participation: Participation, verifications: Verifications) -> None:
        self._g = ground
        self._participation = participation
        self._verifications = verifications

    async def verify(self, link: str, session: str, purpose: Purpose, code: str, address: str) -> None:
        """Complete a participant's verification. Raises `NotVerified` for every reason, `TooManyTries`."""
        asked = self._verifications.asked(link, session, purpose, Method.TOTP, address)

        def prove(tx: Transaction, invitation: Invitation | None) -> str | SlussError:
            known = tx.verifications.any_of(asked.link_hash, asked.session_hash)
            uses, _ = self._verifications.tries(asked.link_hash, asked.session_hash, address, known=known)
            owner, unlocked_by = asked.link_hash, asked.link_hash
            if invitation is not None:
                owner, unlocked_by = self._person(invitation), self._g.phone_hash(invitation.mobile)
            person = [limits.Use(TOTP_PERSON_BROWSER if known else TOTP_PERSON, owner, unlocked_by)]
            if refusal := limits.refusal(tx, [*uses, *person] if known else uses, asked.at):
                return refusal
            # Used up by another link: that is not said, for a link that is none has no person.
            used_up = limits.refusal(tx, person, asked.at)
            own = tx.authenticators.of(owner)
            found = totp.match(own.secret if own else _NOBODYS, code, asked.at, own.drift if own else 0)
            if used_up:
                found = None
            right = own and found and tx.authenticators.use_step(own.id, found.step, found.drift, asked.at)
            if own is None or invitation is None or not right:
                limits.take(tx, uses if used_up else [*uses, *person], asked.at)
                return NotVerified(f"wrong or used authenticator code{', or too many' if used_up else ''}")
            if not fits(tx, own, invitation):
                return NotVerified("authenticator: of another person", told=Told.OTHER_PERSON)
            return own.id

        await self._verifications.verify(asked, prove)

    async def offered(self, link: str, session: str) -> Offered:
        """A new authenticator, to who proved just before who they are. Raises `NotVerified`."""
        now = self._g.clock()

        def work(tx: Transaction) -> Offered | SlussError:
            owner = self._participation.adding(tx, link, session, Method.TOTP, now)
            if isinstance(owner, SlussError):
                return owner
            secret = self._secret(tx, owner)
            return Offered(secret, totp.enrolment_uri(secret, owner.name, f"Sluss {self._g.site.organisation}"))

        return await self._g.store.run(work)

    async def add(self, link: str, session: str, code: str) -> None:
        """Keep it, confirmed by a first code, for this person's later invitations too. Raises `NotVerified`."""
        now = self._g.clock()

        def work(tx: Transaction) -> SlussError | None:
            owner = self._participation.adding(tx, link, session, Method.TOTP, now)
            if isinstance(owner, SlussError):
                return owner
            secret = self._secret(tx, owner)
            if (first := totp.match(secret, code, now)) is None:
                return NotVerified("wrong first code of an authenticator")
            one = Authenticator(new_id(), owner.id, secret, owner.by, owner.known_as, now, first.step, first.drift)
            tx.authenticators.put(one, now)
            self._g.audit.record(
                tx, now, Action.AUTHENTICATOR_ADDED, actor=owner.who, subject=_subject(one), method=owner.by
            )
            return None

        await self._g.store.run(work)

    async def forget(self, link: str, session: str) -> None:
        """Remove this person's. Raises `NotVerified`."""
        now = self._g.clock()

        def work(tx: Transaction) -> SlussError | None:
            found = self._participation.verified(tx, link, session, now)
            if found is None:
                return NotVerified("not verified to see this")
            if one := tx.authenticators.of(self._person(found[0])):
                tx.authenticators.remove(one.owner)
                who = audit.invitation(found[0].id)
                self._g.audit.record(tx, now, Action.AUTHENTICATOR_REMOVED, actor=who, subject=_subject(one))
            return None

        await self._g.store.run(work)

    def _secret(self, tx: Transaction, owner: Owner) -> str:
        """The secret that is offered after a verification: it is stored nowhere until it is confirmed.

        A keyed hash, so that the page can be looked at twice, and never shows a secret that is in use.
        """
        in_use = tx.authenticators.of(owner.id)
        place = owner.verification, in_use.id if in_use else ""
        return totp.secret_of(self._g.hasher.digest("new authenticator", *place))

    def _person(self, invitation: Invitation) -> str:
        return self._g.passkey_owner_hash(invitation.email, invitation.mobile)


def _subject(one: Authenticator) -> str:
    return f"authenticator:{one.id}"
