"""Tables and every query, one file per family. SQLite and PostgreSQL mean the same here."""
