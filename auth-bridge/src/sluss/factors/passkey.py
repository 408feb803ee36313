"""Passkeys (WebAuthn Level 3), through python-fido2: making one, and a proof by one.

The user is verified by PIN or biometrics each time. A passkey is one that its authenticator finds by itself
(discoverable), so that no page need name any, or tell who has one. Attestation is asked for where
there are makers who are believed.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from cryptography import x509
from fido2.attestation.base import AttestationResult, AttestationVerifier
from fido2.server import Fido2Server
from fido2.utils import websafe_encode
from fido2.webauthn import (
    AttestationConveyancePreference,
    AttestedCredentialData,
    AuthenticationResponse,
    AuthenticatorData,
    CollectedClientData,
    PublicKeyCredentialParameters,
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialType,
    PublicKeyCredentialUserEntity,
    RegistrationResponse,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from sluss.domain.errors import NotVerified

_ALGORITHMS = (-7, -8, -257)
"""ES256, EdDSA, RS256 (RFC 9053, RFC 8812): what authenticators have."""


@dataclass(frozen=True, slots=True)
class NewPasskey:
    """What an authenticator made."""

    credential_id: str
    """Base64url."""
    credential: bytes
    """Attested credential data (WebAuthn 6.5.1): the id and the public key."""
    sign_count: int
    model: str
    """Its AAGUID, if one of the makers attested it; empty if not."""


class _Makers(AttestationVerifier):
    """Believes an attestation that leads to the certificate of one of these makers (WebAuthn 7.1, step 24)."""

    def __init__(self, makers: Collection[bytes]) -> None:
        super().__init__()
        self._by_name = {x509.load_der_x509_certificate(one).subject.public_bytes(): one for one in makers}

    def ca_lookup(self, attestation_result: AttestationResult, auth_data: AuthenticatorData) -> bytes | None:  # noqa: ARG002
        """The maker who issued the last certificate of the path. Self attestation has none, and nobody to believe."""
        if not attestation_result.trust_path:
            return None
        last = x509.load_der_x509_certificate(attestation_result.trust_path[-1])
        return self._by_name.get(last.issuer.public_bytes())


class Ceremonies:
    """Both ceremonies of the relying party that the portal is. Challenges are the caller's, 32 bytes, used once."""

    def __init__(
        self, host: str, origin: str, organisation: str, lifetime: timedelta, makers: Collection[bytes] = ()
    ) -> None:
        self._makers = _Makers(makers) if makers else None
        preference = AttestationConveyancePreference.DIRECT if makers else AttestationConveyancePreference.NONE
        party = PublicKeyCredentialRpEntity(id=host, name=organisation)
        # What is attested is checked in `_model`: a passkey of no model that is known is one all the same.
        self._server = Fido2Server(party, preference, verify_origin=lambda said: said == origin)
        self._timeout = {"timeout": lifetime // timedelta(milliseconds=1)}
        self._server.allowed_algorithms = [
            PublicKeyCredentialParameters(type=PublicKeyCredentialType.PUBLIC_KEY, alg=alg) for alg in _ALGORITHMS
        ]

    def creation(self, challenge: bytes, user: bytes, name: str, known: list[bytes]) -> dict[str, Any]:
        """What the browser is told to make: PublicKeyCredentialCreationOptionsJSON. Not beside one that is `known`."""
        options, _ = self._server.register_begin(
            PublicKeyCredentialUserEntity(id=user, name=name, display_name=name),
            [AttestedCredentialData(one) for one in known],
            ResidentKeyRequirement.REQUIRED,
            UserVerificationRequirement.REQUIRED,
            challenge=challenge,
        )
        return dict(options.public_key) | self._timeout

    def request(self, challenge: bytes) -> dict[str, Any]:
        """What the browser is told to prove: PublicKeyCredentialRequestOptionsJSON. It names no passkey."""
        options, _ = self._server.authenticate_begin(None, UserVerificationRequirement.REQUIRED, challenge)
        return dict(options.public_key) | self._timeout

    def made(self, challenge: bytes, response: str) -> NewPasskey:
        """Check a RegistrationResponseJSON (WebAuthn 7.1). Raises `NotVerified`."""
        try:
            answer: RegistrationResponse = RegistrationResponse.from_dict(json.loads(response))
            _check_page(answer.response.client_data)
            data = self._server.register_complete(_state(challenge), answer)
            one = data.credential_data
        except Exception as error:  # whatever the library stumbles over is no passkey
            raise _refused(error) from error
        if one is None or one.public_key.ALGORITHM not in _ALGORITHMS:
            raise NotVerified("passkey: no key of a kind that was asked for")
        return NewPasskey(websafe_encode(one.credential_id), bytes(one), data.counter, self._model(answer))

    def _model(self, answer: RegistrationResponse) -> str:
        if self._makers is None:
            return ""
        attested = answer.response.attestation_object
        try:
            self._makers.verify_attestation(attested, answer.response.client_data.hash)
        except Exception:  # whatever the library stumbles over attests nothing
            return ""
        data = attested.auth_data.credential_data
        return str(UUID(bytes=bytes(data.aaguid))) if data else ""

    def proved(self, challenge: bytes, response: str, credential: bytes) -> int:
        """Check an AuthenticationResponseJSON by this passkey (WebAuthn 7.2); its sign count. Raises `NotVerified`."""
        try:
            answer: AuthenticationResponse = AuthenticationResponse.from_dict(json.loads(response))
            _check_page(answer.response.client_data)
            self._server.authenticate_complete(_state(challenge), [AttestedCredentialData(credential)], answer)
        except Exception as error:  # whatever the library stumbles over is no proof
            raise _refused(error) from error
        return answer.response.authenticator_data.counter

    @staticmethod
    def credential_id(response: str) -> str:
        """By which passkey a response says it is, in base64url. Raises `NotVerified`."""
        try:
            return str(json.loads(response)["rawId"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise _refused(error) from error


def _state(challenge: bytes) -> dict[str, str]:
    return {"challenge": websafe_encode(challenge), "user_verification": UserVerificationRequirement.REQUIRED}


def _check_page(client_data: CollectedClientData) -> None:
    """It was the portal's own page and not a frame in another site's, for which the library does not ask."""
    if client_data.cross_origin is not False:
        raise ValueError("made in a frame of another site")


def _refused(error: Exception) -> NotVerified:
    # The library's own words are plain `ValueError`s; the texts of other errors may hold what was sent.
    return NotVerified(f"passkey: {error if type(error) is ValueError else type(error).__name__}")
