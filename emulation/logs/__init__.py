"""CloudWatch Logs: the awslogs driver, and log groups that can be followed live."""
