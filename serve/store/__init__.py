"""What the service remembers: users, jobs and their events, uploads, models, in SQLite or PostgreSQL."""
