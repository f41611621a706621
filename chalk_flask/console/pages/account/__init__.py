"""Own account of the administrator: password, mail, two-factor sign-in, sessions, and theme."""
