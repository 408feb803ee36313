"""Who counts as verified, for what: the one place where a proof that a factor has checked becomes a verification."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from sluss.domain.assurance import ADDED, PREFERENCE, Method, Purpose, worth
from sluss.domain.audit import NOBODY, Action, Outcome
from sluss.domain.authenticators import Authenticator
from sluss.domain.errors import NotVerified, SlussError, Told, TooManyTries
from sluss.domain.limits import TRIES_ADDRESS, TRIES_ALL, TRIES_BROWSER, TRIES_LINK, TRIES_LINK_ADDRESS
from sluss.domain.meetings import Invitation, InvitationState, Meeting
from sluss.domain.passkeys import Passkey
from sluss.domain.policy import SensitivityClass
from sluss.services import audit, limits
from sluss.services.common import Ground, new_id
from sluss.store.database import Transaction
from sluss.store.proof import Verification

DECOYS = 4
"""Of the links that are none, one in so many looks as if its person had a passkey, and one as if an authenticator."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants to prove: that they are whom a link is for, to this browser, for a purpose, by a method."""

    link_hash: str
    session_hash: str
    purpose: Purpose
    method: Method
    address: str
    at: datetime
    noted: Mapping[str, str] = field(default_factory=dict)
    """What else the audit entry says: words of ours."""
    proved_at: datetime | None = None
    """When it was proved, if that was before: from then on it ages."""


class Verifications:
    """What all methods share: which are offered, and what becomes of a proof."""

    def __init__(self, ground: Ground) -> None:
        self._g = ground

    def asked(  # noqa: PLR0917
        self,
        link: str,
        session: str,
        purpose: Purpose,
        method: Method,
        address: str,
        proved_at: datetime | None = None,
        **noted: str,
    ) -> Asked:
        """As the pages know it, now."""
        link_hash, session_hash = self._g.link_hash(link), self._g.session_hash(session)
        return Asked(link_hash, session_hash, purpose, method, address, self._g.clock(), noted, proved_at)

    def rules(self, tx: Transaction, link_hash: str) -> SensitivityClass | None:
        """The class of the meeting behind a link; of a link that is none one of the classes, always the same."""
        invitation = tx.invitations.by_link(link_hash)
        meeting = tx.meetings.get(invitation.meeting_id if invitation else "")
        return self._g.policy.of(meeting.sensitivity) if meeting else self._likely(link_hash)

    def offered(self, tx: Transaction, link_hash: str, purpose: Purpose) -> tuple[Method, ...]:
        """The methods that open this link for the purpose and that there are here, the best first.

        A link that is none is offered what one of the classes would be, always the same. A passkey or authenticator
        is offered to who has one that counts, and by some links that are none.
        """
        invitation = tx.invitations.by_link(link_hash)
        seen = tx.verifications.seen_by(invitation.id if invitation else "")
        rules = self.rules(tx, link_hash)
        ways = [m for m in self._g.methods if rules is not None and rules.requirement(purpose).accepts(m)]
        ways = [m for m in ways if m not in ADDED or self._has(tx, m, invitation, link_hash, rules)]
        if purpose is Purpose.JOIN and seen is not None:
            ways = [m for m in ways if worth(m).identity is worth(seen.method).identity]
        return tuple(sorted(ways, key=PREFERENCE.index))

    async def verify(
        self, asked: Asked, prove: Callable[[Transaction, Invitation | None], str | SlussError]
    ) -> Verification:
        """Keep the verification that `prove` leads to. Raises `NotVerified` for every reason, `TooManyTries`.

        `prove` is given the live invitation, or None for every other link, and says by what its person is known (the
        subject), or why it is not they. Both ways are audited; the organiser is told of what is `Told`.
        """
        origin = self._g.origin(asked.address)

        def work(tx: Transaction) -> Verification | SlussError:
            done = self._complete(tx, asked, prove)
            whose = audit.invitation(tx.invitations.id_of(asked.link_hash))
            refused = done if isinstance(done, SlussError) else None
            told = refused.told if isinstance(refused, NotVerified) else None
            if told is not None and not tx.invitations.note_refused(asked.link_hash, told, asked.at):
                told = None  # of a link that is no more nobody is told
            self._g.audit.record(
                tx,
                asked.at,
                Action.VERIFIED,
                _outcome(refused),
                actor=NOBODY if refused else whose,
                subject=whose,
                assurance="" if refused else worth(asked.method).acr,
                purpose=asked.purpose,
                method=asked.method,
                origin=origin,
                reason=str(refused or ""),
                **({"told": told} if told else {}),
                **asked.noted,
            )
            return done

        said = {"purpose": asked.purpose.value, "method": asked.method.value, "origin": origin}
        try:
            verification = await self._g.store.run(work)
        except (NotVerified, TooManyTries) as error:
            _log.info("not_verified", reason=str(error), **said)
            raise
        _log.info("verified", verification=verification.id, **said)
        return verification

    def _complete(
        self, tx: Transaction, asked: Asked, prove: Callable[[Transaction, Invitation | None], str | SlussError]
    ) -> Verification | SlussError:
        invitation, meeting = live(tx, asked.link_hash)
        subject = prove(tx, invitation)
        if isinstance(subject, SlussError):
            return subject
        if invitation is None or meeting is None:
            return NotVerified("nobody to verify")
        verification = Verification(new_id(), invitation.id, asked.method, subject, asked.proved_at or asked.at)
        rules = self._g.policy.of(meeting.sensitivity)
        return accept(tx, verification, asked.session_hash, asked.purpose, rules) or verification

    def tries(
        self, link_hash: str, session_hash: str, address: str, *, known: bool
    ) -> tuple[list[limits.Use], list[limits.Use]]:
        """What a wrong code uses: of this link alone, and together with all others. `known`: see `_asks`."""
        if known:
            return [limits.Use(TRIES_BROWSER, self._g.limit_key(link_hash, session_hash), link_hash)], []
        return [
            limits.Use(TRIES_LINK, link_hash, link_hash),
            limits.Use(TRIES_LINK_ADDRESS, self._g.limit_key(link_hash, address=address), link_hash),
        ], [limits.Use(TRIES_ADDRESS, self._g.limit_key(address=address)), limits.Use(TRIES_ALL, "")]

    def _has(
        self,
        tx: Transaction,
        method: Method,
        invitation: Invitation | None,
        link_hash: str,
        rules: SensitivityClass | None,
    ) -> bool:
        """Whether the person has added one that counts; of a link that is none, whether it looks so."""
        owner = self._g.passkey_owner_hash(invitation.email, invitation.mobile) if invitation else link_hash
        own: list[Passkey] | list[Authenticator]  # asked either way: it takes time
        if method is Method.PASSKEY:
            own = [
                one
                for one in tx.passkeys.of(owner)
                if one.locked_at is None and rules and rules.accepts_model(one.model)
            ]
        else:
            own = [one] if (one := tx.authenticators.of(owner)) else []
        if invitation is None:
            return int(self._g.hasher.digest(f"likely {method}", link_hash), 16) % DECOYS == 0
        return rules is not None and any(
            rules.accepts_added(one.enrolled_by) and fits(tx, one, invitation) for one in own
        )

    def _likely(self, link_hash: str) -> SensitivityClass | None:
        classes = self._g.policy.open_classes(self._g.methods)
        place = int(self._g.hasher.digest("likely class", link_hash), 16)
        return classes[place % len(classes)] if classes else None


def expected_by_bankid(tx: Transaction, invitation: Invitation) -> str:
    """The subject of whom BankID must prove: by the number that the organiser gave, or who was the first to see it."""
    first = tx.verifications.first_seen_by(invitation.id, Method.BANKID)
    return invitation.person_hash or (first.subject if first else "")


def fits(tx: Transaction, added: Passkey | Authenticator, invitation: Invitation) -> bool:
    """Whether what was added after BankID is that of the person whom BankID must prove here."""
    if added.enrolled_by is not Method.BANKID:
        return True
    return expected_by_bankid(tx, invitation) in {"", added.enrolled_as}


def used(tx: Transaction, verification: Verification) -> Passkey | Authenticator | None:
    """What a participant was verified by that they had added before; None if it was none, or is gone."""
    if verification.method is Method.PASSKEY:
        return tx.passkeys.get(verification.subject)
    return tx.authenticators.get(verification.subject) if verification.method is Method.TOTP else None


def live(tx: Transaction, link_hash: str) -> tuple[Invitation | None, Meeting | None]:
    """The live invitation behind a link with its meeting; (None, None) for every other link."""
    invitation = tx.invitations.by_link(link_hash)
    meeting = tx.meetings.get(invitation.meeting_id if invitation else "")  # asked either way: it takes time
    if invitation is None or meeting is None or invitation.state is not InvitationState.LIVE:
        return None, None
    return invitation, meeting


def accept(
    tx: Transaction, verification: Verification, session_hash: str, purpose: Purpose, rules: SensitivityClass
) -> NotVerified | None:
    """Keep a participant's verification for this browser, or say why it does not count.

    The class must accept its method for the purpose, and who joins is who saw the invitation (invariant 2).
    """
    if not counts(tx, verification, purpose, rules):
        return NotVerified("method not accepted for this class", told=Told.TOO_WEAK)
    seen = tx.verifications.seen_by(verification.invitation_id)
    if purpose is Purpose.JOIN and (seen is None or seen.subject != verification.subject):
        told = Told.OTHER_PERSON if seen is not None else None
        return NotVerified("not the person who saw the invitation", told=told)
    tx.verifications.add(verification, session_hash, purpose)
    return None


def counts(tx: Transaction, verification: Verification, purpose: Purpose, rules: SensitivityClass) -> bool:
    """Whether the class accepts how a participant was verified: the method, and how what they added came to be."""
    if not rules.requirement(purpose).accepts(verification.method):
        return False
    if verification.method not in ADDED:
        return True
    added = used(tx, verification)
    if isinstance(added, Passkey) and (added.locked_at is not None or not rules.accepts_model(added.model)):
        return False
    return added is not None and rules.accepts_added(added.enrolled_by)


def _outcome(refused: SlussError | None) -> Outcome:
    if isinstance(refused, TooManyTries):
        return Outcome.LOCKED
    return Outcome.REFUSED if refused else Outcome.DONE
