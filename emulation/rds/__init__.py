"""Amazon RDS: DB instances with a real PostgreSQL behind their endpoints."""
