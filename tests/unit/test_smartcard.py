"""Which certificates count as a person's card, and who is in them. Real certificates; nginx is in tests/browser."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from prometheus_client import CollectorRegistry
from tests.unit import settings
from tests.unit.certificates import ON_A_CARD, SIGNS, UPN, Authority, account

from sluss.app import running
from sluss.cli import main
from sluss.config import load_credentials, load_settings
from sluss.domain.assurance import AssuranceLevel, Identity, Method, worth
from sluss.domain.errors import CardRefused, ConfigError
from sluss.factors.smartcard import VERIFIED, CardRules, crl_ends, holder

MAIL = x509.RFC822Name("anna@example.org")


@pytest.fixture
def authority(tmp_path):
    (tmp_path / "ca").mkdir()
    return Authority(tmp_path / "ca")


def pem(card: x509.Certificate) -> str:
    return card.public_bytes(Encoding.PEM).decode()


def read(authority: Authority, card: x509.Certificate, verdict: str = VERIFIED, after: float = 0, **rules):
    """Who is in it, so many hours from now."""
    found = CardRules(authority.file, **({"policies": frozenset({ON_A_CARD})} | rules))
    return holder(verdict, pem(card), found, datetime.now(UTC) + timedelta(hours=after))


def test_a_card_says_who_has_it(authority):
    card, _ = authority.card("Anna Lindberg", MAIL, x509.RFC822Name("anna.lindberg@example.org"))
    found = read(authority, card)
    assert found.addresses == ("anna@example.org", "anna.lindberg@example.org")
    assert found.issuer == "CN=Test authority"


def test_new_card_of_the_same_person_is_the_same_identity(authority):
    for names in ([MAIL], [MAIL, account("anna@corp.example")]):
        old, new = (read(authority, authority.card("Anna Lindberg", *names)[0]) for _ in range(2))
        assert old == new


def test_account_is_the_identity_although_the_name_changes(authority):
    cards = [authority.card(name, MAIL, account(upn))[0] for name, upn in (("A L", "Anna@corp"), ("A Ek", "anna@corp"))]
    assert len({read(authority, card).identity for card in cards}) == 1


def test_two_people_with_one_address_are_two_identities(authority):
    shared = x509.RFC822Name("desk@example.org")
    for pair in (
        [authority.card("Anna", shared), authority.card("Bo", shared)],
        [authority.card("Anna", shared, account("anna@corp")), authority.card("Anna", shared, account("bo@corp"))],
        [authority.card("Anna", shared, account("anna")), authority.card("account anna", shared)],
    ):
        assert len({read(authority, card).identity for card, _ in pair}) == 2


def test_name_of_the_account_is_an_address_only_where_that_is_set(authority):
    card, _ = authority.card("Anna", x509.RFC822Name("info@example.org"), account("anna@corp.example"))
    assert read(authority, card).addresses == ("info@example.org",)
    assert read(authority, card, by_account=True).addresses == ("anna@corp.example",)


def test_long_account_is_read(authority):
    name = "a" * 200 + "@corp.example"
    long = x509.OtherName(UPN, bytes([0x0C, 0x81, len(name)]) + name.encode())
    assert read(authority, authority.card("Anna", MAIL, long)[0], by_account=True).addresses == (name,)


OTHER = {
    "no purpose": {"purposes": None},
    "for servers": {"purposes": x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])},
    "for anything": {"purposes": x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])},
    "not for signatures": {"more": [SIGNS]},
    "an authority": {"more": [x509.BasicConstraints(ca=True, path_length=None)]},
    "expired": {"hours": -1},
}


@pytest.mark.parametrize("changed", OTHER.values(), ids=OTHER)
def test_certificate_that_is_not_for_signing_in_by_card_is_refused(authority, changed):
    assert read(authority, authority.card("Anna", MAIL)[0])
    with pytest.raises(CardRefused, match="certificate: "):
        read(authority, authority.card("Anna", MAIL, **changed)[0])


@pytest.mark.parametrize("policies", [(), [ON_A_CARD + ".1"]])
def test_certificate_whose_key_may_be_in_a_file_is_not_taken_for_a_card(authority, policies):
    assert read(authority, authority.card("Anna", MAIL)[0]).on_card
    card, _ = authority.card("Anna", MAIL, policies=policies)
    assert not read(authority, card).on_card
    assert read(authority, card, policies=frozenset()).on_card, "the authority issues to cards alone"


@pytest.mark.parametrize("after", [-48, 48])
def test_card_of_another_time_is_refused(authority, after):
    with pytest.raises(CardRefused, match="not valid now"):
        read(authority, authority.card("Anna", MAIL)[0], after=after)


NAMES = {
    "no address": [account("anna@corp")],
    "an address in the name alone": [x509.DirectoryName(x509.Name([]))],
    "two accounts": [MAIL, account("a@corp"), account("b@corp")],
    "an account that is none": [MAIL, x509.OtherName(UPN, b"\x01\x01\xff")],
    "an account in other letters": [MAIL, x509.OtherName(UPN, b"\x1e\x02\x00a")],
    "an empty account": [MAIL, x509.OtherName(UPN, b"\x0c\x00")],
    "no UTF-8": [MAIL, x509.OtherName(UPN, b"\x0c\x01\xff")],
    "no names": [],
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_card_that_does_not_name_one_person_is_refused(authority, names):
    with pytest.raises(CardRefused, match="certificate: "):
        read(authority, authority.card("Anna", *names)[0])


def test_card_without_any_name_is_refused(authority):
    with pytest.raises(CardRefused, match="nobody's name"):
        read(authority, authority.card("", MAIL)[0])
    assert read(authority, authority.card("", MAIL, account("anna@corp"))[0])


def test_card_of_another_authority_is_refused_although_it_has_the_same_name(authority, tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(CardRefused, match="not issued by one of the authorities"):
        read(authority, Authority(tmp_path / "other").card("Anna", MAIL)[0])


def test_one_of_several_authorities_is_enough(authority, tmp_path):
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "Another")
    authority.file.write_text(other.file.read_text() + authority.file.read_text())
    assert {read(authority, one.card("Anna", MAIL)[0]).issuer for one in (authority, other)} == {
        "CN=Another",
        "CN=Test authority",
    }


@pytest.mark.parametrize("verdict", ["", "NONE", "FAILED:certificate revoked", "success", "SUCCESS, SUCCESS", "0"])
def test_nothing_but_nginx_word_for_good_is_good(authority, verdict):
    with pytest.raises(CardRefused, match="nginx: "):
        read(authority, authority.card("Anna", MAIL)[0], verdict)


@pytest.mark.parametrize(
    "text", ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "ä", "y" * 9000]
)
def test_what_is_no_certificate_is_refused(authority, text):
    with pytest.raises(CardRefused, match="certificate: "):
        holder(VERIFIED, text, CardRules(authority.file), datetime.now(UTC))


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_without_authorities_no_card_counts(authority, content):
    card, _ = authority.card("Anna", MAIL)
    authority.file.unlink()
    if content is not None:
        authority.file.write_text(content)
    with pytest.raises(CardRefused):
        read(authority, card)


def test_it_is_worth_what_a_key_in_hardware_with_a_pin_is():
    value = worth(Method.SMARTCARD)
    assert (value.acr, value.identity, value.phishing_resistant) == (AssuranceLevel.AAL3, Identity.CARD, True)
    assert value.amr == ("sc", "pin", "mfa")


# Settings


def chosen(tmp_path, authority, **changed):
    """The settings with smart cards set up."""
    crl = tmp_path / "crl.pem"
    crl.write_text(authority.revoke() + authority.revoke(hours=2))
    given = {
        "origin": "https://card.sluss.test",
        "authorities": str(authority.file),
        "crl": str(crl),
        "policies": [ON_A_CARD],
        "socket": str(tmp_path / "socket"),
    }
    return settings.valid(tmp_path) | {"smartcard": given | changed}


def test_settings_make_it_a_method(tmp_path, authority):
    found = load_settings(settings.written(tmp_path, chosen(tmp_path, authority)))
    assert Method.SMARTCARD in found.methods
    assert Method.SMARTCARD not in load_settings(settings.written(tmp_path, settings.valid(tmp_path))).methods


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"policies": []}, "smartcard: needs policies that say that a key is on a card, or cards_only: true"),
        ({"policies": ["1.2.x"]}, r"smartcard.policies\[0\]: must be dotted numbers"),
        ({"origin": "card.sluss.test"}, "smartcard.origin: must be an origin"),
        ({"address": "name"}, "smartcard.address: must be email or upn"),
    ],
)
def test_setting_that_cannot_be_is_named(tmp_path, authority, changed, said):
    with pytest.raises(ConfigError, match=said):
        load_settings(settings.written(tmp_path, chosen(tmp_path, authority, **changed)))


def test_authorities_that_issue_to_cards_alone_need_no_policy(tmp_path, authority):
    found = load_settings(settings.written(tmp_path, chosen(tmp_path, authority, policies=[], cards_only=True)))
    assert found.smartcard.policies == ()
    assert read(authority, authority.card("Anna", MAIL, policies=())[0], policies=frozenset())


@pytest.mark.parametrize(("content", "said"), [(None, "cannot be read"), ("nothing", "no certificates in it")])
async def test_bridge_does_not_start_without_authorities(tmp_path, authority, content, said):
    path = settings.written(tmp_path, chosen(tmp_path, authority))
    found = load_settings(path)
    check = ["--config", str(path), "check", "--without-credentials"]
    assert CliRunner().invoke(main, check).output == "ok\n"
    authority.file.unlink()
    if content:
        authority.file.write_text(content)
    assert said in CliRunner().invoke(main, check).output
    (tmp_path / "state").mkdir()
    with pytest.raises(ConfigError, match=said):
        async with started(tmp_path, found, CollectorRegistry()):
            pass


def started(tmp_path, found, registry):
    from sluss.store.database import upgrade

    upgrade(found.database)
    where = {"CREDENTIALS_DIRECTORY": str(settings.credentials(tmp_path))}
    return running(found, load_credentials(found, where), registry=registry)


async def test_socket_is_there_and_the_end_of_the_first_list_is_a_number(tmp_path, authority):
    found = load_settings(settings.written(tmp_path, chosen(tmp_path, authority)))
    (tmp_path / "state").mkdir()
    registry = CollectorRegistry()
    async with started(tmp_path, found, registry):
        assert (tmp_path / "socket").stat().st_mode & 0o777 == 0o666
        assert registry.get_sample_value("sluss_crl_expires") == crl_ends(found.smartcard.crl).timestamp()
        (tmp_path / "crl.pem").write_text("")
        assert registry.get_sample_value("sluss_crl_expires") is None
    assert crl_ends_in(tmp_path, authority) < timedelta(hours=3)


def crl_ends_in(tmp_path, authority) -> timedelta:
    (tmp_path / "crl.pem").write_text(authority.revoke() + authority.revoke(hours=2))
    return crl_ends(tmp_path / "crl.pem") - datetime.now(UTC)
