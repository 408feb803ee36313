"""Mail through the organisation's own relay (SMTP, RFC 5321; STARTTLS, RFC 3207)."""

from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import localtime, make_msgid, parseaddr
from typing import Literal, Protocol

import aiosmtplib

from sluss.domain.errors import DeliveryFailed

_TIMEOUT_SECONDS = 20


class MailSender(Protocol):
    """Something that hands over a mail."""

    async def send(self, to: str, subject: str, body: str) -> None:
        """Raises `DeliveryFailed`; `RefusedForGood` if another try is no use."""


class RefusedForGood(DeliveryFailed):
    """The other side will not take this message however often it is tried."""


class SmtpMail:
    """Sends plain text mail over SMTP."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        security: Literal["none", "starttls", "tls"],
        sender: str,
        username: str | None = None,
        password: str | None = None,
    ) -> None:
        """`sender` is an address such as `Sluss <no-reply@example.org>`."""
        name, address = parseaddr(sender)
        self._from = Address(name, addr_spec=address)
        self._host, self._port, self._security = host, port, security
        self._username, self._password = username, password

    async def send(self, to: str, subject: str, body: str) -> None:
        """Hand one mail over. The certificate is always checked when TLS is on."""
        message = EmailMessage()
        message["From"] = self._from
        message["To"] = to
        message["Subject"] = subject
        message["Message-ID"] = make_msgid(domain=self._from.domain)
        message["Date"] = localtime()
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday replies, please
        # base64 or quoted-printable would let a gateway break the link at a line end: keep it whole.
        message.set_content(body, cte="8bit" if not body.isascii() else "7bit")
        try:
            await aiosmtplib.send(
                message,
                hostname=self._host,
                port=self._port,
                use_tls=self._security == "tls",
                start_tls=self._security == "starttls",
                username=self._username,
                password=self._password,
                timeout=_TIMEOUT_SECONDS,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            codes = {refused.code for refused in error.recipients}
            kind = RefusedForGood if all(500 <= code < 600 for code in codes) else DeliveryFailed
            raise kind(f"mail relay refused the recipient ({codes})") from None
        except aiosmtplib.SMTPResponseException as error:
            final = isinstance(error, aiosmtplib.SMTPDataError) and 500 <= error.code < 600
            raise (RefusedForGood if final else DeliveryFailed)(f"mail relay answered {error.code}") from None
        except (aiosmtplib.SMTPException, OSError) as error:
            why = " ".join(str(error).split())  # of the connection, never of the message
            raise DeliveryFailed(f"mail relay {self._host}:{self._port}: {type(error).__name__}: {why}") from None
