"""Methods of verification and what each is worth."""

from enum import StrEnum


class Purpose(StrEnum):
    """What a verification opens: the invitation, or the meeting."""

    VIEW = "view"
    JOIN = "join"


class Method(StrEnum):
    """A way of proving two factors. The value is what the audit trail and the gate carry."""

    SMS = "sms"
    """Personal link and a code sent to the invited person's phone."""
    TOTP = "totp"
    """Password and a code from an authenticator (organisers)."""


class AssuranceLevel(StrEnum):
    """NIST SP 800-63B authenticator assurance levels, as `acr` values."""

    AAL1 = "urn:sluss:acr:aal1"
    AAL2 = "urn:sluss:acr:aal2"
    AAL3 = "urn:sluss:acr:aal3"


AMR: dict[Method, tuple[str, ...]] = {
    Method.SMS: ("sms", "mfa"),
    Method.TOTP: ("pwd", "otp", "mfa"),
}
"""RFC 8176 authentication method references of each method."""

ASSURANCE: dict[Method, AssuranceLevel] = {
    # A mailed link is no authenticator in SP 800-63B, and SMS is a restricted one: together they are two
    # things a stranger must have, but no more than AAL1.
    Method.SMS: AssuranceLevel.AAL1,
    Method.TOTP: AssuranceLevel.AAL2,
}
