"""The organisation's own sign-in: to the provider and back, for participants and organisers, and out again."""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta

import structlog

from sluss.domain.accounts import LONGEST, PROVED_LATELY
from sluss.domain.assurance import SIGN_INS, Method, Purpose
from sluss.domain.audit import SYSTEM, Action
from sluss.domain.errors import NotFound, NotVerified, SignInRefused, SignInUnavailable, SlussError, Told, TooManyTries
from sluss.domain.freshness import is_fresh
from sluss.domain.limits import LOGOUT_ADDRESS, PROVIDER_ADDRESS, PROVIDER_ALL, PROVIDER_BROWSER
from sluss.domain.meetings import Invitation
from sluss.factors.sign_in import LIFETIME, Account, Attempt, Provider, new_attempt, same_address
from sluss.services import audit, limits
from sluss.services.attendance import FRESH
from sluss.services.common import Ground, new_link
from sluss.services.organisers import Organisers, SignedIn
from sluss.services.tickets import Tickets
from sluss.services.verification import Verifications
from sluss.store.database import Transaction

ORGANISER, ROOM, ATTENDANCE, PROVE = "organiser", "room", "attendance", "prove"
"""What one signs in for with an account here: the portal, a meeting of one's own, who was there, or a dangerous act.

A participant: a `Purpose`.
"""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Errand:
    """What a browser went to the provider for."""

    what: str
    where: str
    """The personal link, the meeting, or the page to come back to."""
    attempt: Attempt

    def written(self) -> str:
        """As it is sealed."""
        return json.dumps(asdict(self))

    @staticmethod
    def read(text: str) -> "Errand":
        """What `written` wrote."""
        found = json.loads(text)
        return Errand(found["what"], found["where"], Attempt(**found["attempt"]))


@dataclass(frozen=True, slots=True)
class Back:
    """What came of it."""

    errand: Errand
    problem: SlussError | None = None
    signed_in: SignedIn | None = None
    """What an organiser's browser keeps from now on."""


class SignIns:
    """The verbs. Without a provider they raise `NotFound`."""

    def __init__(
        self,
        ground: Ground,
        provider: Provider | None,
        verifications: Verifications,
        organisers: Organisers,
        tickets: Tickets,
    ) -> None:
        self._g = ground
        self._provider = provider
        self._verifications = verifications
        self._organisers = organisers
        self._tickets = tickets

    @property
    def there(self) -> bool:
        """Whether this installation has a provider."""
        return self._provider is not None

    async def go(
        self, link: str, session: str, purpose: Purpose, locale: str, address: str, *, again: bool = False
    ) -> str:
        """Where the browser goes to prove that it has the invited person. The same for every link, live or not.

        `again`: whoever is signed in there signs in once more, as who joins always does, within what the class calls
        fresh. Raises `TooManyTries`, `SignInUnavailable`.
        """
        link_hash = self._g.link_hash(link)

        def asked_for(tx: Transaction) -> tuple[timedelta, Collection[Method]]:
            rules = self._verifications.rules(tx, link_hash)
            if rules is None:
                return FRESH, SIGN_INS
            wanted = rules.requirement(purpose)
            return wanted.fresh, [method for method in SIGN_INS if wanted.accepts(method)]

        fresh, wanted = await self._g.store.run(asked_for)
        errand = Errand(purpose.value, link, new_attempt(fresh))
        return await self._go(errand, session, wanted, locale, address, again=again or purpose is Purpose.JOIN)

    async def go_as_organiser(self, session: str, locale: str, address: str, *, again: bool = False) -> str:
        """Where the browser goes to sign in as an organiser or auditor. Raises the same."""
        errand = Errand(ORGANISER, "", new_attempt(LONGEST))
        return await self._go(errand, session, SIGN_INS, locale, address, again=again)

    async def go_to_meeting(self, session: str, meeting_id: str, what: str, locale: str, address: str) -> str:
        """Where an organiser proves once more who they are, for the `ROOM` or its `ATTENDANCE`. Raises the same."""
        if what not in (ROOM, ATTENDANCE):
            raise NotFound("nothing that one signs in for")
        errand = Errand(what, meeting_id, new_attempt(FRESH))
        return await self._go(errand, session, SIGN_INS, locale, address, again=True)

    async def go_to_prove(self, session: str, onward: str, locale: str, address: str) -> str:
        """Where whoever is signed in proves once more who they are, for the page `onward`. Raises the same."""
        errand = Errand(PROVE, onward, new_attempt(PROVED_LATELY))
        return await self._go(errand, session, SIGN_INS, locale, address, again=True)

    async def back(self, session: str, answer: Mapping[str, str], address: str) -> Back:
        """The browser is back with the provider's `answer`. Raises `SignInRefused` if this browser was not expected."""
        now, provider = self._g.clock(), self._there()
        state_hash, session_hash = self._state_hash(answer.get("state", "")), self._g.session_hash(session)
        taken = await self._g.store.run(lambda tx: tx.sign_ins.take(state_hash, session_hash))
        if taken is None or not is_fresh(taken[1], now, LIFETIME):
            _log.info("sign_in_refused", reason="no such attempt in this browser, or too old")
            raise SignInRefused("no such attempt in this browser, or too old")
        errand = Errand.read(taken[0])
        account: Account | SignInRefused
        try:
            account = await provider.account(answer, errand.attempt, now)
        except SignInRefused as refused:
            account = refused
        except SignInUnavailable as away:
            _log.warning("sign_in_unavailable", reason=str(away))
            return Back(errand, away)
        try:
            return Back(errand, signed_in=await self._finish(errand, session, account, address))
        except (NotVerified, TooManyTries, NotFound) as refused:
            return Back(errand, refused)

    async def _finish(
        self, errand: Errand, session: str, account: Account | SignInRefused, address: str
    ) -> SignedIn | None:
        if errand.what == ORGANISER:
            return await self._organisers.by_account(session, account, address)
        if errand.what == PROVE:
            await self._organisers.prove_by_account(session, account, address)
        elif errand.what in (ROOM, ATTENDANCE):
            await self._tickets.verify_by_account(session, errand.where, account, address)
        else:
            await self._verify(errand, session, account, address)
        return None

    async def _verify(self, errand: Errand, session: str, account: Account | SignInRefused, address: str) -> None:
        """A participant: the account must be that of the invited person. Raises `NotVerified` for every reason."""
        purpose = Purpose(errand.what)
        method, proved_at = Method.SIGN_IN, None
        if isinstance(account, Account):
            method = account.method
            # What joins ages from the sign-in itself. What was seen is ordered by when it was seen.
            proved_at = account.signed_in_at if purpose is Purpose.JOIN else None
        asked = self._verifications.asked(errand.where, session, purpose, method, address, proved_at)

        def prove(_: Transaction, invitation: Invitation | None) -> str | SlussError:
            theirs = invitation is not None and same_address(invitation.email, account.email)
            told = Told.OTHER_PERSON if account.email and not theirs else None
            if isinstance(account, SignInRefused):  # in its own words whoever it was: they say nothing of the link
                account.told = Told.TOO_WEAK if theirs else told
                return account
            if not theirs:
                return NotVerified("not the invited person's account", told=told)
            return self._organisers.account_hash(account)

        await self._verifications.verify(asked, prove)

    async def logout(self, token: str, address: str) -> None:
        """The provider says that somebody has signed out there: their organiser's sessions here end too.

        Raises `SignInRefused` for every token that does not say so, or was used; `SignInUnavailable`, `TooManyTries`.
        """
        now, provider = self._g.clock(), self._there()
        wrong = [limits.Use(LOGOUT_ADDRESS, self._g.limit_key(address=address))]
        await self._g.store.run(lambda tx: limits.refusal(tx, wrong, now))
        try:
            out = await provider.logged_out(token, now)
        except SignInRefused as refused:
            _log.warning("logout_refused", reason=str(refused))
            await self._g.store.run(lambda tx: limits.take(tx, wrong, now))
            raise
        account_hash = self._organisers.account_hash(out) if out.subject else ""
        sid_hash = self._organisers.sid_hash(out)

        def work(tx: Transaction) -> SignInRefused | None:
            if not tx.sign_ins.use_logout(self._g.hasher.digest("logout", out.issuer, out.jti), now):
                return SignInRefused("logout token: used before")
            for organiser_id in tx.sessions.remove_signed_out(account_hash, sid_hash):
                who = audit.organiser(organiser_id)
                self._g.audit.record(tx, now, Action.SIGNED_OUT, actor=SYSTEM, subject=who, where="provider")
            return None

        await self._g.store.run(work)
        _log.info("signed_out_by_provider")

    async def _go(
        self, errand: Errand, session: str, wanted: Collection[Method], locale: str, address: str, *, again: bool
    ) -> str:
        now, provider, state = self._g.clock(), self._there(), new_link()
        session_hash, state_hash = self._g.session_hash(session), self._state_hash(state)
        uses = [
            limits.Use(PROVIDER_BROWSER, session_hash),
            limits.Use(PROVIDER_ADDRESS, self._g.limit_key(address=address)),
            limits.Use(PROVIDER_ALL, ""),
        ]

        def work(tx: Transaction) -> TooManyTries | None:
            if refusal := limits.spend(tx, uses, now):
                return refusal
            tx.sign_ins.put(state_hash, session_hash, errand.written(), now)
            return None

        await self._g.store.run(work)
        try:
            where = await provider.address(errand.attempt, state, wanted, locale, now, again=again)
        except SignInUnavailable as away:
            _log.warning("sign_in_unavailable", reason=str(away))
            raise
        _log.info("sign_in_begun", what=errand.what, origin=self._g.origin(address))
        return where

    def _there(self) -> Provider:
        if self._provider is None:
            raise NotFound("no identity provider is configured")
        return self._provider

    def _state_hash(self, state: str) -> str:
        return self._g.hasher.digest("sign-in state", state)
