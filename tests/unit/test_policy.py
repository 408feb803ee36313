"""The policy: what does not load, what the shipped one says, and that its explanation is what happens."""

import dataclasses
import os
import re
from datetime import timedelta

import pytest
from click.testing import CliRunner
from tests.unit import settings
from tests.unit.policies import edited, loaded, shipped, written

from sluss.cli import main
from sluss.domain.assurance import SINGLE_FACTORS, AssuranceLevel, Identity, Method, Purpose, worth
from sluss.domain.errors import ConfigError
from sluss.domain.explain import explain
from sluss.domain.gate import Role
from sluss.domain.policy import BOUNDS, Encryption
from sluss.domain.policy import written as in_file
from sluss.factors import PARTICIPANT_METHODS
from sluss.policy_file import default_policy, installed_policy, load_policy
from sluss.web.pages import Texts

REMOVED = object()
WRONG = [
    ("colour", "red", "colour: is not a key of a policy"),
    ("classes", REMOVED, "classes: is missing"),
    ("classes", {}, "length >= 1"),
    ("classes.Top secret", {}, "called by lower-case letters"),
    ("classes.internal", 5, "classes.internal: "),
    ("classes.internal.colour", "red", "is not a key of a class"),
    ("classes.internal.jitsi.colour", "red", "is not a key of a class"),
    ("classes.internal.title", "Intern", "`object`"),
    ("classes.internal.title.sv", REMOVED, "is missing"),
    ("classes.internal.title.en", "", ">= 1"),
    ("classes.internal.view", REMOVED, "is missing"),
    ("classes.internal.view.methods", [], "at least one method"),
    ("classes.internal.join.methods", [], "at least one method"),
    ("classes.internal.view.methods", ["sms", "sms"], "twice"),
    ("classes.internal.view.methods", "sms", "`array`"),
    ("classes.internal.join.methods", ["pigeon"], "there is no method “pigeon”; there are sms, totp"),
    *(("classes.secret.join.methods", [word], "is one factor, and two are needed") for word in SINGLE_FACTORS),
    ("classes.secret.join.methods", ["sms"], "“sms” could never be used: no method of view"),
    ("classes.internal.view.methods", ["sms"], "no method of view"),
    ("classes.internal.view.fresh", "8d", "must be from 1m to 7d"),
    ("classes.internal.view.fresh", 12, "text"),
    ("classes.internal.join.fresh", "12 hours", "such as 90s, 5m, 12h or 30d"),
    ("classes.internal.join.fresh", "0s", "must be from 1m to 30m"),
    ("classes.internal.join.fresh", "31m", "must be from 1m to 30m"),
    ("classes.internal.join.fresh", "-5m", "such as"),
    ("classes.internal.grace", "16m", "must be from 0s to 15m"),
    ("classes.internal.retention", "0d", "must be from 1d to 3650d"),
    ("classes.internal.retention", "23h", "must be from 1d to 3650d"),
    ("classes.internal.retention", "999999d", "must be from 1d to 3650d"),
    ("classes.internal.attendees", "some", "must be shown or hidden"),
    ("classes.internal.waiting_room", "yes", "`bool`"),
    ("classes.internal.devices", 0, "must be from 1 to 10"),
    ("classes.internal.devices", 11, "must be from 1 to 10"),
    ("classes.internal.devices", "two", "`int`"),
    ("classes.internal.keep_origin", REMOVED, "is missing"),
    ("classes.internal.jitsi.recording", "required", "must be allowed or forbidden"),
    ("classes.internal.jitsi.chat", False, "must be allowed or forbidden"),  # what YAML makes of `off`
    ("classes.internal.jitsi.end_to_end_encryption", "on", "must be forbidden or allowed or required"),
]


def changed(key: str, value: object) -> dict:
    policy = shipped()
    *parents, last = key.split(".")
    section = policy
    for parent in parents:
        section = section[parent]
    if value is REMOVED:
        del section[last]
    else:
        section[last] = value
    return policy


@pytest.mark.parametrize(("key", "value", "what"), WRONG)
def test_wrong_policy_is_one_line_naming_file_and_key(tmp_path, key, value, what):
    path = written(tmp_path, changed(key, value))
    with pytest.raises(ConfigError) as error:
        load_policy(path)
    line = str(error.value)
    assert line.startswith(f"{path}: {key.removesuffix('.colour')}" if "methods" not in key else f"{path}: classes.")
    assert what in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("classes: [", "not valid YAML"),
        ("", "must be a mapping of a policy"),
        ("classes:\n  internal: {}\n  internal: {}\n", "line 3 not valid YAML: “internal” is there twice"),
        ("classes: {no: {}}", "classes.False: a class is called by"),
    ],
)
def test_text_that_is_no_policy_is_one_line(tmp_path, text, what):
    path = tmp_path / "policy.yml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(what)):
        load_policy(path)


def test_every_method_is_two_factors_and_has_a_worth_in_both_frameworks():
    for method in Method:
        for role in Role:
            value = worth(method, role)
            assert len(set(value.factors)) >= 2, method
            assert value.amr[-1] == "mfa", method
            assert value.trust in (2, 3, 4), method
    assert {m for m in Method if worth(m).restricted} == {Method.SMS}
    assert worth(Method.SMS).acr is worth(Method.TOTP).acr is AssuranceLevel.AAL1  # a mailed link is no authenticator
    assert worth(Method.TOTP, Role.ORGANISER).acr is AssuranceLevel.AAL2
    assert {worth(m).identity for m in Method} == set(Identity)


def test_method_of_one_factor_would_not_load(monkeypatch, tmp_path):
    weak = dataclasses.replace(worth(Method.SMS), factors=("link",))
    monkeypatch.setattr("sluss.domain.policy.worth", lambda method: weak if method is Method.SMS else worth(method))
    with pytest.raises(ConfigError, match=r"classes.internal.view.methods: “sms” is one factor"):
        loaded(tmp_path, shipped())


def test_shipped_policy_is_the_table_of_the_mission():
    classes = default_policy().classes
    assert list(classes) == ["internal", "confidential", "secret"]
    sms, totp, passkey, bankid, sign_in, sign_in_high, smartcard, _ldap = Method
    accepted = {
        "internal": {sms, totp, passkey, bankid, sign_in, sign_in_high, smartcard},
        "confidential": {totp, passkey, bankid, sign_in, sign_in_high, smartcard},
        "secret": {passkey, bankid, sign_in_high, smartcard},
    }
    minutes, hours = timedelta(minutes=1), timedelta(hours=1)
    for name, one in classes.items():
        for purpose in Purpose:
            assert {m for m in Method if one.requirement(purpose).accepts(m)} == accepted[name]
        assert (one.view.fresh, one.join.fresh) == (12 * hours, 5 * minutes)
        assert one.grace == (timedelta(0) if name == "secret" else 2 * minutes)
        assert one.attendees_shown == (name != "secret")
        assert one.features.chat
        assert one.features.screen_sharing
        assert not one.features.recording
    assert [c.features.end_to_end_encryption for c in classes.values()] == [
        Encryption.ALLOWED,
        Encryption.ALLOWED,
        Encryption.REQUIRED,
    ]


def test_installation_without_the_file_runs_on_the_shipped_policy(tmp_path, monkeypatch):
    place = tmp_path / "policy.yml"
    monkeypatch.setattr("sluss.policy_file.POLICY_PATH", place)
    assert installed_policy() == default_policy()
    written(tmp_path, edited())
    assert list(installed_policy().classes) == ["internal", "confidential", "board"]
    place.unlink()
    place.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="cannot be read"):  # a file that was meant is not passed over
        installed_policy()
    with pytest.raises(ConfigError, match="cannot be read"):
        installed_policy(tmp_path / "other.yml")


def test_length_of_time_is_written_as_it_is_read():
    for least, most in BOUNDS.values():
        for length in (least, most):
            assert re.fullmatch(r"\d+[smhd]", in_file(length))
    assert [in_file(timedelta(seconds=s)) for s in (0, 90, 300, 43200, 86400 * 30)] == ["0s", "90s", "5m", "12h", "30d"]


def test_class_that_left_the_policy_lets_nobody_in_and_is_kept_shortest():
    gone = default_policy().of("cosmic")
    assert gone.title["sv"] == "cosmic"
    assert explain(gone, Method).ways == ()
    assert gone.ways_in(Method) == ()
    assert (gone.retention, gone.attendees_shown, gone.features.chat) == (timedelta(days=7), False, False)


def test_way_in_needs_a_method_to_see_by_that_knows_the_same_person(tmp_path):
    internal = loaded(tmp_path, edited()).classes["internal"]  # seen by sms or bankid, entered by bankid
    assert internal.ways_in([Method.SMS]) == ()
    assert internal.ways_in([Method.SMS, Method.BANKID]) == (Method.BANKID,)


# The commands


@pytest.fixture
def sluss(tmp_path, monkeypatch):
    """Runs `sluss <arguments>` where no policy is installed yet."""
    monkeypatch.setattr("sluss.policy_file.POLICY_PATH", tmp_path / "policy.yml")
    return lambda *arguments: CliRunner().invoke(main, ["--config", "/nonexistent", *arguments])


def test_check_names_the_classes_that_nobody_can_enter(sluss, tmp_path):
    result = sluss("policy", "check")
    assert result.exit_code == 0
    first, *others = result.output.splitlines()
    assert re.fullmatch(r"ok .*/default-policy.yml", first)
    assert [line.partition(":")[0] for line in others] == ["confidential", "secret"]
    takes = "it takes bankid or sign_in_high or smartcard"
    assert others[1].endswith(f"nobody can enter with what is set up (passkey, sms, totp): {takes}")
    assert sluss("policy", "check", str(written(tmp_path, edited()))).output.count("nobody can enter") == 3
    assert sluss("policy", "check").output.count("nobody can enter") == 3  # it is where it belongs now


def test_check_and_explain_follow_the_settings(sluss, tmp_path):
    path = str(settings.written(tmp_path, settings.valid(tmp_path) | {"sign_in": settings.SIGN_IN}))
    assert "nobody can enter" not in sluss("--config", path, "policy", "check").output
    own = [x for x in sluss("--config", path, "policy", "explain", "secret").output.splitlines() if "sign-in" in x]
    assert own
    assert not [line for line in own if "not set up here" in line]
    only = settings.SIGN_IN | {"levels": {"mfa": "sign_in"}}
    path = str(settings.written(tmp_path, settings.valid(tmp_path) | {"sign_in": only}))
    said = sluss("--config", path, "policy", "check").output.splitlines()
    assert [line.partition(":")[0] for line in said[1:]] == ["secret"]


@pytest.mark.parametrize("arguments", [("policy", "check"), ("policy", "explain", "internal")])
def test_wrong_policy_ends_with_78(sluss, tmp_path, arguments):
    path = written(tmp_path, changed("classes.internal.devices", 0))
    result = sluss(*arguments)
    assert (result.exit_code, result.stdout) == (os.EX_CONFIG, "")
    assert result.stderr == f"sluss: {path}: classes.internal.devices: must be from 1 to 10\n"
    assert sluss("--policy", str(tmp_path / "no.yml"), *arguments).exit_code == os.EX_CONFIG


@pytest.mark.parametrize("lang", ["en", "sv"])
def test_explain_says_everything_that_the_class_says(sluss, lang):
    for name, one in default_policy().classes.items():
        result = sluss("policy", "explain", name, "--lang", lang)
        assert result.exit_code == 0, result.output
        assert one.title[lang] in result.output
        words, ways = Texts(lang), explain(one, ()).ways
        proofs = [line[2:].split("; ")[0] for line in result.output.splitlines() if line.startswith("- ")]
        assert proofs == [words.method(way.method) for way in ways]  # to see it, then to enter
        assert result.output.count(words.gettext("not set up here")) == sum(
            way.method not in PARTICIPANT_METHODS for way in ways
        )
        for number in (one.view.fresh.seconds // 3600, one.join.fresh.seconds // 60, one.retention.days):
            assert re.search(rf"\b{number}\b", result.output)
    unknown = sluss("policy", "explain", "cosmic")
    assert (unknown.exit_code, unknown.stdout) == (os.EX_CONFIG, "")
    assert "there are internal, confidential, secret" in unknown.stderr


def test_explain_says_what_each_key_changes(sluss, tmp_path):
    said = sluss("policy", "explain", "internal").output
    other = {
        "grace": "0s",
        "attendees": "hidden",
        "waiting_room": True,
        "devices": 1,
        "keep_origin": False,
        "retention": "30d",
        "view": {"methods": ["sms"], "fresh": "1h"},
        "join": {"methods": ["sms"], "fresh": "1m"},
    }
    features = {"recording": "allowed", "chat": "forbidden", "screen_sharing": "forbidden"}
    policies = [changed(f"classes.internal.{key}", value) for key, value in other.items() if key != "view"]
    policies += [changed(f"classes.internal.jitsi.{key}", value) for key, value in features.items()]
    policies += [changed("classes.internal.jitsi.end_to_end_encryption", "forbidden")]
    for policy in policies:
        written(tmp_path, policy)
        assert sluss("policy", "explain", "internal").output not in ("", said)
