"""A conversation for each capability of IMAP that is advertised after the login: see `test_every_capability`."""

from __future__ import annotations

# alice has three messages in INBOX and has selected it.
TRANSCRIPTS = {
    "IMAP4rev1": r"""
        C: a FETCH 1 (FLAGS RFC822.SIZE BODY[TEXT])
        S: * 1 FETCH (FLAGS (\Seen \Recent) RFC822.SIZE 144 BODY[TEXT] {8}
        S: body 1
        S: )
        S: a OK FETCH completed
    """,
    "IMAP4rev2": r"""
        C: a ENABLE IMAP4rev2
        S: * ENABLED IMAP4rev2
        S: a OK ENABLE completed
        C: b SEARCH SUBJECT "letter 2"
        S: * ESEARCH (TAG "b") ALL 2
        S: b OK SEARCH completed
    """,
    "UTF8=ACCEPT": r"""
        C: a ENABLE UTF8=ACCEPT
        S: * ENABLED UTF8=ACCEPT
        S: a OK ENABLE completed
        C: b CREATE "Bücher"
        S: b OK [MAILBOXID (...)] CREATE completed
        C: c LIST "" B*
        S: * LIST (\HasNoChildren) "/" "Bücher"
        S: c OK LIST completed
    """,
    "LITERAL+": r"""
        C: a STATUS {5+}
        C: INBOX (MESSAGES)
        S: * STATUS INBOX (MESSAGES 3)
        S: a OK STATUS completed
    """,
    "ID": r"""
        C: a ID ("name" "x")
        S: * ID ("name" "mailstack" "version" "...")
        S: a OK ID completed
    """,
    "ENABLE": r"""
        C: a ENABLE CONDSTORE X-NOTHING
        S: * ENABLED CONDSTORE
        S: a OK ENABLE completed
    """,
    "NAMESPACE": r"""
        C: a NAMESPACE
        S: * NAMESPACE (("" "/")) (("Other Users/" "/")) NIL
        S: a OK NAMESPACE completed
    """,
    "IDLE": r"""
        C: a IDLE
        S: + idling
        C: DONE
        S: a OK IDLE completed
    """,
    "UIDPLUS": r"""
        C: a STORE 1:2 +FLAGS.SILENT (\Deleted)
        S: a OK STORE completed
        C: b UID EXPUNGE 2
        S: * 2 EXPUNGE
        S: * 2 RECENT
        S: b OK EXPUNGE completed
        C: c COPY 1 Archive
        S: c OK [COPYUID ... 1 1] COPY completed
    """,
    "MOVE": r"""
        C: a MOVE 2 Archive
        S: * OK [COPYUID ... 2 1] Moved
        S: * 2 EXPUNGE
        S: * 2 RECENT
        S: a OK MOVE completed
    """,
    "CHILDREN": r"""
        C: a CREATE Box/one
        S: a OK [MAILBOXID (...)] CREATE completed
        C: b LIST "" Box
        S: * LIST (\HasChildren) "/" Box
        S: b OK LIST completed
    """,
    "UNSELECT": r"""
        C: a UNSELECT
        S: a OK UNSELECT completed
        C: b FETCH 1 FLAGS
        S: b BAD not allowed in the authenticated state
    """,
    "CONDSTORE": r"""
        C: a STORE 1 (UNCHANGEDSINCE 1) +FLAGS.SILENT (\Seen)
        S: a OK [MODIFIED 1] STORE completed
        C: b FETCH 3 (FLAGS) (CHANGEDSINCE 1)
        S: * 3 FETCH (FLAGS (\Recent) MODSEQ (...))
        S: b OK FETCH completed
    """,
    "QRESYNC": r"""
        C: a ENABLE QRESYNC
        S: * ENABLED QRESYNC
        S: a OK ENABLE completed
        C: b STORE 1 +FLAGS.SILENT (\Deleted)
        S: * 1 FETCH (UID 1 MODSEQ (...))
        S: b OK STORE completed
        C: c EXPUNGE
        S: * VANISHED 1
        S: * 2 RECENT
        S: c OK [HIGHESTMODSEQ ...] EXPUNGE completed
    """,
    "SEARCHRES": r"""
        C: a SEARCH RETURN (SAVE) SUBJECT 2
        S: a OK SEARCH completed
        C: b FETCH $ (UID)
        S: * 2 FETCH (UID 2)
        S: b OK FETCH completed
    """,
    "WITHIN": r"""
        C: a SEARCH YOUNGER 3600
        S: * SEARCH 1 2 3
        S: a OK SEARCH completed
    """,
    "PARTIAL": r"""
        C: a SEARCH RETURN (PARTIAL -1:-2) ALL
        S: * ESEARCH (TAG "a") PARTIAL (-1:-2 2:3)
        S: a OK SEARCH completed
    """,
    "ESORT": r"""
        C: a SORT RETURN (COUNT MIN) (REVERSE DATE) UTF-8 ALL
        S: * ESEARCH (TAG "a") MIN 3 COUNT 3
        S: a OK SORT completed
    """,
    "SORT": r"""
        C: a SORT (REVERSE SUBJECT) UTF-8 ALL
        S: * SORT 3 2 1
        S: a OK SORT completed
    """,
    "SORT=DISPLAY": r"""
        C: a SORT (DISPLAYFROM) UTF-8 ALL
        S: * SORT 3 2 1
        S: a OK SORT completed
    """,
    "THREAD=ORDEREDSUBJECT": r"""
        C: a THREAD ORDEREDSUBJECT UTF-8 ALL
        S: * THREAD (1)(2)(3)
        S: a OK THREAD completed
    """,
    "THREAD=REFERENCES": r"""
        C: a THREAD REFERENCES UTF-8 ALL
        S: * THREAD (1 2)(3)
        S: a OK THREAD completed
    """,
    "THREAD=REFS": r"""
        C: a THREAD REFS UTF-8 ALL
        S: * THREAD (1 2)(3)
        S: a OK THREAD completed
    """,
    "UNAUTHENTICATE": r"""
        C: a UNAUTHENTICATE
        S: a OK UNAUTHENTICATE completed
        C: b SELECT INBOX
        S: b BAD not allowed in the not authenticated state
    """,
    "SPECIAL-USE": r"""
        C: a LIST (SPECIAL-USE) "" S*
        S: * LIST (\HasNoChildren \Sent) "/" Sent
        S: a OK LIST completed
    """,
    "CREATE-SPECIAL-USE": r"""
        C: a CREATE Bin (USE (\Trash))
        S: a OK [MAILBOXID (...)] CREATE completed
        C: b LIST "" Bin RETURN (SPECIAL-USE)
        S: * LIST (\HasNoChildren \Trash) "/" Bin
        S: b OK LIST completed
    """,
    "LIST-EXTENDED": r"""
        C: a LIST () "" (INBOX Sent) RETURN (SUBSCRIBED)
        S: * LIST (\Subscribed \HasNoChildren) "/" INBOX
        S: * LIST (\Subscribed \HasNoChildren \Sent) "/" Sent
        S: a OK LIST completed
    """,
    "LIST-STATUS": r"""
        C: a LIST "" INBOX RETURN (STATUS (MESSAGES))
        S: * LIST (\HasNoChildren) "/" INBOX
        S: * STATUS INBOX (MESSAGES 3)
        S: a OK LIST completed
    """,
    "REPLACE": r"""
        C: a REPLACE 3 INBOX {6+}
        C: a: b
        C:
        S: * OK [APPENDUID ... 4] Replacement message ready
        S: * 3 EXPUNGE
        S: * 3 EXISTS
        S: * 3 RECENT
        S: a OK REPLACE completed
    """,
    "CATENATE": r"""
        C: a APPEND INBOX CATENATE (URL "/INBOX/;UID=1/;SECTION=HEADER" TEXT {3+}
        C: new)
        S: * 4 EXISTS
        S: * 4 RECENT
        S: a OK [APPENDUID ... 4] APPEND completed
    """,
    "URLAUTH": r"""
        C: a GENURLAUTH "imap://alice%40example.test@mail.example.test/INBOX/;UID=1;URLAUTH=user+alice%40example.test" INTERNAL
        S: * GENURLAUTH "imap://alice%40example.test@mail.example.test/INBOX/;UID=1;URLAUTH=user+alice%40example.test:internal:..."
        S: a OK GENURLAUTH completed
        C: b RESETKEY
        S: b OK [URLMECH INTERNAL] RESETKEY completed
    """,
    "URL-PARTIAL": r"""
        C: a APPEND INBOX CATENATE (URL "/INBOX/;UID=1/;PARTIAL=0.4" TEXT {3+}
        C: new)
        S: * 4 EXISTS
        S: * 4 RECENT
        S: a OK [APPENDUID ... 4] APPEND completed
    """,
    "BINARY": r"""
        C: a FETCH 1 (BINARY.SIZE[1] BINARY[1])
        S: * 1 FETCH (FLAGS (\Seen \Recent) BINARY.SIZE[1] 8 BINARY[1] {8}
        S: body 1
        S: )
        S: a OK FETCH completed
    """,
    "SAVEDATE": r"""
        C: a FETCH 1 (SAVEDATE)
        S: * 1 FETCH (SAVEDATE "...")
        S: a OK FETCH completed
    """,
    "OBJECTID": r"""
        C: a FETCH 1 (EMAILID)
        S: * 1 FETCH (EMAILID (...))
        S: a OK FETCH completed
    """,
    "PREVIEW": r"""
        C: a FETCH 1 (PREVIEW)
        S: * 1 FETCH (PREVIEW "body 1")
        S: a OK FETCH completed
    """,
    "METADATA": r"""
        C: a SETMETADATA INBOX (/private/comment "mine")
        S: a OK SETMETADATA completed
        C: b GETMETADATA INBOX /private/comment
        S: * METADATA INBOX (/private/comment "mine")
        S: b OK GETMETADATA completed
    """,
    "METADATA-SERVER": r"""
        C: a GETMETADATA "" /shared/admin
        S: * METADATA "" (/shared/admin NIL)
        S: a OK GETMETADATA completed
    """,
    "LIST-METADATA": r"""
        C: a LIST "" INBOX RETURN (METADATA (/private/comment))
        S: * LIST (\HasNoChildren) "/" INBOX
        S: * METADATA INBOX (/private/comment NIL)
        S: a OK LIST completed
    """,
    "ACL": r"""
        C: a SETACL INBOX bob@example.test lr
        S: a OK SETACL completed
        C: b GETACL INBOX
        S: * ACL INBOX alice@example.test lrswipkxteacd bob@example.test lr
        S: b OK GETACL completed
        C: c MYRIGHTS INBOX
        S: * MYRIGHTS INBOX lrswipkxteacd
        S: c OK MYRIGHTS completed
        C: d DELETEACL INBOX bob@example.test
        S: d OK DELETEACL completed
    """,
    "RIGHTS=kxte": r"""
        C: a LISTRIGHTS INBOX bob@example.test
        S: * LISTRIGHTS INBOX bob@example.test "" l r s w i p k x t e a c d
        S: a OK LISTRIGHTS completed
    """,
    "LIST-MYRIGHTS": r"""
        C: a LIST "" INBOX RETURN (MYRIGHTS)
        S: * LIST (\HasNoChildren) "/" INBOX
        S: * MYRIGHTS INBOX lrswipkxteacd
        S: a OK LIST completed
    """,
    "FILTERS": r"""
        C: a SETMETADATA "" (/private/filters/values/two "SUBJECT 2")
        S: a OK SETMETADATA completed
        C: b SEARCH FILTER two
        S: * SEARCH 2
        S: b OK SEARCH completed
    """,
    "LANGUAGE": r"""
        C: a LANGUAGE en
        S: * LANGUAGE ("EN")
        S: a OK LANGUAGE completed
    """,
    "I18NLEVEL=1": r"""
        C: a SEARCH CHARSET UTF-8 SUBJECT {6+}
        C: LETTER
        S: * SEARCH 1 2 3
        S: a OK SEARCH completed
    """,
    "SEARCH=FUZZY": r"""
        C: a SEARCH FUZZY SUBJECT leter
        S: * SEARCH 1 2 3
        S: a OK SEARCH completed
    """,
    "MULTISEARCH": r"""
        C: a ESEARCH IN (mailboxes INBOX) RETURN (ALL) SUBJECT 2
        S: * ESEARCH (TAG "a" MAILBOX INBOX UIDVALIDITY ...) UID ALL 2
        S: a OK ESEARCH completed
    """,
    "NOTIFY": r"""
        C: a NOTIFY SET STATUS (mailboxes Archive (MessageNew MessageExpunge))
        S: * STATUS Archive (MESSAGES 0 UIDNEXT 1 UIDVALIDITY ...)
        S: a OK NOTIFY completed
        C: b NOTIFY NONE
        S: b OK NOTIFY completed
    """,
    "CONTEXT=SEARCH": r"""
        C: a SEARCH RETURN (UPDATE COUNT) UNSEEN
        S: * ESEARCH (TAG "a") COUNT 3
        S: a OK SEARCH completed
        C: b STORE 1 +FLAGS.SILENT (\Seen)
        S: * ESEARCH (TAG "a") REMOVEFROM (0 1)
        S: b OK STORE completed
        C: c CANCELUPDATE "a"
        S: c OK No further updates
    """,
    "CONTEXT=SORT": r"""
        C: a SORT RETURN (UPDATE COUNT) (DATE) UTF-8 UNSEEN
        S: * ESEARCH (TAG "a") COUNT 3
        S: a OK SORT completed
        C: b STORE 1 +FLAGS.SILENT (\Seen)
        S: * ESEARCH (TAG "a") REMOVEFROM (1 1)
        S: b OK STORE completed
        C: c CANCELUPDATE "a"
        S: c OK No further updates
    """,
    "UIDONLY": r"""
        C: a ENABLE UIDONLY
        S: * ENABLED UIDONLY
        S: a OK ENABLE completed
        C: b FETCH 1 FLAGS
        S: b BAD [UIDREQUIRED] There are no message numbers; use UIDs
        C: c UID FETCH 1 (FLAGS)
        S: * 1 UIDFETCH (UID 1 FLAGS (\Recent))
        S: c OK UID FETCH completed
    """,
    "STATUS=SIZE": r"""
        C: a STATUS INBOX (SIZE)
        S: * STATUS INBOX (SIZE 451)
        S: a OK STATUS completed
    """,
    "ESEARCH": r"""
        C: a SEARCH RETURN (MIN MAX COUNT) ALL
        S: * ESEARCH (TAG "a") MIN 1 MAX 3 COUNT 3
        S: a OK SEARCH completed
    """,
    "MULTIAPPEND": r"""
        C: a APPEND INBOX {6+}
        C: a: b
        C:  {6+}
        C: c: d
        C:
        S: * 5 EXISTS
        S: * 5 RECENT
        S: a OK [APPENDUID ... 4:5] APPEND completed
    """,
    "QUOTA": r"""
        C: a GETQUOTAROOT INBOX
        S: * QUOTAROOT INBOX "User quota"
        S: * QUOTA "User quota" (STORAGE 1 1024 MESSAGE 3 100)
        S: a OK GETQUOTAROOT completed
    """,
    "QUOTA=RES-STORAGE": r"""
        C: a GETQUOTA "User quota"
        S: * QUOTA "User quota" (STORAGE 1 1024 MESSAGE 3 100)
        S: a OK GETQUOTA completed
    """,
    "QUOTA=RES-MESSAGE": r"""
        C: a STATUS INBOX (DELETED)
        S: * STATUS INBOX (DELETED 0)
        S: a OK STATUS completed
    """,
    "APPENDLIMIT": r"""
        C: a STATUS INBOX (APPENDLIMIT)
        S: * STATUS INBOX (APPENDLIMIT 52428800)
        S: a OK STATUS completed
    """,
    "MESSAGELIMIT": r"""
        C: a SEARCH UIDBEFORE 2
        S: * SEARCH 1
        S: a OK SEARCH completed
    """,
}
