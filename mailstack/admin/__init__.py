"""The commands: what an operator does, over the same verbs as the stack itself."""
