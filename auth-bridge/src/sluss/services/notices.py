"""Mails to an account's own address: an enrolment link, and word of every change to how it signs in."""

from datetime import datetime

from sluss.delivery import texts
from sluss.delivery.texts import Notice
from sluss.delivery.worker import MAIL
from sluss.domain.accounts import ENROLMENT_LIFETIME
from sluss.services.common import Ground
from sluss.store.database import Transaction


def enrolment_url(ground: Ground, token: str) -> str:
    """Where one enrols."""
    return f"{ground.site.portal}/enrol/{token}"


def invite(ground: Ground, tx: Transaction, email: str, token: str, now: datetime) -> None:
    """Queue the mail with the link to enrol by."""
    site = ground.site
    _queue(tx, email, texts.enrolment(site.locale, site.organisation, enrolment_url(ground, token)), now)


def tell(ground: Ground, tx: Transaction, email: str, what: Notice, now: datetime) -> None:
    """Queue a mail that says what was done, or happened."""
    _queue(tx, email, texts.notice(ground.site.locale, what, ground.site.portal), now)


def _queue(tx: Transaction, email: str, mail: tuple[str, str], now: datetime) -> None:
    subject, body = mail
    message = {"to": email, "subject": subject, "body": body}
    tx.outbox.put(MAIL, message, None, now=now, expires_at=now + ENROLMENT_LIFETIME)
