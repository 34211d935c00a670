"""The changes, in the order of their `down_revision`."""
