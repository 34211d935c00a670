"""The protocols as pure state machines: bytes to events, replies to bytes."""
