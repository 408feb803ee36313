"""BankID for participants: an order for whoever asks, and what becomes of it.

A link that is wrong, withdrawn or live goes the same way until an order was really completed: each gets a real order,
with the same text and without a personal number. Orders live in memory alone, for minutes, with their secrets: nothing
of them is ever on disk. After a restart there are none, and the person presses the button again.
"""

import asyncio
import contextlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

import structlog

from sluss.delivery import texts
from sluss.domain import people
from sluss.domain.assurance import Method, Purpose, Risk
from sluss.domain.audit import Action
from sluss.domain.errors import BankIdUnavailable, NotVerified, SlussError, Told, TooManyTries
from sluss.domain.limits import BANKID_ADDRESS, BANKID_ALL, BANKID_BROWSER, BANKID_LINK, BANKID_LINK_ADDRESS
from sluss.domain.meetings import Invitation
from sluss.factors.bankid import Answer, BankId, BankIdError, Order, Person, State
from sluss.services import audit, limits
from sluss.services.common import Ground
from sluss.services.participation import Participation
from sluss.services.verification import Verifications, expected_by_bankid
from sluss.store.database import Transaction

LIFETIME = timedelta(minutes=6)
"""Longer than BankID keeps an order that nobody completes."""
PACE = timedelta(seconds=1)
"""BankID is asked about an order no more often, however many pages ask."""
GONE, REFUSED = "gone", "refused"
"""Our own hints: there is no order of this browser (any more); it was completed, and does not open what it is for."""
_RISKS = list(Risk)
_Key = tuple[str, str, Purpose]
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Progress:
    """How an order goes, for the page: `hint` is BankID's word or one of ours."""

    state: State
    hint: str = ""


@dataclass(slots=True, repr=False)
class Running:
    """An order of one browser, for one link and purpose."""

    order: Order
    link: str
    session_hash: str
    purpose: Purpose
    nonce: str
    began_at: datetime
    asked_at: datetime
    progress: Progress = field(default=Progress(State.PENDING, "outstandingTransaction"))
    busy: bool = False
    """Whether BankID is being asked just now."""


class BankIdOrders:
    """The verbs of a participant with BankID."""

    def __init__(
        self,
        ground: Ground,
        verifications: Verifications,
        participation: Participation,
        bankid: BankId,
        accepted_risk: Risk,
    ) -> None:
        """`accepted_risk` is the highest that is let through."""
        self._g = ground
        self._verifications = verifications
        self._participation = participation
        self._bankid = bankid
        self._too_risky = frozenset(_RISKS[_RISKS.index(accepted_risk) + 1 :])
        self._orders: dict[_Key, Running] = {}

    async def start(self, link: str, session: str, purpose: Purpose, locale: str, address: str) -> None:
        """Begin an order for this browser, in place of the one it may have.

        Raises `TooManyTries`, `BankIdUnavailable`.
        """
        now, key = self._g.clock(), self._key(link, session, purpose)

        def work(tx: Transaction) -> str | TooManyTries:
            if refusal := limits.spend(tx, self._uses(tx, key, address), now):
                return refusal
            whose = audit.invitation(tx.invitations.id_of(key[0]))
            origin = self._g.origin(address)
            self._g.audit.record(tx, now, Action.BANKID_STARTED, subject=whose, purpose=purpose, origin=origin)
            view = self._participation.look_in(tx, link, session, now)
            return view.organiser_name if view else ""

        # The organiser is named to whom this browser has seen the invitation, and to nobody else.
        organiser = await self._g.store.run(work)
        await self.cancel(link, session, purpose)
        nonce = secrets.token_urlsafe(16)
        site = self._g.site
        text = texts.bankid(locale, site.organisation, site.portal_host, organiser)
        try:
            order = await self._bankid.begin(address, text, f"{site.portal}/bankid/{nonce}")
        except BankIdError as error:
            _log.warning("bankid_failed", step="start", reason=str(error))
            raise BankIdUnavailable(error.code) from None
        now = self._g.clock()
        for old in [one for one, running in self._orders.items() if now - running.began_at > LIFETIME]:
            del self._orders[old]
        self._orders[key] = Running(order, link, key[1], purpose, nonce, now, now)
        _log.info("bankid_started", purpose=purpose.value, origin=self._g.origin(address))

    def progress(self, link: str, session: str, purpose: Purpose) -> Progress | None:
        """How the order of this browser went when it was last asked about; None: there is none."""
        running = self._running(link, session, purpose)
        return running.progress if running else None

    def start_token(self, link: str, session: str, purpose: Purpose) -> str:
        """What opens the pending order in the app of the same device; nothing if there is none."""
        running = self._running(link, session, purpose)
        return running.order.start_token if running and running.progress.state is State.PENDING else ""

    def qr_code(self, link: str, session: str, purpose: Purpose) -> str:
        """What the QR code of the pending order says in this second; nothing if there is none."""
        running = self._running(link, session, purpose)
        if running is None or running.progress.state is not State.PENDING:
            return ""
        return running.order.qr_code(max(int((self._g.clock() - running.began_at).total_seconds()), 0))

    def returned(self, session: str, nonce: str) -> tuple[str, Purpose] | None:
        """For which link and purpose this browser comes back from the app; None if it is not the one that began."""
        session_hash = self._g.session_hash(session)
        for running in self._orders.values():
            if running.session_hash == session_hash and secrets.compare_digest(running.nonce, nonce):
                return running.link, running.purpose
        return None

    async def collect(self, link: str, session: str, purpose: Purpose, address: str) -> Progress:
        """How the order of this browser goes now. One that is completed makes the verification, once."""
        running = self._running(link, session, purpose)
        if running is None:
            return Progress(State.FAILED, GONE)
        now = self._g.clock()
        early = timedelta(0) <= now - running.asked_at < PACE
        if running.progress.state is not State.PENDING or running.busy or early:
            return running.progress
        running.busy, running.asked_at = True, now
        try:
            answer = await self._bankid.collect(running.order)
        except BankIdError as error:
            _log.warning("bankid_failed", step="collect", reason=str(error))
            answer = Answer(State.FAILED, error.code)
        finally:
            running.busy = False
        if self._running(link, session, purpose) is not running:  # cancelled meanwhile
            return Progress(State.FAILED, GONE)
        running.progress = Progress(answer.state, answer.hint)
        if answer.person is not None:
            running.progress = Progress(State.PENDING, "userSign")  # until the store has it
            running.busy = True
            running.progress = await self._complete(running, session, answer, answer.person, address)
        elif answer.state is State.FAILED:
            _log.info("bankid_ended", purpose=purpose.value, hint=answer.hint)
        return running.progress

    async def cancel(self, link: str, session: str, purpose: Purpose) -> None:
        """Forget the order of this browser, and take it back if it is pending."""
        running = self._orders.pop(self._key(link, session, purpose), None)
        if running is not None:
            await self._take_back(running)

    async def stop(self) -> None:
        """Take all pending orders back: nobody would hear of them."""
        orders, self._orders = list(self._orders.values()), {}
        await asyncio.gather(*(self._take_back(running) for running in orders))

    async def _take_back(self, running: Running) -> None:
        if running.progress.state is State.PENDING:
            with contextlib.suppress(BankIdError):  # it ends by itself
                await self._bankid.cancel(running.order)

    async def _complete(self, running: Running, session: str, answer: Answer, person: Person, address: str) -> Progress:
        risk = answer.risk if answer.risk in _RISKS else "unknown"
        asked = self._verifications.asked(running.link, session, running.purpose, Method.BANKID, address, risk=risk)
        try:
            await self._verifications.verify(asked, partial(self._prove, person, risk))
        except NotVerified:
            return Progress(State.FAILED, REFUSED)
        except SlussError as error:  # the store is away: what was proved is lost, and the person is told to begin again
            _log.warning("bankid_failed", step="verify", reason=str(error))
            return Progress(State.FAILED, GONE)
        return Progress(State.COMPLETE)

    def _prove(self, person: Person, risk: str, tx: Transaction, invitation: Invitation | None) -> str | SlussError:
        """By what the person is known, if they are who was invited: the number that the organiser gave must be theirs.

        Without one, the first to see the invitation must bear the invited name, and is the person from then on.
        """
        if invitation is None:
            return NotVerified("nobody to verify")
        subject = self._g.personal_number_hash(person.personal_number)
        if expected := expected_by_bankid(tx, invitation):
            right = subject == expected
        else:
            right = people.may_be_named(invitation.name, person.given_name, person.surname)
        if not right:
            return NotVerified("BankID of another person", told=Told.OTHER_PERSON)
        return NotVerified("BankID sees too high a risk", told=Told.TOO_WEAK) if risk in self._too_risky else subject

    def _running(self, link: str, session: str, purpose: Purpose) -> Running | None:
        running = self._orders.get(self._key(link, session, purpose))
        return running if running and self._g.clock() - running.began_at <= LIFETIME else None

    def _key(self, link: str, session: str, purpose: Purpose) -> _Key:
        return self._g.link_hash(link), self._g.session_hash(session), purpose

    def _uses(self, tx: Transaction, key: _Key, address: str) -> list[limits.Use]:
        """What an order uses. A browser known to be the right person's shares nothing with others."""
        link_hash, session_hash, _ = key
        if tx.verifications.any_of(link_hash, session_hash):
            return [limits.Use(BANKID_BROWSER, self._g.limit_key(link_hash, session_hash), link_hash)]
        return [
            limits.Use(BANKID_LINK, link_hash, link_hash),
            limits.Use(BANKID_LINK_ADDRESS, self._g.limit_key(link_hash, address=address), link_hash),
            limits.Use(BANKID_ADDRESS, self._g.limit_key(address=address)),
            limits.Use(BANKID_ALL, ""),
        ]
