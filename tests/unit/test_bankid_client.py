"""The client of BankID's API: what it sends and takes, whom it trusts, and that every failure has BankID's word."""

import asyncio
import base64
import hashlib
import hmac
import ssl

import aiohttp
import pytest
from tests.doubles.bankid.double import SIGNS, WAITS, failed, refused
from tests.unit.bankid import ANNA_SIGNS, HOME, NUMBER, serving
from tests.unit.certificates import Authority

from sluss.domain.errors import ConfigError
from sluss.factors import bankid
from sluss.factors.bankid import UNAVAILABLE, BankId, BankIdError, Order, State, mutual_tls

BACK = "https://portal.sluss.test/bankid/nonce"


@pytest.fixture
async def service(tmp_path):
    async with serving(tmp_path) as running:
        yield running


async def begin(service) -> Order:
    return await service.client.begin(HOME, "Åhlén & co", BACK)


def test_qr_code_is_the_published_one():
    # https://developers.bankid.com/how-to-guides/qr-code has this example.
    order = Order("", "", "67df3917-fa0d-44e5-b327-edcc928297f8", "d28db9a7-4cde-429e-a983-359be676944c")
    proof = "dc69358e712458a66a7525beef148ae8526b1c71610eff2c16cdffb4cdac9bf8"
    assert order.qr_code(0) == f"bankid.67df3917-fa0d-44e5-b327-edcc928297f8.0.{proof}"
    later = hmac.new(order.qr_secret.encode(), b"61", hashlib.sha256).hexdigest()
    assert order.qr_code(61) == f"bankid.{order.qr_token}.61.{later}"


async def test_order_says_where_the_person_is_what_they_see_and_no_number(service):
    await begin(service)
    asked = service.double.last.asked
    assert base64.b64decode(asked.pop("userVisibleData")).decode() == "Åhlén & co"
    assert asked == {
        "endUserIp": HOME,
        "userVisibleDataFormat": "simpleMarkdownV1",
        "returnUrl": BACK,
        "returnRisk": True,
    }


async def test_order_is_pending_then_complete_and_told_once(service):
    service.double.story = [WAITS, SIGNS, ANNA_SIGNS]
    order = await begin(service)
    hints = [(await service.client.collect(order)).hint for _ in range(2)]
    assert hints == ["outstandingTransaction", "userSign"]
    done = await service.client.collect(order)
    assert (done.state, done.risk) == (State.COMPLETE, "low")
    assert (done.person.personal_number, done.person.given_name, done.person.surname) == (
        NUMBER,
        "Anna Maria",
        "Lindberg",
    )
    with pytest.raises(BankIdError, match="invalidParameters"):
        await service.client.collect(order)


async def test_failed_order_says_why(service):
    service.double.story = [failed("expiredTransaction")]
    answer = await service.client.collect(await begin(service))
    assert (answer.state, answer.hint, answer.person) == (State.FAILED, "expiredTransaction", None)


async def test_cancelled_order_is_gone_at_bankid(service):
    order = await begin(service)
    await service.client.cancel(order)
    assert service.double.last.cancelled
    with pytest.raises(BankIdError, match="invalidParameters"):
        await service.client.collect(order)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "alreadyInProgress"),
        (400, "invalidParameters"),
        (401, "unauthorized"),
        (404, "notFound"),
        (408, "requestTimeout"),
        (500, "internalError"),
        (503, "Maintenance"),
    ],
)
async def test_refusal_has_bankids_word(service, status, code):
    service.double.on_auth = refused(status, code)
    with pytest.raises(BankIdError) as error:
        await begin(service)
    assert error.value.code == code
    service.double.on_auth = None
    service.double.story = [refused(status, code)]
    with pytest.raises(BankIdError) as error:
        await service.client.collect(await begin(service))
    assert error.value.code == code


async def test_answer_about_another_order_is_none(service):
    service.double.story = [ANNA_SIGNS | {"orderRef": "131daac9-16c6-4618-beb0-365768f37288"}]
    with pytest.raises(BankIdError, match="another order"):
        await service.client.collect(await begin(service))


@pytest.mark.parametrize(
    "answer", [{"status": "complete"}, {"status": "perhaps"}, {"status": "complete", "completionData": {"user": {}}}]
)
async def test_answer_that_is_none_is_no_yes(service, answer):
    service.double.story = [answer]
    with pytest.raises(BankIdError) as error:
        await service.client.collect(await begin(service))
    assert error.value.code == UNAVAILABLE


async def test_slow_service_is_no_answer(service, monkeypatch):
    monkeypatch.setattr(bankid, "_TIMEOUT_SECONDS", 0.05)
    service.double.hold = asyncio.Event()
    with pytest.raises(BankIdError, match="unavailable: TimeoutError"):
        await begin(service)
    service.double.hold.set()


async def test_service_of_another_authority_is_not_believed(service, tmp_path):
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    async with aiohttp.ClientSession() as session:
        client = BankId(session, service.url, mutual_tls(other.file, service.certificate, service.key))
        with pytest.raises(BankIdError, match="unavailable: ClientConnectorCertificateError"):
            await client.begin(HOME, "x", BACK)
    assert service.double.orders == []


async def test_client_without_its_certificate_gets_nothing(service):
    async with aiohttp.ClientSession() as session:
        client = BankId(session, service.url, ssl.create_default_context(cafile=service.authority))
        with pytest.raises(BankIdError, match=UNAVAILABLE):
            await client.begin(HOME, "x", BACK)
    assert service.double.orders == []


async def test_certificate_that_cannot_be_used_is_one_line_without_the_key(service, tmp_path):
    for authority, certificate, what in (
        (tmp_path / "none.pem", service.certificate, "bankid.authority: .*none.pem: .*No such file"),
        (service.key, service.certificate, "bankid.authority: "),
        (service.authority, service.authority, "demo.key: cannot be used"),
    ):
        with pytest.raises(ConfigError, match=what) as error:
            mutual_tls(authority, certificate, service.key)
        assert "PRIVATE" not in str(error.value)


async def test_orders_and_people_do_not_print_themselves(service):
    service.double.story = [ANNA_SIGNS]
    order = await begin(service)
    answer = await service.client.collect(order)
    printed = f"{order!r} {order} {answer!r} {answer.person!r}"
    for secret in (order.ref, order.start_token, order.qr_secret, NUMBER, "Lindberg"):
        assert secret not in printed
