"""IMAP4rev1 (RFC 3501) and its extensions, the server's side, as a pure state machine.

`framer` cuts octets into commands with their literals, `grammar` reads each into a dataclass of `commands`,
`server` holds the state (`states`), `responses` writes; `structure` writes ENVELOPE and BODYSTRUCTURE.
"""
