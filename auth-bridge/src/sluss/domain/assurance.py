"""Methods of verification and what each is worth. docs/assurance.md says why."""

from dataclasses import dataclass
from enum import StrEnum

from sluss.domain.gate import Role


class Purpose(StrEnum):
    """What a verification opens: the invitation, or the meeting."""

    VIEW = "view"
    JOIN = "join"


class Method(StrEnum):
    """A way of proving two factors. The value is what policy, audit trail and gate carry."""

    SMS = "sms"
    """Personal link and a code sent to the invited person's phone."""
    TOTP = "totp"
    """Personal link and a code from an authenticator; of an organiser, password and such a code (RFC 6238)."""
    PASSKEY = "passkey"
    """A passkey that verified its user by PIN or biometrics (WebAuthn)."""
    BANKID = "bankid"
    """Swedish BankID."""
    SIGN_IN = "sign_in"
    """The organisation's own sign-in with a second factor of its own (OpenID Connect)."""
    SIGN_IN_HIGH = "sign_in_high"
    """The same at a high assurance level: what it says of itself is mapped to AAL3."""
    SMARTCARD = "smartcard"
    """A certificate on a card with a PIN, from one of the organisation's own CAs (TLS)."""
    LDAP = "ldap"
    """Personal link and the password in the organisation's directory (LDAP)."""


class AssuranceLevel(StrEnum):
    """NIST SP 800-63B authenticator assurance levels, as `acr` values."""

    AAL1 = "urn:sluss:acr:aal1"
    AAL2 = "urn:sluss:acr:aal2"
    AAL3 = "urn:sluss:acr:aal3"


class Risk(StrEnum):
    """What BankID thinks of an order, by the addresses and devices it saw; from the lowest."""

    LOW = "low"
    MODERATE = "moderate"
    HIGH = "high"


class Identity(StrEnum):
    """By what a method knows a person again. Who joins is who saw the invitation by the same one (invariant 2)."""

    PHONE = "phone"
    AUTHENTICATOR = "authenticator"
    PASSKEY = "passkey"
    BANKID = "bankid"
    ACCOUNT = "account"
    CARD = "card"
    ENTRY = "directory entry"


@dataclass(frozen=True, slots=True)
class Worth:
    """What a verification by one method is worth."""

    factors: tuple[str, ...]
    """What somebody else would have to have or know, each by itself."""
    identity: Identity
    acr: AssuranceLevel
    amr: tuple[str, ...]
    """RFC 8176 authentication method references."""
    trust: int
    """The Swedish tillitsnivå it can be compared with at most: 2, 3 or 4, which are eIDAS low, substantial and high.
    Examined and approved is BankID alone.
    """
    phishing_resistant: bool
    """Whether a false page that the person is led to learns nothing that it could use."""
    restricted: bool = False
    """Whether SP 800-63B calls the authenticator restricted."""


_PARTICIPANTS: dict[Method, Worth] = {
    # A mailed link is no authenticator in SP 800-63B, and SMS is a restricted one: together they are two things that
    # a stranger must have, but no more than AAL1.
    Method.SMS: Worth(
        ("link", "phone"),
        Identity.PHONE,
        AssuranceLevel.AAL1,
        ("sms", "mfa"),
        2,
        phishing_resistant=False,
        restricted=True,
    ),
    Method.TOTP: Worth(
        ("link", "authenticator"),
        Identity.AUTHENTICATOR,
        AssuranceLevel.AAL1,
        ("otp", "mfa"),
        2,
        phishing_resistant=False,
    ),
    # AAL2, not 3: most passkeys are copied between a person's devices.
    Method.PASSKEY: Worth(
        ("passkey", "PIN"), Identity.PASSKEY, AssuranceLevel.AAL2, ("pop", "user", "mfa"), 2, phishing_resistant=True
    ),
    Method.BANKID: Worth(
        ("BankID", "PIN"), Identity.BANKID, AssuranceLevel.AAL2, ("pop", "user", "mfa"), 3, phishing_resistant=False
    ),
    Method.SIGN_IN: Worth(
        ("password", "second factor"), Identity.ACCOUNT, AssuranceLevel.AAL2, ("mfa",), 2, phishing_resistant=False
    ),
    Method.SIGN_IN_HIGH: Worth(
        ("hardware key", "PIN"), Identity.ACCOUNT, AssuranceLevel.AAL3, ("hwk", "mfa"), 3, phishing_resistant=True
    ),
    Method.SMARTCARD: Worth(
        ("card", "PIN"), Identity.CARD, AssuranceLevel.AAL3, ("sc", "pin", "mfa"), 3, phishing_resistant=True
    ),
    # The link is in a mailbox that the same password often opens: no class lists this unless an administrator does.
    Method.LDAP: Worth(
        ("link", "password"), Identity.ENTRY, AssuranceLevel.AAL1, ("pwd", "mfa"), 2, phishing_resistant=False
    ),
}
_ORGANISERS: dict[Method, Worth] = {
    Method.TOTP: Worth(
        ("password", "authenticator"),
        Identity.AUTHENTICATOR,
        AssuranceLevel.AAL2,
        ("pwd", "otp", "mfa"),
        2,
        phishing_resistant=False,
    ),
}

SIGN_INS = frozenset({Method.SIGN_IN, Method.SIGN_IN_HIGH})
"""Both are the organisation's own sign-in."""
ORGANISERS_OWN = frozenset({Method.TOTP, Method.PASSKEY}) | SIGN_INS
"""How an organiser proves once more who they are, at a meeting's door and before its attendance."""

ADDED = frozenset({Method.PASSKEY, Method.TOTP})
"""What a participant adds after another proof. It says that this is the same person as then, and lifts nothing."""

STRONGER: dict[Method, Method] = {Method.SIGN_IN: Method.SIGN_IN_HIGH}
"""Where the first is accepted, so is the second, which is the same and more."""

PREFERENCE = (
    Method.PASSKEY,
    Method.BANKID,
    Method.SIGN_IN_HIGH,
    Method.SIGN_IN,
    Method.SMARTCARD,
    Method.TOTP,
    Method.SMS,
    Method.LDAP,
)
"""In which order they are offered: what is strong and easy first."""

SINGLE_FACTORS = frozenset({"link", "password", "pin", "email"})
"""What people may take for a method and is but one factor."""


def worth(method: Method, role: Role = Role.PARTICIPANT) -> Worth:
    """What a verification by `method` is worth. An organiser's authenticator comes with a password, not with a link."""
    own = _ORGANISERS.get(method) if role is Role.ORGANISER else None
    return own or _PARTICIPANTS[method]
