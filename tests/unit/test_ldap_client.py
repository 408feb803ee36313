"""The directory's client against a real slapd: who it finds, whose password it is, and what it does not put up with."""

import asyncio
import socket
import ssl
import subprocess
import threading

import pytest
from tests.unit.certificates import Authority
from tests.unit.slapd import ANNA, BASE, EVA, ORGANISERS, PASSWORD, RUT, Slapd, client, dn, group, running

from sluss.domain.errors import ConfigError, DirectoryUnavailable
from sluss.factors import ldap as factor
from sluss.factors.ldap import KINDS, Ldap, escaped


@pytest.fixture(scope="module")
def slapd(tmp_path_factory):
    with running(tmp_path_factory.mktemp("slapd")) as directory:
        yield directory


@pytest.fixture(params=["starttls", "ldaps"])
def ldap(slapd, request):
    with client(slapd.settings(servers=(getattr(slapd, request.param),))) as one:
        yield one


async def test_person_is_found_by_address_with_what_is_known_of_them(ldap):
    anna = await ldap.by_address("ANNA@example.org")
    assert (anna.name, anna.emails, anna.mobile) == (
        "Anna Lindberg",
        (ANNA, "anna.lindberg@example.org"),
        "070-174 06 05",
    )
    assert anna.dn == dn("anna")
    assert len(anna.id) == 36
    assert (await ldap.by_id(anna.id)).dn == anna.dn
    assert (await ldap.by_address("anna.lindberg@example.org")).id == anna.id


async def test_groups_say_who_is_what(ldap):
    roles = [(await ldap.by_address(address, organiser=True)).roles for address in (EVA, RUT, ANNA)]
    assert roles == [{"organiser"}, {"auditor"}, set()]


def test_question_is_sent_at_once_and_waits_for_no_acknowledgement(ldap):
    with ldap._connected() as connection:
        assert connection.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.usefixtures("forgiving")
async def test_password_is_checked_by_the_directory(ldap):
    assert await ldap.knows(dn("anna"), PASSWORD)
    for wrong in (PASSWORD.upper(), f"{PASSWORD} ", "x" * 1000, "\u00ad"):
        assert not await ldap.knows(dn("anna"), wrong)
    assert not await ldap.knows(ldap.nobody(), PASSWORD)
    assert not await ldap.knows(BASE, PASSWORD), "an entry without a password"


@pytest.fixture
def forgiving(slapd):
    """A directory that has forgotten by the end which passwords were wrong."""
    yield
    slapd.forget_failures("anna")


@pytest.mark.parametrize("password", ["", "\0", f"{PASSWORD}\0"])
async def test_empty_password_is_never_sent(slapd, monkeypatch, password):
    """A server may answer it with success (RFC 4513, 5.1.2)."""
    with client(slapd.settings()) as ldap:
        monkeypatch.setattr(ldap, "_bind", lambda *_: pytest.fail("it was sent"))
        assert not await ldap.knows(dn("anna"), password)
        assert not await ldap.knows("", PASSWORD)


@pytest.mark.parametrize("said", ["*", "anna*", "anna@example.org)(uid=*", "\\2a", "*)(|(mail=*", "\0", "å" * 300])
async def test_what_is_typed_stays_a_value(ldap, said):
    assert await ldap.by_address(said, organiser=True) is None
    assert await ldap.by_id(said) is None
    assert await ldap.named([said]) == []


def test_characters_of_filters_are_escaped():
    assert escaped("a*b(c)d\\e\0f") == "a\\2ab\\28c\\29d\\5ce\\00f"


async def test_address_of_two_is_nobodys(ldap):
    assert await ldap.by_address("twins@example.org") is None


async def test_people_are_those_that_the_filter_says(slapd):
    with client(slapd.settings(people="(&(objectClass=inetOrgPerson)(!(uid=anna)))")) as ldap:
        assert await ldap.by_address(ANNA) is None
        assert await ldap.by_address(EVA) is not None
        assert await ldap.named(["anna"]) == []


async def test_colleagues_are_found_by_words_of_their_name_or_the_beginning_of_their_address(ldap):
    async def found(*words):
        return [one.name for one in await ldap.named(words)]

    assert await found("LINDBERG", "ann") == ["Anna Lindberg"]
    assert await found("anna@ex") == ["Anna Lindberg"]
    assert await found("(konsult)") == ["Bo Åström (konsult)"]
    assert await found("åst") == ["Bo Åström (konsult)"]
    assert await found("nobody") == []
    assert await found() == []


async def test_no_more_colleagues_are_found_than_are_shown(slapd, monkeypatch):
    monkeypatch.setattr(factor, "MOST_FOUND", 2)
    with client(slapd.settings()) as ldap:
        assert len(await ldap.named(["e"])) == 2


async def test_certificate_of_another_authority_is_refused(slapd, tmp_path):
    for server in (slapd.starttls, slapd.ldaps):
        with client(slapd.settings(servers=(server,), authority=Authority(tmp_path).file)) as ldap:
            with pytest.raises(DirectoryUnavailable, match=f"{server}: unable to get|{server}: .*certificate"):
                await ldap.by_address(ANNA)
            with pytest.raises(DirectoryUnavailable):
                await ldap.knows(dn("anna"), PASSWORD)


async def test_certificate_for_another_name_is_refused(slapd):
    for server in (slapd.starttls, slapd.ldaps):
        other = server.replace("localhost", "127.0.0.1")
        with client(slapd.settings(servers=(other,))) as ldap, pytest.raises(DirectoryUnavailable, match="IP address"):
            await ldap.by_address(ANNA)


class Fake:
    """Listens, says one thing to whoever connects, and keeps what they say."""

    def __init__(self, answer: bytes | None) -> None:
        self._answer, self.heard = answer, b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ldap://localhost:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self._listener:
            connection, _ = self._listener.accept()
            with connection:
                while said := connection.recv(4096):
                    self.heard += said
                    if self._answer:
                        connection.sendall(self._answer)

    def end(self) -> None:
        self._thread.join(30)


REFUSES = bytes.fromhex("300c02010178070a013404000400")  # extended response to message 1: unavailable (52)
ACCEPTS = bytes.fromhex("300c02010178070a010004000400")  # success, and then no TLS


@pytest.mark.parametrize("answer", [REFUSES, ACCEPTS])
async def test_no_password_goes_out_where_there_is_no_tls(slapd, answer):
    fake = Fake(answer)
    with client(slapd.settings(servers=(fake.url,), password="never sent 5a")) as ldap:
        with pytest.raises(DirectoryUnavailable):
            await ldap.by_address(ANNA)
        fake.end()
    assert b"1.3.6.1.4.1.1466.20037" in fake.heard, "it asked for StartTLS"
    assert b"never sent" not in fake.heard
    assert BASE.encode() not in fake.heard


async def test_library_that_goes_on_without_tls_is_stopped(slapd, monkeypatch):
    monkeypatch.setattr("ldap3.Connection.start_tls", lambda *_, **__: False)
    with client(slapd.settings()) as ldap:
        monkeypatch.setattr("ldap3.Connection.rebind", lambda *_, **__: pytest.fail("it said its password"))
        with pytest.raises(DirectoryUnavailable):
            await ldap.by_address(ANNA)
        with pytest.raises(DirectoryUnavailable):
            await ldap.knows(dn("anna"), PASSWORD)


async def test_another_server_is_asked_when_one_is_away_and_first_the_next_time(slapd, monkeypatch):
    away = "ldaps://localhost:9"
    with client(slapd.settings(servers=(away, slapd.ldaps))) as ldap:
        asked = []
        to = ldap._to
        monkeypatch.setattr(ldap, "_to", lambda server: asked.append(server) or to(server))
        assert await ldap.by_address(ANNA)
        assert await ldap.by_address(ANNA)
        assert asked == [away, slapd.ldaps, slapd.ldaps]


@pytest.mark.usefixtures("forgiving")
async def test_password_goes_to_one_server_alone(slapd):
    """Each that says no counts a wrong one."""
    with client(slapd.settings(servers=(slapd.starttls, slapd.ldaps))) as ldap:
        before = slapd.failures("anna")
        assert not await ldap.knows(dn("anna"), "wrong")
        assert slapd.failures("anna") == before + 1


async def test_service_account_that_is_refused_is_no_answer(slapd):
    said = pytest.raises(DirectoryUnavailable, match=r"the service account: result 49")
    with client(slapd.settings(password="old one")) as ldap, said:
        await ldap.by_address(ANNA)


async def test_search_that_fails_is_no_answer(slapd):
    said = pytest.raises(DirectoryUnavailable, match=f"{slapd.starttls}: search: result 32")
    with client(slapd.settings(base="dc=elsewhere,dc=test")) as ldap, said:
        await ldap.by_address(ANNA)


async def test_directory_that_takes_too_long_is_named(slapd, monkeypatch):
    monkeypatch.setattr(factor, "ALL_SECONDS", 0.1)
    silent = Fake(None)
    said = pytest.raises(DirectoryUnavailable, match=f"{silent.url}, {slapd.ldaps}: no answer in time")
    with client(slapd.settings(servers=(silent.url, slapd.ldaps))) as ldap, said:
        await ldap.by_address(ANNA)
    silent.end()


async def test_group_that_is_not_there_makes_nobody_anything(slapd, capsys):
    with client(slapd.settings(organisers=f"cn=gone,{BASE}")) as ldap:
        assert (await ldap.by_address(EVA, organiser=True)).roles == set()
    assert "directory_group_missing" in capsys.readouterr().out


async def test_slow_server_holds_up_nothing_else(slapd, monkeypatch):
    monkeypatch.setattr(factor, "ANSWER_SECONDS", 1)
    silent = Fake(None)
    with client(slapd.settings(servers=(silent.url,))) as ldap:
        asking = asyncio.ensure_future(ldap.by_address(ANNA))
        turns = 0
        while not asking.done():
            await asyncio.sleep(0.01)
            turns += 1
        assert turns > 20, "the event loop stood still"
        with pytest.raises(DirectoryUnavailable):
            await asking
    silent.end()


async def test_too_many_questions_at_once_are_refused(slapd, monkeypatch):
    monkeypatch.setattr(factor, "WAITING", 1)
    with client(slapd.settings()) as ldap:
        answers = await asyncio.gather(*(ldap.by_address(ANNA) for _ in range(3)), return_exceptions=True)
        assert [type(one).__name__ for one in answers] == ["Colleague", "DirectoryUnavailable", "DirectoryUnavailable"]
        assert await ldap.by_address(ANNA), "and later there is room again"


def test_authority_that_cannot_be_read_is_said_at_the_start(slapd, tmp_path):
    with pytest.raises(ConfigError, match=r"ldap.authority: .*: cannot be used"):
        Ldap(slapd.settings(authority=tmp_path / "none.pem"))


def test_tls_is_checked_and_new(slapd):
    with client(slapd.settings()) as ldap:
        context = ldap._tls._context
        assert context.check_hostname
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
        assert len(context.get_ca_certs()) == 1, "no other authority is trusted"


GUID = "00112233-4455-6677-8899-aabbccddeeff"
AD_BYTES = "MyIRAFVEd2aImaq7zN3u/w=="  # how Active Directory gives it: the first three groups backwards


def of_ad(uid: str, account: str, control: int, kind: str = "user") -> str:
    lines = [f"dn: {dn(uid)}", f"objectClass: {kind}", f"cn: {uid}", "sn: x", f"displayName: {uid}", "mobile: 070"]
    lines += [f"sAMAccountName: {account}", f"userPrincipalName: {account}@ad.test", f"objectGUID:: {AD_BYTES}"]
    lines += [f"userAccountControl: {control}", f"mail: {uid}@example.org", f"userPassword: {PASSWORD}"]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def ad(tmp_path_factory):
    """slapd with Active Directory's schema. Its rule for groups in groups slapd does not know."""
    people = [of_ad("anna", "annlin", 512), of_ad("gone", "gone", 514), of_ad("box", "box$", 4096, "computer")]
    with running(tmp_path_factory.mktemp("ad"), *people, group(ORGANISERS, dn("anna"))) as directory:
        yield directory


@pytest.fixture
def active(ad):
    with client(ad.settings(kind=KINDS["active-directory"])) as one:
        yield one


async def test_active_directory_knows_people_by_address_and_by_both_names(active):
    for name in ("anna@example.org", "annlin@ad.test", "ANNLIN"):
        assert (await active.by_address(name, organiser=True)).dn == dn("anna")
    assert await active.by_address("annlin@ad.test") is None, "a participant is known by the address alone"


async def test_object_guid_is_written_as_active_directory_does_and_found_again(active):
    anna = await active.by_address("anna@example.org")
    assert anna.id == GUID
    assert (await active.by_id(GUID)).dn == anna.dn
    assert await active.by_id("no guid)(x=*") is None


async def test_disabled_account_of_active_directory_is_nobody(active):
    assert await active.by_address("gone@example.org") is None
    assert await active.by_address("box@example.org") is None, "nor is a computer"


async def test_active_directory_is_asked_for_groups_in_groups(active):
    class Connection:
        def search(self, where, which, *_, **__):
            self.asked = where, which
            self.result, self.response = {"result": 0}, [{"type": "searchResEntry"}]

    connection = Connection()
    assert active._is_member(connection, "cn=Anna (x),dc=y", ORGANISERS)
    assert connection.asked == (ORGANISERS, "(member:1.2.840.113556.1.4.1941:=cn=Anna \\28x\\29,dc=y)")


def test_slapd_under_test_takes_no_password_without_tls(slapd: Slapd):
    command = ["ldapwhoami", "-x", "-H", f"ldap://127.0.0.1:{slapd.ports[0]}", "-D", dn("anna"), "-w", PASSWORD]
    assert "confidentiality required" in subprocess.run(command, capture_output=True, text=True, check=False).stderr
