"""Own account of the administrator: password, two-factor sign-in, sessions, and theme."""
