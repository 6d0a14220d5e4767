"""What each service needs of the others, made of them: a room for each. `cloud.py` puts the rooms together."""
