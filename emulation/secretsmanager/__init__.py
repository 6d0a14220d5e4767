"""Secrets Manager, as far as other services ask it: the values of secrets."""
