"""Sign-in with password and one-time code, sign-out, and the setup of a new store."""
