"""Mail and SMS: how a message is handed over. Knows nothing of who may see what."""
