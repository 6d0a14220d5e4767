"""The process runtime's inner parts: what the emulator does itself, and the agent that lives in a task's namespaces."""
