"""A certificate authority of a test's own, as strictly after RFC 5280 as Python 3.13 wants them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SIGNS = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
ON_A_CARD = "1.2.752.999.1.2"
SIGN_IN = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])


def account(name: str) -> x509.OtherName:
    """A userPrincipalName of less than 128 bytes."""
    return x509.OtherName(UPN, bytes([0x0C, len(name.encode())]) + name.encode())


class Authority:
    """Signs certificates for names, in `folder`."""

    def __init__(self, folder: Path, name: str = "Test authority") -> None:
        self.folder, self.key = folder, ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        constraint = x509.BasicConstraints(ca=True, path_length=None)
        certificate = self._builder(self.name, self.key).add_extension(constraint, critical=True)
        certificate = certificate.add_extension(SIGNS, critical=True)
        self.file = folder / "ca.pem"
        self.file.write_bytes(certificate.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, hours: float = 24) -> tuple[Path, Path]:
        """Certificate and key files of a host, good for so many hours from now; less than none: for no more."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        signed = self._builder(subject, key, hours).add_extension(names, critical=False).sign(self.key, hashes.SHA256())
        certificate, private = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        private.write_text(_pem(key))
        return certificate, private

    def card(
        self,
        person: str,
        *names: x509.GeneralName,
        purposes: x509.ExtendedKeyUsage | None = SIGN_IN,
        policies: Sequence[str] = (ON_A_CARD,),
        hours: float = 24,
        more: Sequence[x509.ExtensionType] = (),
    ) -> tuple[x509.Certificate, str]:
        """A person's certificate as it is on a card, and its key in PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, person)] if person else [])
        builder = self._builder(subject, key, hours)
        told = [x509.PolicyInformation(x509.ObjectIdentifier(policy), None) for policy in policies]
        extensions = [x509.SubjectAlternativeName(names) if names else None, purposes, *more]
        for extension in (*extensions, x509.CertificatePolicies(told) if told else None):
            builder = builder.add_extension(extension, critical=False) if extension else builder
        return builder.sign(self.key, hashes.SHA256()), _pem(key)

    def revoke(self, *cards: x509.Certificate, hours: float = 24) -> str:
        """The list of revoked certificates, in PEM; with less than none hours it has ended."""
        now = datetime.now(UTC)
        crl = x509.CertificateRevocationListBuilder().issuer_name(self.name)
        crl = crl.last_update(now - timedelta(days=1)).next_update(now + timedelta(hours=hours))
        for card in cards:
            gone = x509.RevokedCertificateBuilder().serial_number(card.serial_number).revocation_date(now)
            crl = crl.add_revoked_certificate(gone.build())
        return crl.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, hours: float = 24
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(hours=hours))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
