"""Amazon CloudWatch: metrics that the emulation itself reports."""
