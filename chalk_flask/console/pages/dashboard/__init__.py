"""Dashboard: what the roster contains, how old it is, who reads it, and what needs attention."""
