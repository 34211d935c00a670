"""So that ``twistd mailstack`` finds us. Nothing heavy is imported here: the options may choose a reactor."""

from twisted.application.service import ServiceMaker

mailstack = ServiceMaker("mailstack", "mailstack.stack", "A full mail stack: SMTP, IMAP, POP3", "mailstack")
