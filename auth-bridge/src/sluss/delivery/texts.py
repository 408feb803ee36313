"""What is written in mails, SMS and the BankID app. Neutral on purpose: nothing of the meeting or its people."""

SUBJECT = {"sv": "Personlig länk", "en": "Personal link"}

_INVITATION = {
    "sv": "Du har fått en personlig länk. Öppna den i en webbläsare:",
    "en": "You have been sent a personal link. Open it in a browser:",
}
_LINK_ONLY = {
    "sv": "Länken är bara till för dig. Skicka den inte vidare.",
    "en": "The link is for you alone. Do not pass it on.",
}
_NOT_ME_SUBJECT = {"sv": "En inbjudan kom till fel person", "en": "An invitation reached the wrong person"}
_NOT_ME = {
    "sv": "Någon har svarat ”Det är inte jag”. Länken är stängd. Logga in för att se vilken:",
    "en": "Somebody answered “This is not me”. The link is closed. Sign in to see which:",
}
_ENROLMENT_SUBJECT = {"sv": "Din andra faktor", "en": "Your second factor"}
_ENROLMENT = {
    "sv": "Du har loggat in med ditt lösenord. Öppna länken i en webbläsare och ställ in en autentiserare:",
    "en": "You have signed in with your password. Open the link in a browser and set up an authenticator:",
}
_ENROLMENT_NOT_YOU = {
    "sv": "Var det inte du? Då kan någon ditt lösenord. Byt det, och säg till IT-avdelningen.",
    "en": "Was it not you? Then somebody knows your password. Change it, and tell the IT department.",
}
_NUMBER_SUBJECT = {"sv": "Ett nytt telefonnummer", "en": "A new phone number"}
_NUMBER = {
    "sv": "Till din personliga länk hör nu ett annat telefonnummer. Länken är densamma. Om du inte väntade dig det, "
    "använd den inte, och hör av dig till den som du väntade den från.",
    "en": "Another phone number now belongs to your personal link. The link is the same. If you did not expect that, "
    "do not use it, and tell whom you expected it from.",
}
_CODE = {
    "sv": "{code} är din kod. Lämna den inte till någon.",
    "en": "{code} is your code. Give it to nobody.",
}
_BANKID = {
    "sv": "# Legitimering hos {organisation}\nFör det du har en personlig länk till.",
    "en": "# Identification at {organisation}\nFor what you have a personal link to.",
}
_BANKID_ORGANISER = {"sv": "Inbjuden av *{organiser}*.", "en": "Invited by *{organiser}*."}
_BANKID_WARNING = {
    "sv": "Gör det bara om du själv är på {host}. Ingen ringer dig och ber om det.",
    "en": "Do it only if you yourself are at {host}. Nobody calls you and asks for it.",
}
_MARKUP = str.maketrans("", "", "*#|")
_OTHER = {"sv": "en", "en": "sv"}


def invitation(locale: str, link: str) -> tuple[str, str]:
    """Subject and body of the mail with a personal link, first language first."""
    second = _OTHER[locale]
    ours, theirs = _INVITATION[locale], _INVITATION[second]
    body = f"{ours}\n{theirs}\n\n{link}\n\n{_LINK_ONLY[locale]}\n{_LINK_ONLY[second]}\n"
    return f"{SUBJECT[locale]} / {SUBJECT[second]}", body


def number_changed(locale: str) -> tuple[str, str]:
    """Subject and body of the mail that tells a participant of it, first language first."""
    second = _OTHER[locale]
    return f"{_NUMBER_SUBJECT[locale]} / {_NUMBER_SUBJECT[second]}", f"{_NUMBER[locale]}\n\n{_NUMBER[second]}\n"


def not_me(locale: str, portal: str) -> tuple[str, str]:
    """Subject and body of the mail that tells an organiser of a wrong recipient."""
    return _NOT_ME_SUBJECT[locale], f"{_NOT_ME[locale]}\n\n{portal}/\n"


def enrolment(locale: str, link: str) -> tuple[str, str]:
    """Subject and body of the mail to an organiser whose password the directory knows, and who has no second factor."""
    second = _OTHER[locale]
    body = (
        f"{_ENROLMENT[locale]}\n{_ENROLMENT[second]}\n\n{link}\n\n"
        f"{_ENROLMENT_NOT_YOU[locale]}\n{_ENROLMENT_NOT_YOU[second]}\n"
    )
    return f"{_ENROLMENT_SUBJECT[locale]} / {_ENROLMENT_SUBJECT[second]}", body


def code(locale: str, value: str, portal_host: str) -> str:
    """The SMS with a code. The last line binds it to our origin: the phone offers it nowhere else."""
    return f"{_CODE[locale].format(code=value)}\n\n@{portal_host} #{value}"


def bankid(locale: str, organisation: str, portal_host: str, organiser: str) -> str:
    """What the BankID app shows (simpleMarkdownV1). `organiser` is empty for whoever has not seen the invitation."""
    lines = [_BANKID[locale].format(organisation=organisation.translate(_MARKUP))]
    if organiser:
        lines.append(_BANKID_ORGANISER[locale].format(organiser=organiser.translate(_MARKUP)))
    return "\n\n".join([*lines, _BANKID_WARNING[locale].format(host=portal_host)])
