"""Work in the background: writers that no request waits for, and the lock that elects one process for such work."""
