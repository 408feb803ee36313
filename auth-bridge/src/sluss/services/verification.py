"""Who counts as verified, for what: the one place where a proof that a factor has checked becomes a verification."""

from sluss.domain.assurance import Purpose
from sluss.domain.errors import NotVerified
from sluss.domain.policy import SensitivityClass
from sluss.store.database import Transaction
from sluss.store.proof import Verification


def accept(
    tx: Transaction, verification: Verification, session_hash: str, purpose: Purpose, rules: SensitivityClass
) -> NotVerified | None:
    """Keep a participant's verification for this browser, or say why it does not count.

    The class must accept its method for the purpose, and who joins is who saw the invitation (invariant 2).
    """
    if not rules.requirement(purpose).accepts(verification.method):
        return NotVerified("method not accepted for this class")
    seen = tx.verifications.seen_by(verification.invitation_id)
    if purpose is Purpose.JOIN and (seen is None or seen.subject != verification.subject):
        return NotVerified("not the person who saw the invitation")
    tx.verifications.add(verification, session_hash, purpose)
    return None
