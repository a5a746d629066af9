"""The web process: webhooks in, health and metrics out. No decisions here."""
