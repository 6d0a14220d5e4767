"""Amazon ElastiCache: cache clusters with a real Valkey behind their endpoints."""
