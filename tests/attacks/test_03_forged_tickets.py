"""Invariant 3: what the site's own key did not sign, or signed for something else, opens nothing.

After each forgery the honest ticket that it was made from still opens the room: the door was alive, and the attempt
has not used it up.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from tests.attacks import forge
from tests.attacks.forge import b64, mac, own, own_jwk, parts, pem_of, really, text, unb64
from tests.attacks.people import MEET, PORTAL, Person, Site

Forgery = Callable[[Site, str], str]
FORGERIES: dict[str, Forgery] = {}
EVIL = "https://evil.example/keys.json"


def forgery(make: Forgery) -> Forgery:
    FORGERIES[make.__name__] = make
    return make


def der(site: Site, kid: str) -> bytes:
    """The public key without its PEM dress."""
    return base64.b64decode("".join(pem_of(site, kid).splitlines()[1:-1]))


# No signature, or one that anybody can make

for name in ("none", "None", "NONE", "nOnE", "", "RS256 ", "rs256"):

    def unsigned(site: Site, token: str, name: str = name) -> str:
        return f"{text(parts(token)[0] | {'alg': name}, parts(token)[1])}."

    FORGERIES[f"unsigned_alg_{name!r}"] = unsigned


@forgery
def alg_none_beside_the_real_signature(site, token):
    header, claims, signature = parts(token)
    return f"{text(header | {'alg': 'none'}, claims)}.{signature}"


@forgery
def signature_taken_away(site, token):
    return token.rpartition(".")[0] + "."


@forgery
def signature_and_its_dot_taken_away(site, token):
    return token.rpartition(".")[0]


@forgery
def signature_of_zeros(site, token):
    return f"{token.rpartition('.')[0]}.{b64(bytes(256))}"


@forgery
def signature_of_ones(site, token):
    """RSA: 1 to any power is 1."""
    return f"{token.rpartition('.')[0]}.{b64(bytes(255) + bytes([1]))}"


@forgery
def signature_with_one_bit_turned(site, token):
    signed, _, signature = token.rpartition(".")
    raw = bytearray(unb64(signature))
    raw[17] ^= 1
    return f"{signed}.{b64(bytes(raw))}"


@forgery
def other_name_under_the_same_signature(site, token):
    header, claims, signature = parts(token)
    claims["context"]["user"]["name"] = "Eva Ek"
    return f"{text(header, claims)}.{signature}"


@forgery
def moderator_under_the_same_signature(site, token):
    header, claims, signature = parts(token)
    claims["context"]["user"]["moderator"] = True
    return f"{text(header, claims)}.{signature}"


@forgery
def later_expiry_under_the_same_signature(site, token):
    header, claims, signature = parts(token)
    return f"{text(header, claims | {'exp': claims['exp'] + 3600})}.{signature}"


# Algorithm confusion: the public key as an HMAC's secret

for digest, algorithm in (("sha256", "HS256"), ("sha384", "HS384"), ("sha512", "HS512")):

    def hmac_by_public_key(site: Site, token: str, digest: str = digest, algorithm: str = algorithm) -> str:
        header, claims, _ = parts(token)
        signed = text(header | {"alg": algorithm}, claims)
        return f"{signed}.{mac(signed, pem_of(site, header['kid']), digest)}"

    FORGERIES[f"{algorithm}_with_the_public_key"] = hmac_by_public_key

SECRETS: dict[str, Callable[[Site, str], bytes | str]] = {
    "the_public_key_without_its_last_line_end": lambda site, kid: pem_of(site, kid).strip(),
    "the_public_key_as_der": der,
    "no_secret": lambda site, kid: "",
    "the_kid": lambda site, kid: kid,
    "the_word_secret": lambda site, kid: "secret",
    "jitsis_example_secret": lambda site, kid: "app_secret",
}
for name, secret in SECRETS.items():

    def hmac_by(site: Site, token: str, secret: Callable[[Site, str], bytes | str] = secret) -> str:
        header, claims, _ = parts(token)
        signed = text(header | {"alg": "HS256"}, claims)
        return f"{signed}.{mac(signed, secret(site, header['kid']))}"

    FORGERIES[f"HS256_with_{name}"] = hmac_by


@forgery
def rs256_header_over_an_hmac_by_the_public_key(site, token):
    signed = token.rpartition(".")[0]
    return f"{signed}.{mac(signed, pem_of(site, parts(token)[0]['kid']))}"


# The attacker's own key, and ways to point at it

POINTERS: dict[str, dict[str, Any]] = {
    "under_the_sites_kid": {},
    "embedded_as_jwk": {"jwk": own_jwk()},
    "embedded_as_jwk_with_the_sites_kid_inside": {"jwk": own_jwk() | {"kid": "K"}},
    "behind_jku": {"jku": EVIL},
    "behind_jku_that_looks_like_the_portal": {"jku": f"https://{PORTAL}@evil.example/keys/jwks.json"},
    "behind_jku_on_the_portal": {"jku": f"https://{PORTAL}/keys/../i/x"},
    "behind_jku_in_a_file": {"jku": "file:///etc/passwd"},
    "behind_x5u": {"x5u": EVIL},
    "in_x5c": {"x5c": ["MIIB"]},
    "by_x5t": {"x5t": "AAAA", "x5t#S256": "AAAA"},
    "with_an_own_kid": {"kid": "attacker", "jwk": own_jwk()},
}
for name, added in POINTERS.items():

    def own_key_by(site: Site, token: str, added: dict[str, Any] = added) -> str:
        header, claims, _ = parts(token)
        return own(header | added, claims)

    FORGERIES[f"own_key_{name}"] = own_key_by


@forgery
def elliptic_key_of_the_attackers(site, token):
    header, claims, _ = parts(token)
    return forge.elliptic(header | {"alg": "ES256"}, claims)


@forgery
def edwards_key_of_the_attackers(site, token):
    header, claims, _ = parts(token)
    return forge.edwards(header | {"alg": "EdDSA"}, claims)


# `kid` that is a path, a query, a command, another type

KIDS: dict[str, Any] = {
    "dev_null": "../../../../../../dev/null",
    "a_readable_file": "../../../../../../etc/hostname",
    "a_file_with_a_nul": "/etc/hostname\0.active",
    "a_query": "' UNION SELECT 'AAAA' --",
    "another_query": "x' OR '1'='1",
    "a_command": "x|id>/tmp/x",
    "a_url": EVIL,
    "empty": "",
    "null": None,
    "a_number": 0,
    "true": True,
    "a_list": ["K"],
    "an_object": {"kid": "K"},
    "its_own_hash": "H",
    "a_long_one": "k" * 3000,
    "a_lone_surrogate": "\ud800",
}
for name, kid in KIDS.items():

    def odd_kid(site: Site, token: str, kid: Any = kid) -> str:
        header, claims, _ = parts(token)
        given = hashlib.sha256(header["kid"].encode()).hexdigest() if kid == "H" else kid
        given = [header["kid"]] if kid == ["K"] else given
        signed = text(header | {"alg": "HS256", "kid": given}, claims)
        return f"{signed}.{mac(signed, '')}"

    FORGERIES[f"kid_is_{name}"] = odd_kid


@forgery
def kid_left_out(site, token):
    header, claims, _ = parts(token)
    del header["kid"]
    return really(site, header, claims)


@forgery
def kid_in_other_letters(site, token):
    header, claims, _ = parts(token)
    return really(site, header | {"kid": header["kid"].upper() + "x"}, claims)


# The site's own key, which no attacker has, under another algorithm or header

OTHER_ALGORITHMS = {
    "PS256": {"padding_scheme": "PSS"},
    "RS384": {"digest": "SHA384"},
    "RS512": {"digest": "SHA512"},
}
for algorithm, how in OTHER_ALGORITHMS.items():

    def other_algorithm(site: Site, token: str, algorithm: str = algorithm, how: dict[str, str] = how) -> str:
        header, claims, _ = parts(token)
        return really(site, header | {"alg": algorithm}, claims, **how)

    FORGERIES[f"really_signed_as_{algorithm}"] = other_algorithm

HEADERS: dict[str, dict[str, Any]] = {
    "crit_of_something_unknown": {"crit": ["policy"], "policy": "open"},
    "crit_of_exp": {"crit": ["exp"], "exp": 1},
    "crit_empty": {"crit": []},
    "crit_of_another_type": {"crit": "exp"},
    "typ_of_a_receipt": {"typ": "sluss-attendance+jwt"},
    "alg_a_list": {"alg": ["RS256", "none"]},
    "alg_null": {"alg": None},
    "alg_a_number": {"alg": 256},
}
for name, added in HEADERS.items():

    def odd_header(site: Site, token: str, added: dict[str, Any] = added) -> str:
        header, claims, _ = parts(token)
        return really(site, header | added, claims)

    FORGERIES[f"really_signed_{name}"] = odd_header


@forgery
def really_signed_with_the_payload_unencoded(site, token):
    """RFC 7797: `b64` false."""
    header, claims, _ = parts(token)
    return really(site, header | {"b64": False, "crit": ["b64"]}, claims)


@forgery
def really_signed_and_compressed(site, token):
    header, claims, _ = parts(token)
    return really(site, header | {"zip": "DEF"}, zlib.compress(json.dumps(claims).encode())[2:-4])


@forgery
def really_signed_around_another_token(site, token):
    return really(site, parts(token)[0] | {"cty": "JWT"}, token)


@forgery
def really_signed_around_a_list(site, token):
    header, claims, _ = parts(token)
    return really(site, header, [claims])


@forgery
def duplicate_alg_none_last(site, token):
    header, claims, signature = parts(token)
    twice = json.dumps(header)[:-1] + ', "alg": "none"}'
    return f"{text(twice, claims)}.{signature}"


# The site's own key over other claims: each check stands by itself

REQUIRED = ("iss", "aud", "sub", "jti", "nbf", "iat", "exp")
for name in REQUIRED:

    def without(site: Site, token: str, name: str = name) -> str:
        header, claims, _ = parts(token)
        del claims[name]
        return really(site, header, claims)

    FORGERIES[f"really_signed_without_{name}"] = without

LATER = 4_000_000_000
CLAIMS: dict[str, dict[str, Any]] = {
    "iss_of_another": {"iss": "https://evil.example"},
    "iss_with_a_slash": {"iss": f"https://{PORTAL}/"},
    "iss_of_the_meeting_host": {"iss": f"https://{MEET}"},
    "iss_a_list": {"iss": [f"https://{PORTAL}"]},
    "iss_null": {"iss": None},
    "aud_of_another": {"aud": "evil"},
    "aud_anybody": {"aud": "*"},
    "aud_in_a_list": {"aud": ["jitsi"]},
    "aud_among_others": {"aud": ["evil", "jitsi"]},
    "aud_empty": {"aud": ""},
    "sub_of_another": {"sub": "evil.example"},
    "sub_anybody": {"sub": "*"},
    "sub_a_tenant": {"sub": "tenant"},
    "sub_in_capitals": {"sub": MEET.upper()},
    "sub_a_list": {"sub": [MEET]},
    "jti_never_issued": {"jti": "0" * 32},
    "jti_a_number": {"jti": 0},
    "jti_a_list": {"jti": ["x"]},
    "jti_a_query": {"jti": "' OR 1=1 --"},
    "jti_empty": {"jti": ""},
    "exp_a_string": {"exp": str(LATER)},
    "exp_null": {"exp": None},
    "exp_true": {"exp": True},
    "exp_a_fraction": {"exp": LATER + 0.5},
    "exp_endless": {"exp": float("inf")},
    "exp_no_number": {"exp": float("nan")},
    "exp_a_list": {"exp": [LATER]},
    "nbf_a_string": {"nbf": "0"},
    "nbf_null": {"nbf": None},
    "nbf_a_fraction": {"nbf": 0.5},
    "iat_a_string": {"iat": "0"},
    "iat_an_object": {"iat": {}},
}
for name, changed in CLAIMS.items():

    def odd_claims(site: Site, token: str, changed: dict[str, Any] = changed) -> str:
        header, claims, _ = parts(token)
        return really(site, header, claims | changed)

    FORGERIES[f"really_signed_{name}"] = odd_claims


# Not tokens at all

SHAPES: dict[str, Callable[[str], str]] = {
    "one_word": lambda token: "token",
    "dots": lambda token: "..",
    "more_dots": lambda token: "....",
    "a_dot_before": lambda token: f".{token}",
    "a_part_more": lambda token: f"{token}.{token.rpartition('.')[2]}",
    "five_parts_as_jwe": lambda token: "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..aXY.eA.dGFn",
    "json_serialisation": lambda token: json.dumps(
        dict(zip(("protected", "payload", "signature"), token.split("."), strict=True))
    ),
    "bearer_before": lambda token: f"Bearer {token}",
    "header_that_is_not_json": lambda token: f"{b64('header')}.{token.partition('.')[2]}",
    "header_that_is_a_list": lambda token: f"{b64('[]')}.{token.partition('.')[2]}",
    "header_that_is_null": lambda token: f"{b64('null')}.{token.partition('.')[2]}",
    "header_of_many_brackets": lambda token: f"{b64('[' * 5000)}.{token.partition('.')[2][:800]}",
    "header_with_a_huge_number": lambda token: b64('{"alg":' + "9" * 4500 + "}") + ".e30.e30",
    "header_that_is_not_utf8": lambda token: b64(b"\xff\xfe{}") + "." + token.partition(".")[2],
    "letters_outside_ascii": lambda token: token.replace("e", "е", 1),
    "an_emoji": lambda token: f"{token[:40]}🔑{token[41:]}",
    "a_nul_inside": lambda token: f"{token[:40]}\0{token[40:]}",
    "a_line_end_inside": lambda token: f"{token[:40]}\r\n{token[40:]}",
    "markup": lambda token: "</token><token>" + token,
    "a_little_too_long": lambda token: token + "A" * (6000 - len(token)),
}
for name, shape in SHAPES.items():
    FORGERIES[name] = lambda site, token, shape=shape: shape(token)


@pytest.mark.parametrize("name", FORGERIES)
async def test_forged_ticket_opens_nothing(site: Site, anna: Person, name: str):
    honest = anna.ticket()
    forged = FORGERIES[name](site, honest["token"])
    assert forged != honest["token"]
    assert await site.refused(honest | {"token": forged}) == "bad-ticket"
    assert await site.refused(honest) is None


@pytest.mark.parametrize(
    "name",
    ["unsigned_alg_'none'", "HS256_with_the_public_key", "own_key_embedded_as_jwk", "signature_taken_away"],
)
async def test_forged_ticket_opens_nothing_over_bosh_either(site: Site, anna: Person, name: str):
    honest = anna.ticket()
    forged = FORGERIES[name](site, honest["token"])
    assert await site.refused(honest | {"token": forged}, "bosh") == "bad-ticket"
    assert await site.refused(honest, "bosh") is None


async def test_signature_of_another_ticket_does_not_fit(site: Site, anna: Person, bo: Person):
    mine, other = anna.ticket(), bo.ticket()
    mixed = f"{other['token'].rpartition('.')[0]}.{mine['token'].rpartition('.')[2]}"
    assert await site.refused(other | {"token": mixed}) == "bad-ticket"
    assert await site.refused(mine) is None
    assert await site.refused(other) is None


@pytest.mark.parametrize(
    "changed",
    [
        lambda now: {"exp": now},
        lambda now: {"exp": 0},
        lambda now: {"exp": -1},
        lambda now: {"nbf": now + 30},
        lambda now: {"nbf": now + 30, "iat": now + 30, "exp": now + 90},
        lambda now: {"nbf": 10**30},
        lambda now: {"exp": -(10**30)},
    ],
)
async def test_time_in_the_ticket_is_kept_to_the_second(site: Site, anna: Person, changed):
    honest = anna.ticket()
    header, claims, _ = parts(honest["token"])
    token = really(site, header, claims | changed(claims["iat"]))
    assert await site.refused(honest | {"token": token}) == "expired"
    assert await site.refused(honest) is None


async def test_ticket_of_a_minute_ago_is_too_old(site: Site, anna: Person):
    anna.prove(ago=130)
    for ago, reason in ((61, "expired"), (50, None)):
        ticket = site.insider("ticket", link=anna.link, session=anna.browser.session, ago=ago)
        assert await site.refused(ticket) == reason


@pytest.mark.parametrize("size", [9_000, 40_000, 1_000_000])
@pytest.mark.parametrize("transport", ["websocket", "bosh"])
async def test_huge_token_is_refused_and_the_door_goes_on(site: Site, anna: Person, size: int, transport: str):
    honest = anna.ticket()
    with pytest.raises(Exception, match=r"(?i)414|400|431|closed|reset|broken pipe|bad-ticket"):
        async with site.connect(honest | {"token": honest["token"] + "A" * size}, transport):
            pass
    assert await site.refused(honest, transport) is None
