"""ECS services: they keep their number of tasks running, and replace one release by the next."""
