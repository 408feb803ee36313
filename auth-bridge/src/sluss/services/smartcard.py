"""The smart card of a participant: to the name that asks for it, and back.

The browser that sets out is given a handle. The name that asks for cards has no cookie of ours: whoever comes there
with the handle shows a card for it, and is given a code. The browser that set out comes back with the code. Each works
once. So a handle that somebody else was led to follow is worth nothing to who made it.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import structlog

from sluss.domain.assurance import Method, Purpose
from sluss.domain.audit import NOBODY, Action, Outcome
from sluss.domain.errors import CardRefused, CardTooLate, NotVerified, SlussError, Told, TooManyTries
from sluss.domain.freshness import is_fresh
from sluss.domain.limits import CARD_ADDRESS, CARD_ALL, CARD_BROWSER
from sluss.domain.meetings import Invitation
from sluss.factors.sign_in import same_address
from sluss.factors.smartcard import CardRules, Holder, holder
from sluss.services import audit, limits
from sluss.services.common import Ground, new_link
from sluss.services.verification import Verifications
from sluss.store.database import Transaction

LIFETIME = timedelta(minutes=5)
"""So long after pressing the button a person must be back."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Errand:
    """What a browser set out for, and what the card proved when there was one."""

    purpose: Purpose
    link: str
    shown_at: int = 0
    """Unix seconds. 0: not yet."""
    holder: Holder | None = None
    refused: str = ""
    """Why the card does not count."""

    def written(self) -> str:
        """As it is sealed."""
        return json.dumps(asdict(self))

    @staticmethod
    def read(text: str) -> "Errand":
        """What `written` wrote."""
        found = json.loads(text)
        whose = found["holder"]
        if whose is not None:
            whose = Holder(**whose | {"addresses": tuple(whose["addresses"])})
        return Errand(Purpose(found["purpose"]), found["link"], found["shown_at"], whose, found["refused"])


@dataclass(frozen=True, slots=True)
class Back:
    """What came of it."""

    errand: Errand
    problem: SlussError | None = None


class SmartCards:
    """The verbs."""

    def __init__(self, ground: Ground, verifications: Verifications, rules: CardRules) -> None:
        self._g = ground
        self._verifications = verifications
        self._rules = rules

    async def go(self, link: str, session: str, purpose: Purpose, address: str) -> str:
        """A handle with which this browser goes to show a card. The same for every link, live or not.

        Raises `TooManyTries`.
        """
        now, handle, session_hash = self._g.clock(), new_link(), self._g.session_hash(session)
        uses = [
            limits.Use(CARD_BROWSER, session_hash),
            limits.Use(CARD_ADDRESS, self._g.limit_key(address=address)),
            limits.Use(CARD_ALL, ""),
        ]

        def work(tx: Transaction) -> TooManyTries | None:
            if refusal := limits.spend(tx, uses, now):
                return refusal
            tx.sign_ins.put(self._handle_hash(handle), session_hash, Errand(purpose, link).written(), now)
            return None

        await self._g.store.run(work)
        _log.info("card_begun", purpose=purpose.value, origin=self._g.origin(address))
        return handle

    async def show(self, handle: str, verdict: str, certificate: str, address: str) -> str:
        """Somebody shows a card for a handle: nginx's verdict, and the certificate in PEM. A code to come back with.

        A card that does not count has one too: the browser that set out is told. Raises `CardTooLate` for no handle.
        """
        now, code, whose, refused = self._g.clock(), new_link(), None, ""
        try:
            whose = holder(verdict, certificate, self._rules, now)
        except CardRefused as error:
            refused = str(error)

        def work(tx: Transaction) -> CardTooLate | None:
            taken = tx.sign_ins.take_from_any(self._handle_hash(handle))
            if taken is None or not is_fresh(taken[2], now, LIFETIME):
                return self._refusal(tx, taken and taken[1], "no such handle, or used, or too old", address, now)
            session_hash, errand, began_at = taken
            set_out = Errand.read(errand)
            seen = Errand(set_out.purpose, set_out.link, int(now.timestamp()), whose, refused)
            # From the beginning, so that both steps together take no longer than one may.
            tx.sign_ins.put(self._code_hash(code), session_hash, seen.written(), began_at)
            return None

        await self._g.store.run(work)
        _log.info("card_shown", refused=refused, origin=self._g.origin(address))
        return code

    async def back(self, session: str, code: str, address: str) -> Back:
        """The browser is back. Raises `CardTooLate` unless it is the one that set out, and has a code that is good."""
        now, session_hash = self._g.clock(), self._g.session_hash(session)

        def work(tx: Transaction) -> Errand | CardTooLate:
            taken = tx.sign_ins.take_from_any(self._code_hash(code))
            if taken is None or not is_fresh(taken[2], now, LIFETIME):
                return self._refusal(tx, taken and taken[1], "no such code, or used, or too old", address, now)
            if taken[0] != session_hash:
                return self._refusal(tx, taken[1], "another browser set out", address, now)
            return Errand.read(taken[1])

        errand = await self._g.store.run(work)
        try:
            await self._verify(errand, session, address)
        except (NotVerified, TooManyTries) as refused:
            return Back(errand, refused)
        return Back(errand)

    async def _verify(self, errand: Errand, session: str, address: str) -> None:
        """The card must be that of the invited person. Raises `NotVerified` for every reason."""
        # What joins ages from when the card was there. What was seen is ordered by when it was seen.
        shown_at = datetime.fromtimestamp(errand.shown_at, UTC) if errand.purpose is Purpose.JOIN else None
        asked = self._verifications.asked(errand.link, session, errand.purpose, Method.SMARTCARD, address, shown_at)

        def prove(_: Transaction, invitation: Invitation | None) -> str | SlussError:
            if (whose := errand.holder) is None:
                return CardRefused(errand.refused)
            theirs = invitation is not None and any(same_address(invitation.email, one) for one in whose.addresses)
            if not whose.on_card:  # in the same words whoever it was: they say nothing of the link
                told = Told.TOO_WEAK if theirs else Told.OTHER_PERSON
                return CardRefused("certificate: of no policy that says that its key is on a card", told=told)
            if not theirs:
                return NotVerified("card of another person", told=Told.OTHER_PERSON)
            return self._g.hasher.digest("card", whose.issuer, whose.identity)

        await self._verifications.verify(asked, prove)

    def _refusal(self, tx: Transaction, errand: str | None, reason: str, address: str, now: datetime) -> CardTooLate:
        """Put it on record, if anybody set out: what was made up, or used before, anybody can send without end."""
        origin = self._g.origin(address)
        if errand is not None:
            set_out = Errand.read(errand)
            self._g.audit.record(
                tx,
                now,
                Action.VERIFIED,
                Outcome.REFUSED,
                actor=NOBODY,
                subject=audit.invitation(tx.invitations.id_of(self._g.link_hash(set_out.link))),
                purpose=set_out.purpose,
                method=Method.SMARTCARD,
                origin=origin,
                reason=reason,
            )
        _log.info("card_refused", reason=reason, origin=origin)
        return CardTooLate(reason)

    def _handle_hash(self, handle: str) -> str:
        return self._g.hasher.digest("card handle", handle)

    def _code_hash(self, code: str) -> str:
        return self._g.hasher.digest("card code", code)
