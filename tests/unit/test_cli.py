"""The admin command: what it prints is one line, what it makes is for its owner alone, what is wrong ends with 78."""

import os
import re
import stat

import pytest
from click.testing import CliRunner
from tests.unit.certificates import Authority
from tests.unit.settings import BANKID, COMPONENT_SECRET, LDAP, credentials, valid, written

from sluss.cli import main
from sluss.store.schema import REVISION


@pytest.fixture
def sluss(tmp_path, monkeypatch):
    """Runs `sluss --config … <arguments>` with the secrets at hand."""
    path = written(tmp_path, valid(tmp_path))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials(tmp_path)))
    monkeypatch.setattr("sluss.policy_file.POLICY_PATH", tmp_path / "policy.yml")
    return lambda *arguments: CliRunner().invoke(main, ["--config", str(path), *arguments])


@pytest.fixture
def installed(sluss):
    assert sluss("database", "upgrade").output == f"schema {REVISION}\n"
    return sluss


def one_line(result, code=os.EX_CONFIG) -> str:
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("sluss: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    return result.stderr


def test_check_says_ok(sluss):
    result = sluss("check")
    assert (result.exit_code, result.output) == (0, "ok\n")


@pytest.mark.parametrize("arguments", [("check",), ("serve",), ("organiser", "list")])
def test_wrong_setting_is_one_line_and_exit_78(sluss, tmp_path, arguments):
    written(tmp_path, valid(tmp_path) | {"colour": "red"})
    assert f"{tmp_path}/sluss.yml: colour: is not a setting" in one_line(sluss(*arguments))


def test_missing_secret_is_one_line_and_exit_78(sluss, tmp_path):
    (tmp_path / "credentials" / "master-key").unlink()
    assert "master-key: secret is missing" in one_line(sluss("check"))
    assert sluss("check", "--without-credentials").output == "ok\n"


def test_wrong_sender_is_one_line_and_exit_78(installed, tmp_path):
    settings = valid(tmp_path)
    settings["mail"]["sender"] = "nobody"
    written(tmp_path, settings)
    assert "mail.sender" in one_line(installed("check"))


def test_broken_ticket_key_is_one_line_and_exit_78(sluss, tmp_path):
    (key,) = (tmp_path / "credentials").glob("ticket-keys_*")
    key.write_text("rubbish")
    assert "not a private key" in one_line(sluss("check"))


@pytest.mark.parametrize("arguments", [("serve",), ("organiser", "list")])
def test_database_without_a_schema_is_one_line_and_exit_78(sluss, arguments):
    assert "cannot be opened" in one_line(sluss(*arguments))  # no directory yet
    sluss("database", "upgrade")
    assert sluss("organiser", "list").exit_code == 0


def test_bankid_that_cannot_be_used_is_one_line_and_exit_78(sluss, tmp_path):
    authority = Authority(tmp_path)
    settings = valid(tmp_path) | {"bankid": BANKID | {"authority": str(authority.file)}}
    written(tmp_path, settings)
    for name, file in zip(("bankid-certificate", "bankid-key"), authority.issue("demo"), strict=True):
        (tmp_path / "credentials" / name).write_bytes(file.read_bytes())
    assert sluss("check").output == "ok\n"
    (tmp_path / "credentials" / "bankid-key").write_text("rubbish")
    assert "bankid-key: cannot be used" in one_line(sluss("check"))
    written(tmp_path, settings | {"bankid": BANKID})
    assert "bankid.authority: /etc/sluss/bankid-authority.pem" in one_line(sluss("check"))


def test_directory_whose_authority_cannot_be_read_is_one_line_and_exit_78(sluss, tmp_path):
    authority = Authority(tmp_path)
    written(tmp_path, valid(tmp_path) | {"ldap": LDAP | {"authority": str(authority.file)}})
    assert sluss("check").output == "ok\n"
    written(tmp_path, valid(tmp_path) | {"ldap": LDAP})
    assert "ldap.authority: /etc/sluss/ldap-authority.pem: cannot be used" in one_line(sluss("check"))


def test_organiser_is_handed_over_to_the_directory(sluss, tmp_path):
    sluss("database", "upgrade")
    assert "ldap: no directory is set up" in one_line(sluss("organiser", "hand-over", "eva@example.org"))
    written(tmp_path, valid(tmp_path) | {"ldap": LDAP | {"authority": str(Authority(tmp_path).file)}})
    link = sluss("organiser", "add", "--name", "Eva Ek", "--email", "eva@example.org").output
    assert "/enrol/" in link
    refused = sluss("organiser", "hand-over", "eva@example.org")  # not enrolled: there is no password to take away
    assert refused.exit_code
    assert "no organiser or auditor eva@example.org with a password here" in refused.output


def test_policy_check_knows_what_is_set_up(sluss, tmp_path):
    assert "secret: nobody can enter with what is set up (passkey, sms, totp)" in sluss("policy", "check").output
    written(tmp_path, valid(tmp_path) | {"bankid": BANKID})
    assert "nobody can enter" not in sluss("policy", "check").output
    assert "BankID" in sluss("policy", "explain", "secret").output
    (tmp_path / "sluss.yml").unlink()  # as before the first settings are written
    assert "nobody can enter with what is set up (passkey, sms, totp)" in sluss("policy", "check").output


def test_keys_init_makes_one_key_for_its_owner_alone_and_keeps_it(sluss, tmp_path):
    directory = tmp_path / "new" / "keys"
    old = os.umask(0)
    try:
        first = sluss("keys", "init", str(directory))
    finally:
        os.umask(old)
    second = sluss("keys", "init", str(directory))
    kid = re.fullmatch(r"created (\d{8}-[0-9a-f]{8})\n", first.output)[1]
    assert second.output == f"exists {kid}\n"
    (key,) = directory.iterdir()
    assert key.name == f"{kid}.active.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_keys_init_needs_no_settings(tmp_path):
    result = CliRunner().invoke(main, ["--config", "/nonexistent", "keys", "init", str(tmp_path)])
    assert result.exit_code == 0


def test_database_upgrade_can_run_again(installed):
    assert installed("database", "upgrade").output == f"schema {REVISION}\n"


def test_organiser_add_prints_one_link(installed):
    added = installed("organiser", "add", "--name", "Eva Ek", "--email", "eva@example.org")
    assert re.fullmatch(r"https://portal\.sluss\.test/enrol/[\w-]{43}\n", added.stdout)
    assert added.stderr == ""
    again = installed("organiser", "add", "--name", "Eva Ek", "--email", "EVA@example.org")
    assert again.stdout != added.stdout  # not yet enrolled: a new link
    assert installed("organiser", "list").stdout == "eva@example.org\tEva Ek\tnot enrolled\n"


def test_auditor_is_added_as_one_and_stays_one(installed):
    auditor = ("organiser", "add", "--name", "Ada Alm", "--email", "ada@example.org")
    assert installed(*auditor, "--auditor").exit_code == 0
    assert installed(*auditor, "--role", "auditor").exit_code == 0
    assert "There is an account with this address already." in one_line(installed(*auditor), code=1)
    assert installed("organiser", "list").stdout == "ada@example.org\tAda Alm\tnot enrolled\tauditor\n"


def test_organiser_is_unlocked_by_their_address_and_it_is_audited(installed):
    installed("organiser", "add", "--name", "Eva Ek", "--email", "eva@example.org")
    assert installed("organiser", "unlock", "eva@example.org").stdout == "unlocked eva@example.org\n"
    assert re.search(r" unlocked done by=admin subject=organiser:\w+\n$", installed("audit", "show").stdout)
    assert "no organiser nobody@example.org" in one_line(installed("organiser", "unlock", "nobody@example.org"), code=1)


def test_admin_is_added_on_the_host(installed):
    added = installed("organiser", "add", "--name", "Ada Alm", "--email", "ada@example.org", "--role", "admin")
    assert "/enrol/" in added.stdout
    assert installed("organiser", "list").stdout == "ada@example.org\tAda Alm\tnot enrolled\tadmin\n"


def test_account_is_reset_and_removed_on_the_host(installed):
    for email in ("eva@example.org", "olle@example.org"):
        installed("organiser", "add", "--name", "Eva Ek", "--email", email)
    reset = installed("organiser", "reset", "eva@example.org")
    assert re.fullmatch(r"https://portal\.sluss\.test/enrol/[\w-]{43}\n", reset.stdout)
    removed = installed("organiser", "remove", "eva@example.org", "--successor", "olle@example.org")
    assert removed.stdout == "removed eva@example.org\n"
    assert installed("organiser", "list").stdout == "olle@example.org\tEva Ek\tnot enrolled\n"
    assert "no organiser eva@example.org" in one_line(installed("organiser", "remove", "eva@example.org"), code=1)
    shown = installed("audit", "show").stdout
    assert re.search(r" account-reset done by=admin subject=organiser:\w+\n", shown)
    assert re.search(r" account-removed done by=admin subject=organiser:\w+ to=\w+\n", shown)


@pytest.mark.parametrize(("name", "email"), [("", "eva@example.org"), ("Eva", "eva"), ("Eva\x1b[2J", "e@example.org")])
def test_organiser_that_is_none_is_one_line(installed, name, email):
    one_line(installed("organiser", "add", "--name", name, "--email", email), code=1)
    assert installed("organiser", "list").stdout == ""


def test_meeting_add_invites_and_prints_its_id(installed):
    installed("organiser", "add", "--name", "Eva Ek", "--email", "eva@example.org")
    arguments = ("meeting", "add", "--organiser", "eva@example.org", "--title", "Budget")
    anna = ("--participant", "Anna Lindberg, anna@example.org, 070-174 06 05")
    assert re.fullmatch(r"[0-9a-f]{32}\n", installed(*arguments, "--in", "5", *anna).stdout)
    wrong = installed(*arguments, "--in", "5", *anna, "--participant", "A,a@example.org,12")
    assert "--participant number 2: " in wrong.stderr
    norwegian = installed(*arguments, "--in", "5", "--participant", "Kari, kari@example.org, +47 406 12 345")
    assert "--participant number 1: Codes are not sent to numbers in this country." in norwegian.stderr
    namesake = installed(*arguments, "--in", "5", *anna, "--participant", "EVA EK, eva2@example.org, 070-174 06 06")
    assert "--participant number 2: Two people have this name." in namesake.stderr
    assert "say either --start or --in" in installed(*arguments, "--in", "5", "--start", "2099-01-01T10:00").stderr
    stranger = ("meeting", "add", "--organiser", "nobody@example.org", "--title", "Budget", "--in", "5")
    assert "no organiser" in one_line(installed(*stranger), code=1)


@pytest.mark.parametrize(
    "wrong",
    [
        ("--start", "tomorrow"),
        ("--in", "5", "--time-zone", "Mars/Olympus"),
        ("--in", "999999999999"),
        (),
        ("--in", "5", "--participant", "just a name"),
    ],
)
def test_meeting_that_cannot_be_is_said_without_a_traceback(installed, wrong):
    installed("organiser", "add", "--name", "Eva Ek", "--email", "eva@example.org")
    result = installed("meeting", "add", "--organiser", "eva@example.org", "--title", "T", *wrong)
    assert result.exit_code in (1, 2)
    assert isinstance(result.exception, SystemExit), result.exception


def test_no_command_shows_a_secret(installed):
    for arguments in (("check",), ("organiser", "list"), ("--help",), ("serve", "--help")):
        assert COMPONENT_SECRET not in installed(*arguments).output
