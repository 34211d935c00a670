"""Evolution's library, without its desktop; prints a line of JSON for each subject. See test_camel.py.

Run by the system's Python, which has the library's bindings. Words: port, user, password, the authority's
certificate, a folder of its own, which is there; the conversation is in its file `said`.
"""

import imaplib
import json
import os
import ssl
import sys
import time
from pathlib import Path

import gi

gi.require_version("Camel", "1.2")
from gi.repository import Camel, Gio, GLib  # noqa: E402

port, user, password, ca, place = sys.argv[1:]
PATIENCE = 120
SAID = Path(place) / "said"
MESSAGE = "From: j@example.test\r\nSubject: {}\r\nMessage-ID: <{}@camel>\r\n\r\nlines of {}\r\n"
OUT = os.fdopen(os.dup(1), "w")
os.dup2(os.open(SAID, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)  # where the library logs its conversation
GLib.timeout_add(50, lambda: True)  # so that the loop turns


def say(what, value):
    print(what + " " + json.dumps(value), file=OUT, flush=True)


def heard():
    """All that was sent and received so far."""
    return SAID.read_text(errors="replace")


class Session(Camel.Session):
    """Knows the password, and trusts whom our authority has signed."""

    def do_authenticate_sync(self, service, mechanism, cancellable):
        service.set_password(password)
        return service.authenticate_sync(mechanism, cancellable) == Camel.AuthenticationResult.ACCEPTED

    def do_trust_prompt(self, service, certificate, errors):
        wrong = certificate.verify(None, Gio.TlsCertificate.new_from_file(ca))
        return Camel.CertTrust.NEVER if wrong else Camel.CertTrust.TEMPORARY


class Other:
    """Another client of the same user, which knows none of that: what it does must be heard by the first."""

    def __init__(self):
        self.imap = imaplib.IMAP4_SSL(
            "localhost", int(port), ssl_context=ssl.create_default_context(cafile=ca)
        )
        self.imap.login(user, password)

    def append(self, mailbox, subject):
        answer = self.imap.append(mailbox, None, None, MESSAGE.format(*[subject] * 3).encode())
        assert answer[0] == "OK", answer

    def in_inbox(self, command, *words):
        assert self.imap.select("INBOX")[0] == "OK"
        assert self.imap.uid(command, *words)[0] == "OK"
        self.imap.unselect()


def until(true):
    """Let the library work until it is so."""
    give_up = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < give_up, "nothing was heard"
        GLib.MainContext.default().iteration(True)


def connect():
    session = Session(user_data_dir=place, user_cache_dir=place + "/cache")
    session.set_online(True)
    store = session.add_service("account", "imapx", Camel.ProviderType.STORE)
    settings = store.ref_settings()
    settings.set_property("host", "localhost")
    settings.set_property("port", int(port))
    settings.set_property("user", user)
    settings.set_property("security-method", Camel.NetworkSecurityMethod.SSL_ON_ALTERNATE_PORT)
    settings.set_property("use-qresync", True)
    settings.set_property("use-subscriptions", False)
    for name in ("filter-all", "filter-inbox", "filter-junk", "filter-junk-inbox"):
        settings.set_property(name, False)  # the filters are the desktop's
    store.set_online_sync(True, None)
    store.connect_sync(None)
    return session, store


def subjects(folder):
    infos = [folder.get_message_info(uid) for uid in folder.get_uids()]
    return sorted(info.get_subject() for info in infos if info)


def with_subject(folder, subject):
    [uid] = [uid for uid in folder.get_uids() if folder.get_message_info(uid).get_subject() == subject]
    return uid


def its_own_work(store, sent):
    """What one does with mail."""
    message = Camel.MimeMessage()
    message.set_subject("Grüße")
    message.set_message_id("own@camel")
    message.set_content(b"a needle in it\n", "text/plain")
    store.create_folder_sync("", "Bücher", None)
    books = store.get_folder_sync("Bücher", 0, None)
    say("appended", books.append_message_sync(message, Camel.MessageInfo.new(None), None)[1])
    books.refresh_info_sync(None)
    say("subjects", subjects(books))
    # Its bindings would free what search_by_expression returns, which is the library's own.
    say(
        "found",
        [
            books.count_by_expression(f'(match-all (body-contains "{word}"))', None)
            for word in ("needle", "thread")
        ],
    )
    uid = with_subject(books, "Grüße")
    say("text", books.get_message_sync(uid, None).get_content().get_byte_array().decode())
    flags = Camel.MessageFlags.FLAGGED | Camel.MessageFlags.ANSWERED
    books.set_message_flags(uid, flags, flags)
    books.synchronize_sync(False, None)
    books.transfer_messages_to_sync([uid], sent, True, None)
    books.refresh_info_sync(None)
    say("moved", [subjects(books), subjects(sent)])


def what_others_do(inbox, other):
    """Said by the server without a question: there is no poll here."""
    other.append("INBOX", "arrived")
    until(lambda: "arrived" in subjects(inbox))
    uid = with_subject(inbox, "arrived")
    say("arrived", subjects(inbox))
    other.in_inbox("STORE", uid, "+FLAGS", r"(\Flagged)")
    until(lambda: inbox.get_message_flags(uid) & Camel.MessageFlags.FLAGGED)
    say("flagged", True)
    other.in_inbox("STORE", uid, "+FLAGS", r"(\Deleted)")
    other.in_inbox("EXPUNGE", uid)
    until(lambda: "arrived" not in subjects(inbox))
    say("gone", subjects(inbox))


def mailboxes_of_others(other):
    """New, subscribed and gone: the library is told at once, and looks when it lists the next time."""
    for do, told in (
        ("create", r"\HasNoChildren"),
        ("subscribe", r"\Subscribed \HasNoChildren"),
        ("delete", r"\Subscribed \NonExistent \Noselect \HasNoChildren"),
    ):
        getattr(other.imap, do)("Theirs")
        until(lambda told=told: f'* LIST ({told}) "/" Theirs' in heard())
        say(do, True)


def mail_for_another(sent, other):
    """Not for the mailbox that is open: the server says its STATUS, and the library looks."""
    other.append("Sent", "elsewhere")
    until(lambda: "elsewhere" in subjects(sent))
    say("elsewhere", subjects(sent))


Camel.init(place, False)
Camel.Provider.init()
session, store = connect()
inbox = store.get_folder_sync("INBOX", 0, None)
inbox.refresh_info_sync(None)
store.get_folder_info_sync("", Camel.StoreGetFolderInfoFlags.RECURSIVE, None)  # or it knows no mailbox
sent = store.get_folder_sync("Sent", 0, None)
other = Other()
what_others_do(inbox, other)
mailboxes_of_others(other)
mail_for_another(sent, other)
its_own_work(store, sent)
store.disconnect_sync(True, None)
say("DONE", None)
