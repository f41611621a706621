"""Sources: list, addition, change, removal, and syncs of an administrator."""
