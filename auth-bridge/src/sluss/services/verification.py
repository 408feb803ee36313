"""Who counts as verified, for what: the one place where a proof that a factor has checked becomes a verification."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from sluss.domain.assurance import PREFERENCE, Method, Purpose, worth
from sluss.domain.audit import NOBODY, Action, Outcome
from sluss.domain.errors import NotVerified, SlussError, TooManyTries
from sluss.domain.meetings import Invitation, InvitationState, Meeting
from sluss.domain.policy import SensitivityClass
from sluss.services import audit
from sluss.services.common import Ground, new_id
from sluss.store.database import Transaction
from sluss.store.proof import Verification

DECOYS = 4
"""Of the links that are none, one in so many looks as if its person had a passkey."""

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
    told: Mapping[str, str] = field(default_factory=dict)
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
        **told: str,
    ) -> Asked:
        """As the pages know it, now."""
        link_hash, session_hash = self._g.link_hash(link), self._g.session_hash(session)
        return Asked(link_hash, session_hash, purpose, method, address, self._g.clock(), told, proved_at)

    def rules(self, tx: Transaction, link_hash: str) -> SensitivityClass | None:
        """The class of the meeting behind a link; of a link that is none one of the classes, always the same."""
        invitation = tx.invitations.by_link(link_hash)
        meeting = tx.meetings.get(invitation.meeting_id if invitation else "")
        return self._g.policy.of(meeting.sensitivity) if meeting else self._likely(link_hash)

    def offered(self, tx: Transaction, link_hash: str, purpose: Purpose) -> tuple[Method, ...]:
        """The methods that open this link for the purpose and that there are here, the best first.

        A link that is none is offered what one of the classes would be, always the same. A passkey is offered to
        who has one that counts, and by some links that are none.
        """
        invitation = tx.invitations.by_link(link_hash)
        seen = tx.verifications.seen_by(invitation.id if invitation else "")
        rules = self.rules(tx, link_hash)
        ways = [m for m in self._g.methods if rules is not None and rules.requirement(purpose).accepts(m)]
        if Method.PASSKEY in ways and not self._has_passkey(tx, invitation, link_hash, rules):
            ways.remove(Method.PASSKEY)
        if purpose is Purpose.JOIN and seen is not None:
            ways = [m for m in ways if worth(m).identity is worth(seen.method).identity]
        return tuple(sorted(ways, key=PREFERENCE.index))

    async def verify(
        self, asked: Asked, prove: Callable[[Transaction, Invitation | None], str | SlussError]
    ) -> Verification:
        """Keep the verification that `prove` leads to. Raises `NotVerified` for every reason, `TooManyTries`.

        `prove` is given the live invitation, or None for every other link, and says by what its person is known (the
        subject), or why it is not they. Both ways are audited; of somebody else's proof the organiser is told.
        """
        origin = self._g.origin(asked.address)

        def work(tx: Transaction) -> Verification | SlussError:
            done = self._complete(tx, asked, prove)
            whose = audit.invitation(tx.invitations.id_of(asked.link_hash))
            refused = done if isinstance(done, SlussError) else None
            if isinstance(refused, NotVerified) and refused.other_person:
                tx.invitations.note_other_person(asked.link_hash, asked.at)
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
                **asked.told,
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

    def _has_passkey(
        self, tx: Transaction, invitation: Invitation | None, link_hash: str, rules: SensitivityClass | None
    ) -> bool:
        owner = self._g.named_hash(invitation.email, invitation.mobile) if invitation else link_hash
        own = tx.passkeys.of(owner)  # asked either way: it takes time
        if invitation is None:
            return int(self._g.hasher.digest("likely passkey", link_hash), 16) % DECOYS == 0
        return rules is not None and any(p.locked_at is None and rules.accepts_passkey(p.enrolled_by) for p in own)

    def _likely(self, link_hash: str) -> SensitivityClass | None:
        classes = self._g.policy.open_classes(self._g.methods)
        place = int(self._g.hasher.digest("likely class", link_hash), 16)
        return classes[place % len(classes)] if classes else None


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
        return NotVerified("method not accepted for this class")
    seen = tx.verifications.seen_by(verification.invitation_id)
    if purpose is Purpose.JOIN and (seen is None or seen.subject != verification.subject):
        return NotVerified("not the person who saw the invitation", other_person=seen is not None)
    tx.verifications.add(verification, session_hash, purpose)
    return None


def counts(tx: Transaction, verification: Verification, purpose: Purpose, rules: SensitivityClass) -> bool:
    """Whether the class accepts how a participant was verified: the method, and of a passkey also how it came to be."""
    if not rules.requirement(purpose).accepts(verification.method):
        return False
    if verification.method is not Method.PASSKEY:
        return True
    passkey = tx.passkeys.get(verification.subject)
    return passkey is not None and passkey.locked_at is None and rules.accepts_passkey(passkey.enrolled_by)


def _outcome(refused: SlussError | None) -> Outcome:
    if isinstance(refused, TooManyTries):
        return Outcome.LOCKED
    return Outcome.REFUSED if refused else Outcome.DONE
