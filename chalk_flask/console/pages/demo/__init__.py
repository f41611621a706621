"""Page of the command `demo`: sample packages to import, and a receiver for webhooks. Other services have none."""
