"""The verbs. Every rule is enforced here, once."""

from dataclasses import dataclass

from sluss.services.account_authenticators import AccountAuthenticators
from sluss.services.accounts import Accounts
from sluss.services.admission import Admission
from sluss.services.attendance import Attendance
from sluss.services.audit_log import AuditLog
from sluss.services.authenticators import Authenticators
from sluss.services.bankid import BankIdOrders
from sluss.services.directory import Directory
from sluss.services.health import Health
from sluss.services.keys import Keys
from sluss.services.meetings import Meetings
from sluss.services.organisers import Organisers
from sluss.services.outside import Outside
from sluss.services.participation import Participation
from sluss.services.passkeys import Passkeys
from sluss.services.sign_in import SignIns
from sluss.services.smartcard import SmartCards
from sluss.services.tickets import Tickets


@dataclass(frozen=True, slots=True)
class Services:
    """All verbs, as pages, gate and commands are given them."""

    organisers: Organisers
    accounts: Accounts
    account_authenticators: AccountAuthenticators
    meetings: Meetings
    participation: Participation
    passkeys: Passkeys
    authenticators: Authenticators
    sign_ins: SignIns
    directory: Directory
    tickets: Tickets
    admission: Admission
    outside: Outside
    attendance: Attendance
    audit: AuditLog
    health: Health
    keys: Keys
    bankid: BankIdOrders | None = None
    """None where it is not set up."""
    cards: SmartCards | None = None
    """The same."""
