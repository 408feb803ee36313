"""A certificate on a card: whether it is one of those that count, and who is in it (RFC 5280).

nginx has had the card sign its TLS handshake, and has checked the chain and the lists of revoked certificates. What the
certificate itself says is checked here again, and what nginx does not ask about: who issued it directly, for what, and
that its key is on a card.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from sluss.domain.errors import CardRefused, ConfigError

VERIFIED = "SUCCESS"
"""What nginx says of a certificate that it accepts (`$ssl_client_verify`)."""
_Kind = TypeVar("_Kind", bound=x509.ExtensionType)
_UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
"""Microsoft's userPrincipalName: the name of an account, which looks like an address."""
_UTF8_STRING = 0x0C
_MAX_PEM = 8 * 1024
_MAX_REASON = 100
_LIST_BEGINS = b"-----BEGIN X509 CRL-----"


@dataclass(frozen=True, slots=True)
class CardRules:
    """Which certificates count, and where in them the address of their person is."""

    authorities: Path
    """PEM of the authorities that issue to cards, and of those above them, as nginx has it. Read each time."""
    policies: frozenset[str] = frozenset()
    """One of these must be among the certificate's policies, in dotted numbers. Empty: none is asked for."""
    by_account: bool = False
    """Whether invitations go to the name of the account (UPN), and not to the e-mail address (rfc822Name)."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose card it is."""

    issuer: str
    """The name of the authority (RFC 4514)."""
    identity: str
    """What stays the same when the person gets a new card: the account, or the whole name."""
    addresses: tuple[str, ...]
    """What an invitation to this person may be addressed to."""
    on_card: bool = False
    """Whether the certificate says that its key is on a card, or need not. One in a file proves too little."""


def authorities(path: Path) -> list[x509.Certificate]:
    """Those in a file. Raises `OSError`, and `ValueError` if there is none."""
    return x509.load_pem_x509_certificates(path.read_bytes())


def check_authorities(path: Path) -> None:
    """Raise `ConfigError` if there are none in a file."""
    try:
        authorities(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"{path}: no certificates in it") from None


def crl_ends(path: Path) -> datetime:
    """When the first of the lists of revoked certificates in a file ends. Raises `OSError`, `ValueError`."""
    lists = path.read_bytes().split(_LIST_BEGINS)[1:]
    ends = [x509.load_pem_x509_crl(_LIST_BEGINS + one).next_update_utc for one in lists]
    return min(end for end in ends if end is not None)


def holder(verdict: str, pem: str, rules: CardRules, now: datetime) -> Holder:
    """Who is in the certificate `pem`, if it counts and nginx's `verdict` is good. Raises `CardRefused`."""
    if verdict != VERIFIED:
        raise CardRefused(f"nginx: {_printable(verdict) or 'no verdict'}")
    if len(pem) > _MAX_PEM:
        raise CardRefused("certificate: too long")
    try:
        card = x509.load_pem_x509_certificate(pem.encode("ascii"))
        _check(card, rules, now)
        return _holder(card, rules)
    except OSError as error:
        raise CardRefused(f"authorities: cannot be read: {error.strerror}") from None
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise CardRefused("certificate: cannot be read") from None


def _check(card: x509.Certificate, rules: CardRules, now: datetime) -> None:
    if not any(_issued(card, authority) for authority in authorities(rules.authorities)):
        raise CardRefused("certificate: not issued by one of the authorities")
    if not card.not_valid_before_utc <= now <= card.not_valid_after_utc:
        raise CardRefused("certificate: not valid now")
    constraints = _extension(card, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise CardRefused("certificate: an authority's own")
    usage = _extension(card, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        raise CardRefused("certificate: not for signatures")
    purposes = _extension(card, x509.ExtendedKeyUsage)
    if purposes is None or ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        raise CardRefused("certificate: not for signing in")


def _holder(card: x509.Certificate, rules: CardRules) -> Holder:
    names = _extension(card, x509.SubjectAlternativeName) or x509.SubjectAlternativeName([])
    accounts = [_text(n.value) for n in names.get_values_for_type(x509.OtherName) if n.type_id == _UPN]
    if len(accounts) > 1:
        raise CardRefused("certificate: more than one account in it")
    addresses = accounts if rules.by_account else names.get_values_for_type(x509.RFC822Name)
    if not addresses:
        raise CardRefused("certificate: no address in it")
    if not accounts and not list(card.subject):
        raise CardRefused("certificate: nobody's name in it")
    identity = f"account {accounts[0].lower()}" if accounts else f"name {card.subject.rfc4514_string()}"
    policies = {p.policy_identifier.dotted_string for p in _extension(card, x509.CertificatePolicies) or ()}
    on_card = not rules.policies or not rules.policies.isdisjoint(policies)
    return Holder(card.issuer.rfc4514_string(), identity, tuple(addresses), on_card)


def _issued(card: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether the authority's key signed the certificate."""
    try:
        card.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _extension(card: x509.Certificate, kind: type[_Kind]) -> _Kind | None:
    try:
        return card.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _text(value: bytes) -> str:
    """The text of a UTF8String of less than 256 bytes (X.690, 8.1.3). Raises `ValueError`."""
    length, begins = (value[2:3], 3) if value[1:2] == b"\x81" else (value[1:2], 2)
    text = value[begins:]
    if value[:1] != bytes([_UTF8_STRING]) or length != len(text).to_bytes(2, "big")[1:] or not 0 < len(text) < 256:
        raise ValueError("not a UTF8String")
    return text.decode()


def _printable(verdict: str) -> str:
    """OpenSSL's words for what is wrong, for log and audit."""
    return "".join(letter for letter in verdict if letter.isascii() and letter.isprintable())[:_MAX_REASON]
