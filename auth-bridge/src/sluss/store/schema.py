"""The tables (SQLAlchemy Core). Columns of type `LargeBinary` are sealed; `*_hash` columns are keyed hashes.

Times are Unix seconds. A change here needs a migration beside it; a test holds the two together.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
)

REVISION = "0012"
"""The migration this code is written for."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

organisers = Table(
    "organisers",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", LargeBinary, nullable=False),
    Column("email", LargeBinary, nullable=False),
    Column("email_hash", String, nullable=False, unique=True),
    Column("password", String),  # argon2id, PHC string
    Column("enrolled_at", Integer),
    Column("created_at", Integer, nullable=False),
    Column("role", String, nullable=False, server_default="organiser"),
    Column(
        "account_hash", String, index=True, unique=True
    ),  # keyed hash of issuer and subject at the identity provider, or of the entry in the directory
    Column("entry", LargeBinary),  # which entry in the directory, if they are of it
    Column("entry_seen_at", Integer),  # when it last said that they may be what they are
    Column("signed_in_at", Integer),  # last
    Column("removed_at", Integer),  # the id is kept for what refers to it, nothing else
)

account_authenticators = Table(
    "account_authenticators",
    metadata,
    Column("id", String, primary_key=True),
    Column("organiser_id", ForeignKey("organisers.id"), nullable=False, index=True),
    Column("name", LargeBinary),  # null: none
    Column("secret", LargeBinary, nullable=False),
    Column("step", Integer, nullable=False, server_default="0"),  # last time step used
    Column("drift", Float, nullable=False, server_default="0"),  # how many steps its clock is ahead
    Column("created_at", Integer, nullable=False),
    Column("confirmed_at", Integer),  # null: no code of it was right yet
    Column("used_at", Integer),
)

admin_requests = Table(
    # What one admin has asked for and takes a second one.
    "admin_requests",
    metadata,
    Column("organiser_id", ForeignKey("organisers.id"), primary_key=True),
    Column("act", String, nullable=False),
    Column("successor", String, nullable=False),
    Column("asked_by", String, nullable=False),
    Column("asked_at", Integer, nullable=False),
)

enrolments = Table(
    "enrolments",
    metadata,
    Column("token_hash", String, primary_key=True),
    Column("organiser_id", ForeignKey("organisers.id"), nullable=False),
    Column("expires_at", Integer, nullable=False),
    Column("used_at", Integer),
)

recovery_codes = Table(
    "recovery_codes",
    metadata,
    Column("organiser_id", ForeignKey("organisers.id"), nullable=False),
    Column("code_hash", String, nullable=False),
    Column("used_at", Integer),
    PrimaryKeyConstraint("organiser_id", "code_hash"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("session_hash", String, primary_key=True),
    Column("organiser_id", ForeignKey("organisers.id"), nullable=False, index=True),
    Column("complete", Boolean, nullable=False),  # both factors, or the password alone
    Column("created_at", Integer, nullable=False),
    Column("seen_at", Integer, nullable=False),
    Column("account_hash", String, index=True),  # by which account at the identity provider it was opened, if by one
    Column("sid_hash", String),  # and in which session there
    Column("proved_at", Integer),  # when a factor was last proved in it
    Column("method", String),  # how it was signed in
    Column("network", LargeBinary),  # from where, coarsely
)

sign_ins = Table(
    # A browser that was sent to the identity provider, or to show a card, and is expected back with this.
    "sign_ins",
    metadata,
    Column("state_hash", String, primary_key=True),
    Column("session_hash", String, nullable=False),
    Column("errand", LargeBinary, nullable=False),
    Column("created_at", Integer, nullable=False, index=True),
)

used_logouts = Table(
    "used_logouts",
    metadata,
    Column("jti_hash", String, primary_key=True),
    Column("used_at", Integer, nullable=False),
)

passkeys = Table(
    "passkeys",
    metadata,
    Column("id", String, primary_key=True),  # keyed hash of the credential id
    Column("owner", String, nullable=False, index=True),  # an organiser, or keyed hash of an invited person
    Column("credential", LargeBinary, nullable=False),
    Column("sign_count", BigInteger, nullable=False),
    Column("enrolled_by", String, nullable=False),  # the method its owner had verified by
    Column("enrolled_as", String, nullable=False),  # and the subject of that verification
    Column("created_at", Integer, nullable=False),
    Column("used_at", Integer),
    Column("locked_at", Integer),  # when its sign count went back
    Column("model", String),  # its AAGUID; null: not attested
    Column("name", LargeBinary),  # an organiser's; null: none
)

authenticators = Table(
    # Of people who were invited. Of the staff: `account_authenticators`.
    "authenticators",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False, index=True, unique=True),  # keyed hash of an invited person
    Column("secret", LargeBinary, nullable=False),
    Column("step", Integer, nullable=False),  # last time step used
    Column("drift", Float, nullable=False),  # how many steps its clock is ahead
    Column("enrolled_by", String, nullable=False),  # the method its owner had verified by
    Column("enrolled_as", String, nullable=False),  # and the subject of that verification
    Column("created_at", Integer, nullable=False),
    Column("used_at", Integer, nullable=False),
)

limits = Table(
    # How much of each limit has been used, as the time when it is wholly free again (milliseconds): see domain.limits.
    "limits",
    metadata,
    Column("what", String, nullable=False),
    Column("key", String, nullable=False),  # keyed hash: of a link, an address, a number, a session
    Column("owner", String, nullable=False, index=True),  # whose it is to the organiser: a link, number or meeting
    Column("free_at", BigInteger, nullable=False, index=True),
    PrimaryKeyConstraint("what", "key"),
)

meetings = Table(
    "meetings",
    metadata,
    Column("id", String, primary_key=True),
    Column("organiser_id", ForeignKey("organisers.id"), nullable=False, index=True),
    Column("title", LargeBinary, nullable=False),
    Column("agenda", LargeBinary, nullable=False),
    Column("starts_at", Integer, nullable=False),
    Column("minutes", Integer, nullable=False),
    Column("time_zone", String, nullable=False),
    Column("sensitivity", String, nullable=False),
    Column("room", String, nullable=False, unique=True),
    Column("ended_at", Integer),
    Column("created_at", Integer, nullable=False),
    Column("purged_at", Integer),  # its people, title and agenda are forgotten
)

invitations = Table(
    "invitations",
    metadata,
    Column("id", String, primary_key=True),
    Column("meeting_id", ForeignKey("meetings.id"), nullable=False, index=True),
    Column("role", String, nullable=False),
    Column("name", LargeBinary, nullable=False),
    Column("email", LargeBinary, nullable=False),
    Column("mobile", LargeBinary, nullable=False),
    Column("label", LargeBinary),  # null: none
    Column("link_hash", String, unique=True),  # null for the organiser, who has no link
    Column("answer", String, nullable=False),
    Column("state", String, nullable=False),
    Column("username", String, nullable=False, unique=True),
    Column("created_at", Integer, nullable=False),
    Column("person_hash", String),  # of the personal number that the organiser gave; null: none
    Column("other_person_at", Integer),  # when somebody else last proved who they are with this link
    Column("too_weak_at", Integer),  # when somebody last proved to be this person in a way that is not accepted
)

challenges = Table(
    # One outstanding SMS code a link, browser and purpose. A link that is not ours gets one too, which nothing matches:
    # so both look and take the same. What a passkey has to sign is here as well, each use of one by a hash of its own.
    "challenges",
    metadata,
    Column("link_hash", String, nullable=False),
    Column("session_hash", String, nullable=False),
    Column("purpose", String, nullable=False),
    Column("code_hash", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("created_at", Integer, nullable=False, index=True),
    Column("tries", Integer, nullable=False),
    Column("sent", Integer, nullable=False, server_default="1"),  # which one in a row it is, of which none was used
    PrimaryKeyConstraint("link_hash", "session_hash", "purpose"),
)

verifications = Table(
    "verifications",
    metadata,
    Column("id", String, primary_key=True),
    Column("invitation_id", ForeignKey("invitations.id"), nullable=False, index=True),
    Column("session_hash", String, nullable=False),
    Column("purpose", String, nullable=False),
    Column("method", String, nullable=False),
    Column("subject", String, nullable=False),  # keyed hash of who it was: this phone, this authenticator
    Column("verified_at", Integer, nullable=False),
    Column("waited_at", Integer),  # when the person was last heard of, waiting for the organiser
)

tickets = Table(
    "tickets",
    metadata,
    Column("jti", String, primary_key=True),
    Column("invitation_id", ForeignKey("invitations.id"), nullable=False, index=True),
    Column("verification_id", ForeignKey("verifications.id"), nullable=False, index=True),
    Column("room", String, nullable=False),
    Column("issued_at", Integer, nullable=False),
    Column("used_at", Integer),
    Column("gate_session", String, unique=True),  # the XMPP session that used it up
    Column("admitted_at", Integer),
    Column("dead", Boolean, nullable=False, server_default="0"),
    Column("origin", LargeBinary),  # the network it was used from, where the class keeps it
)

attendance = Table(
    "attendance",
    metadata,
    Column("gate_session", String, primary_key=True),
    Column("invitation_id", ForeignKey("invitations.id"), nullable=False, index=True),
    Column("epoch", String, nullable=False),
    Column("open", Boolean, nullable=False, index=True),
    Column("record", LargeBinary, nullable=False),  # sealed JSON: when, how, from where
)

gate_epochs = Table(
    # How far each start of Prosody has been heard: what is resent is counted once.
    "gate_epochs",
    metadata,
    Column("epoch", String, primary_key=True),
    Column("seq", Integer, nullable=False),
    Column("seen_at", Integer, nullable=False),  # the last proof that who was inside still was
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String, nullable=False),  # mail, sms, nothing
    Column("invitation_id", ForeignKey("invitations.id"), index=True),
    Column("message", LargeBinary, nullable=False),  # sealed JSON; emptied once handed over
    Column("created_at", Integer, nullable=False),
    Column("due_at", Integer, index=True),  # null: handed over, or given up
    Column("expires_at", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("sent_at", Integer),
    Column("error", String),
    Index("ix_outbox_kind", "kind", "created_at"),
)

audit = Table(
    # Append-only: triggers refuse every other change.
    "audit",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("entry", String, nullable=False),  # canonical JSON
    Column("hash", String, nullable=False),
)

audit_head = Table(
    # One row: the newest entry, and a MAC over its number and hash.
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", Integer, nullable=False),
    Column("hash", String, nullable=False),
    Column("mac", String, nullable=False),
)
