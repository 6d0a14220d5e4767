"""Application Load Balancers: Envoy balances, health checks are really made."""
