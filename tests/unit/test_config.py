"""Settings and secrets: whatever is wrong is one line that names the file and the key, and no secret is ever shown."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.unit.settings import (
    BANKID,
    COMPONENT_SECRET,
    LDAP,
    SIGN_IN,
    SIGN_IN_SECRET,
    SMS_PASSWORD,
    SMTP_PASSWORD,
    credentials,
    valid,
    written,
)
from tests.unit.world import MASTER

from sluss.config import load_credentials, load_settings
from sluss.domain.assurance import Method
from sluss.domain.errors import ConfigError
from sluss.domain.limits import SmsRules
from sluss.factors import PARTICIPANT_METHODS
from sluss.keyring.tickets import TicketKeys

REMOVED = object()
WRONG_SIGN_IN = [
    *(
        ({"issuer": issuer}, "must be an https address such as")
        for issuer in (
            "http://login.sluss.test",
            "login.sluss.test",
            "https://",
            "https://a@b",
            "https://a?b",
            "https://a#",
        )
    ),
    ({"client_id": ""}, ">= 1"),
    ({"levels": {}}, "length"),
    ({"levels": {"pwd": "sms"}}, "must be sign_in or sign_in_high"),
    ({"client_secret": "x"}, "is not a setting"),
    ({"organisers": {"claim": "groups"}}, "is missing"),
    ({"email_trusted": "perhaps"}, "`bool`"),
]
SERVER = "such as ldaps://ldap.example.org"
WRONG_LDAP = [
    ({"kind": "novell"}, "must be openldap or active-directory"),
    *(
        ({"servers": [server]}, SERVER)
        for server in (
            "ldap.example.org",
            "http://h",
            "ldapi://h",
            "ldap://u:p@h",
            "ldap://h:x",
            "ldap://h/dc=x",
            "ldap://",
        )
    ),
    ({"servers": []}, "length"),
    *(
        ({"people": wrong}, "must be a filter in parentheses")
        for wrong in ("", "uid=x", "(uid=x", "uid=x)", "(a=b)(c=d)", "(a=b))(|(c=d)", ")(")
    ),
    ({"mail": "mail)(x"}, "match"),
    ({"base": ""}, "length"),
    ({"password": "in the file"}, "is not a setting"),
]
WRONG = [
    ("organisation", REMOVED, "is missing"),
    ("organisation", 5, "`str`"),
    ("organisation", "", ">= 1"),
    ("colour", "red", "is not a setting"),
    ("gate.colour", "red", "is not a setting"),
    ("gate.port", "many", "`int`"),
    ("gate.port", 0, ">= 1"),
    ("gate.enabled", "perhaps", "`bool`"),
    ("gate", REMOVED, "is missing"),
    ("mail.security", "ssl", "none or starttls or tls"),
    ("mail.sender", REMOVED, "is missing"),
    ("mail.sender", "nobody", "must be an address such as"),
    ("sms.kind", "pigeon", "kind"),
    ("sms.kind", REMOVED, "kind"),
    ("sms.url", "ftp://x", "match"),
    ("sms.method", "GET", "must be POST or PUT"),
    ("sms.url", REMOVED, "is missing"),
    ("sms.colour", "red", "is not a setting"),
    ("sms.prefixes", [], "length"),
    ("sms.prefixes", ["46"], "match"),
    ("sms.per_day", 0, ">= 1"),
    ("bankid", {"environment": "play", "authority": "/a"}, "production or test"),
    ("bankid", {"environment": "test"}, "is missing"),
    ("bankid", BANKID | {"url": "http://localhost"}, "match"),
    ("bankid", BANKID | {"accepted_risk": "none"}, "must be low or moderate or high"),
    ("ldap", {}, "is missing"),
    *(("ldap", LDAP | wrong, what) for wrong, what in WRONG_LDAP),
    ("listen.portal", "8600", "such as 127.0.0.1:8600"),
    ("listen.portal", "127.0.0.1:65536", "such as 127.0.0.1:8600"),
    ("trusted_proxies", ["everybody"], "IPv4 or IPv6"),
    ("database", "postgresql://x", "match"),
    ("default_region", "Sweden", "ISO country code"),
    ("default_region", "XX", "ISO country code"),
    ("default_locale", "de", "must be sv or en"),
    ("sign_in", {}, "is missing"),
    *(("sign_in", SIGN_IN | wrong, what) for wrong, what in WRONG_SIGN_IN),
    ("log.level", "loud", "debug or info"),
    *(
        ("portal", origin, "must be an origin such as")
        for origin in (
            "http://portal.sluss.test",
            "portal.sluss.test",
            "https://",
            "https://portal.sluss.test/path",
            "https://portal.sluss.test?",
            "https://portal.sluss.test/?q=1",
            "https://portal.sluss.test#x",
            "https://eva@portal.sluss.test",
        )
    ),
]


def refused(path) -> str:
    with pytest.raises(ConfigError) as error:
        load_settings(path)
    line = str(error.value)
    assert line.startswith(f"{path}:")
    assert "\n" not in line
    return line


def changed(folder, key, value) -> dict:
    settings = valid(folder)
    *parents, last = key.split(".")
    section = settings
    for parent in parents:
        section = section[parent]
    if value is REMOVED:
        del section[last]
    else:
        section[last] = value
    return settings


@pytest.mark.parametrize(("key", "value", "what"), WRONG)
def test_wrong_setting_is_one_line_naming_file_and_key(tmp_path, key, value, what):
    line = refused(written(tmp_path, changed(tmp_path, key, value)))
    named = "sms" if key == "sms.kind" else key  # without a known kind, nothing more can be said
    assert line.split(": ")[1].startswith(named)
    assert what in line


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("organisation: [", "line"),
        ("\tx: 1", "line 1"),
        ("organisation: 2026-13-45", "not valid YAML"),
        ("", "must be a mapping"),
        ("- a\n- b", "must be a mapping"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_bad_yaml_is_one_line(tmp_path, text, what):
    path = tmp_path / "sluss.yml"
    path.write_text(text)
    assert what in refused(path)


def test_file_that_is_missing_or_no_text_is_one_line(tmp_path):
    assert "cannot be read: No such file" in refused(tmp_path / "sluss.yml")
    assert "cannot be read" in refused(tmp_path)
    (tmp_path / "latin.yml").write_bytes("organisation: Åäö".encode("latin-1"))
    assert "not valid YAML" in refused(tmp_path / "latin.yml")


def test_settings_are_read_as_written(tmp_path):
    settings = load_settings(written(tmp_path, valid(tmp_path) | {"portal": "https://PORTAL.sluss.test/"}))
    assert (settings.portal, settings.meet_host) == ("https://portal.sluss.test", "meet.sluss.test")
    assert settings.sms.json == {"to": "{to}", "text": "{text}"}


def test_methods_are_what_the_settings_lead_to(tmp_path):
    assert load_settings(written(tmp_path, valid(tmp_path))).methods == {Method.SMS, Method.PASSKEY, Method.TOTP}
    settings = valid(tmp_path) | {"sign_in": SIGN_IN}
    everything = PARTICIPANT_METHODS | {Method.SIGN_IN, Method.SIGN_IN_HIGH}
    assert load_settings(written(tmp_path, settings)).methods == everything


def test_settings_cannot_be_changed_afterwards(tmp_path):
    settings = load_settings(written(tmp_path, valid(tmp_path)))
    with pytest.raises(AttributeError, match="immutable"):
        settings.portal = "https://evil.example"


# Secrets


def read(folder, settings=None):
    directory = credentials(folder)
    environ = {"CREDENTIALS_DIRECTORY": str(directory)}
    return load_credentials(load_settings(written(folder, settings or valid(folder))), environ)


def test_secrets_are_read_and_shown_nowhere(tmp_path):
    found = read(tmp_path)
    assert found.master_key == MASTER
    assert found.component_secret == COMPONENT_SECRET
    assert TicketKeys(found.ticket_keys).active_kid
    for shown in (repr(found), str(found), f"{found}"):
        for secret in (
            COMPONENT_SECRET,
            SIGN_IN_SECRET,
            SMS_PASSWORD,
            SMTP_PASSWORD,
            "PRIVATE KEY",
            MASTER.hex(),
            repr(MASTER),
        ):
            assert secret not in shown


def test_keys_do_not_show_themselves(tmp_path):
    keys = TicketKeys(read(tmp_path).ticket_keys)
    assert "PRIVATE" not in f"{keys!r} {vars(keys)}"


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("master-key", {}),
        ("component-secret", {"gate.enabled": True}),
        ("smtp-password", {"mail.username": "sluss"}),
        ("bankid-certificate", {"bankid.environment": "test", "bankid.authority": "/a"}),
        ("bankid-key", {"bankid.environment": "test", "bankid.authority": "/a"}),
        ("sms-password", {"sms.username": "sluss"}),
        ("sign-in-secret", {"sign_in": SIGN_IN}),
        ("ldap-password", {"ldap": LDAP}),
        ("sms-password", {"sms.headers": {"Authorization": "Bearer {password}"}}),
    ],
)
@pytest.mark.parametrize("empty", [True, False])
def test_missing_secret_is_named(tmp_path, name, setting, empty):
    directory = credentials(tmp_path)
    for other in ("bankid-certificate", "bankid-key"):
        (directory / other).write_text("PEM")
    (directory / name).unlink()
    if empty:
        (directory / name).touch()
    settings = valid(tmp_path)
    for key, value in setting.items():
        section, _, last = key.partition(".")
        settings[section] = settings.get(section, {}) | {last: value} if last else value
    loaded = load_settings(written(tmp_path, settings))
    with pytest.raises(ConfigError) as error:
        load_credentials(loaded, {"CREDENTIALS_DIRECTORY": str(directory)})
    assert str(directory / name) in str(error.value)


def test_secret_that_nothing_needs_may_be_missing(tmp_path):
    directory = credentials(tmp_path)
    for name in ("component-secret", "smtp-password", "sms-password", "sign-in-secret", "ldap-password"):
        (directory / name).unlink()
    loaded = load_settings(written(tmp_path, valid(tmp_path)))
    found = load_credentials(loaded, {"CREDENTIALS_DIRECTORY": str(directory)})
    assert (found.smtp_password, found.sms_password) == (None, None)


@pytest.mark.parametrize("master", ["c2hvcnQ=", "not base64!", "A" * 43 + "å"])
def test_master_key_that_is_none_is_refused_without_being_shown(tmp_path, master):
    directory = credentials(tmp_path)
    (directory / "master-key").write_text(master)
    loaded = load_settings(written(tmp_path, valid(tmp_path)))
    with pytest.raises(ConfigError, match="master-key") as error:
        load_credentials(loaded, {"CREDENTIALS_DIRECTORY": str(directory)})
    assert master not in str(error.value)


def test_ticket_keys_must_be_there_and_the_directory_named(tmp_path):
    directory = credentials(tmp_path)
    for path in directory.glob("ticket-keys_*"):
        path.unlink()
    loaded = load_settings(written(tmp_path, valid(tmp_path)))
    with pytest.raises(ConfigError, match="no ticket key"):
        load_credentials(loaded, {"CREDENTIALS_DIRECTORY": str(directory)})
    with pytest.raises(ConfigError, match="CREDENTIALS_DIRECTORY"):
        load_credentials(loaded, {})


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"a.retired.pem": "good"}, "one active key, there are 0"),
        ({"a.active.pem": "good", "b.active.pem": "good"}, "one active key, there are 2"),
        ({"a.pem": "good"}, "must be called"),
        ({".active.pem": "good"}, "must be called"),
        ({"a.current.pem": "good"}, "must be called"),
        ({"a.active.pem": "rubbish"}, "not a private key"),
        ({"a.active.pem": "weak"}, "2048 bits or more"),
        ({"a.active.pem": "ec"}, "must be RSA"),
    ],
)
def test_ticket_keys_that_cannot_sign_are_named(tmp_path, files, what):
    (good,) = read(tmp_path).ticket_keys.values()
    contents = {"good": good, "rubbish": b"-----BEGIN-----", "weak": WEAK, "ec": EC}
    with pytest.raises(ConfigError, match=what) as error:
        TicketKeys({name: contents[content] for name, content in files.items()})
    assert str(error.value).startswith("ticket-keys: ")


def _pem(key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


WEAK = _pem(rsa.generate_private_key(65537, 1024))  # noqa: S505
EC = _pem(ec.generate_private_key(ec.SECP256R1()))


def test_sms_go_to_the_regions_own_country_and_two_thousand_a_day_unless_it_is_said(tmp_path):
    settings = valid(tmp_path)
    assert load_settings(written(tmp_path, settings)).sms_rules == SmsRules(("+46",), 2000)
    settings["default_region"] = "NO"
    assert load_settings(written(tmp_path, settings)).sms_rules.prefixes == ("+47",)
    settings["sms"] |= {"prefixes": ["+46", "+358"], "per_day": 50}
    assert load_settings(written(tmp_path, settings)).sms_rules == SmsRules(("+46", "+358"), 50)


def test_methods_are_what_is_set_up(tmp_path):
    settings = valid(tmp_path)
    assert load_settings(written(tmp_path, settings)).methods == {Method.SMS, Method.PASSKEY, Method.TOTP}
    settings["bankid"] = BANKID
    assert load_settings(written(tmp_path, settings)).methods == PARTICIPANT_METHODS | {Method.BANKID}
    settings["ldap"] = LDAP
    assert Method.LDAP in load_settings(written(tmp_path, settings)).methods


@pytest.mark.parametrize("server", ["ldaps://h", "ldap://h:389", "LDAPS://h.example.org/", "ldaps://[2001:db8::1]:636"])
def test_servers_of_the_directory_are_hosts_with_or_without_a_port(tmp_path, server):
    settings = valid(tmp_path) | {"ldap": LDAP | {"servers": [server]}}
    assert load_settings(written(tmp_path, settings)).ldap.servers == (server,)


def test_key_that_is_there_twice_is_named(tmp_path):
    path = written(tmp_path, valid(tmp_path))
    path.write_text(path.read_text("utf-8") + "organisation: Another Ltd\n", "utf-8")
    assert "“organisation” is there twice" in refused(path)
