"""Systems Manager Parameter Store, as far as other services ask it: the values of parameters."""
