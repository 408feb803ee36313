"""The errors people can meet. Each knows its HTTP status and a message key that may be shown to anyone."""

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sluss.domain.meetings import PersonWaiting


class SlussError(Exception):
    """Root of all expected errors. `public` is safe to show; `detail` is for the log."""

    status = 500
    public = "Something went wrong."

    def __init__(self, detail: str = "", *, public: str | None = None) -> None:
        super().__init__(detail or public or self.public)
        if public is not None:
            self.public = public


class ConfigError(SlussError):
    """A setting is missing or wrong. The text names key and file."""


class InvalidInput(SlussError):
    """A form field or argument is wrong; `field` names it, `public` says how."""

    status = 422
    public = "Please check what you wrote."

    def __init__(self, field: str, public: str) -> None:
        super().__init__(f"{field}: {public}", public=public)
        self.field = field


class Told(StrEnum):
    """What the organiser is told of a proof that was right and refused all the same. Whoever tried is not told.

    Asking for a method tells nothing, nor does a wrong proof: the link is enough for both.
    """

    OTHER_PERSON = "other_person"
    """It was somebody else's."""
    TOO_WEAK = "too_weak"
    """It was the invited person's, in a way that is not accepted for the meeting: a method, or how it was used."""


class NotVerified(SlussError):
    """The proof asked for was not given, is wrong or is too old. Never says which."""

    status = 403
    public = "That did not match. Try again, or ask for a new code."

    def __init__(self, detail: str = "", *, public: str | None = None, told: Told | None = None) -> None:
        super().__init__(detail, public=public)
        self.told = told


class ProofRequired(NotVerified):
    """What was asked for takes a factor proved within the last minutes."""

    public = "Prove who you are once more, and try again."


class SignInRefused(NotVerified):
    """The organisation's sign-in did not prove what was asked. `detail`, for the log, says what was wrong with it."""

    public = "The sign-in did not succeed. Start again."
    email = ""
    """Of the account, if all else was right with it and the provider vouches for the address."""


class OneFactorOnly(SignInRefused):
    """The organisation's sign-in says nothing of a second factor that is known here."""

    public = "You signed in with one factor only. Sign in again with a second one, such as an authenticator."

    def __init__(self, detail: str, email: str) -> None:
        super().__init__(detail)
        self.email = email


class SignInUnavailable(SlussError):
    """The organisation's identity provider is away, slow, or says what it may not. `detail` is for the log."""

    status = 503
    public = "The organisation's sign-in is not answering. Try again in a while, or choose another way."


class DirectoryUnavailable(SlussError):
    """The organisation's directory is away, slow, or not what it should be. `detail`, for the log, names it."""

    status = 503
    public = "The organisation's directory is not answering. Try again in a while, or choose another way."


class NotEnrolled(NotVerified):
    """The directory's password is right, and it is but one factor: a link to set up the other is on its way."""

    public = "You have no second factor here yet. We have sent a link to your e-mail address: set one up there."


class ModelRefused(NotVerified):
    """The passkey is of no model that the class accepts, or nobody attests that it is. Told to who is verified."""

    public = "No passkey was added: here it has to be on a security key of a kind that the organisation has chosen."


class CardRefused(NotVerified):
    """The card did not prove what was asked. `detail`, for log and audit, says what was wrong with it."""

    public = (
        "No card that counts here was shown. Put your card into the reader, close the browser and open it again, "
        "then start again."
    )


class CardTooLate(CardRefused):
    """Nobody set out for this card here and now: another browser did, it was used, or it is too long ago."""

    public = "It took more than five minutes, or you began in another browser. Start again."


class TooManyTries(SlussError):
    """A lock is on; it opens by itself after `retry_after` seconds."""

    status = 429
    public = "Too many tries. Wait a while and try again."

    def __init__(self, retry_after: int, detail: str = "") -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class SignInRequired(SlussError):
    """There is no live session with both factors."""

    status = 401
    public = "Please sign in."


class NotFound(SlussError):
    """No such thing, or not yours: the two look alike."""

    status = 404
    public = "There is nothing here."


class NotOpen(SlussError):
    """The meeting's door is not open now."""

    status = 409
    public = "The meeting is not open."


class Waiting(SlussError):
    """Verified, and the organiser is not inside yet."""

    status = 409
    public = "The organiser has not come yet. You will be let in as soon as they are here."

    def __init__(self, detail: str = "", *, verification_id: str = "") -> None:
        super().__init__(detail)
        self.verification_id = verification_id
        self.others: tuple[PersonWaiting, ...] = ()
        """Who else waits, if the class shows it."""


class Forbidden(SlussError):
    """The request may not be made this way (cross-site, missing token)."""

    status = 403
    public = "This request was refused. Reload the page and try again."


class GateUnavailable(SlussError):
    """Prosody's component link is down, or did not answer in time."""

    status = 503
    public = "The door service is not answering. People already inside stay; nobody new gets in."


class StoreUnavailable(SlussError):
    """The database is held by somebody else, full or broken. Nothing was changed."""

    status = 503
    public = "Nothing can be saved just now, so nothing was changed. Try again in a while."


class BankIdUnavailable(SlussError):
    """BankID's service does not begin an order. `detail` is its word for why."""

    status = 503
    public = "BankID is not answering just now. Try again in a while, or choose another way."


class DeliveryFailed(SlussError):
    """A mail or SMS could not be handed over. `detail` names the gateway, never the text."""

    status = 502
    public = "The message could not be sent."
