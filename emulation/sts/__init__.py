"""Security Token Service, as far as other services ask it: sessions of roles."""
