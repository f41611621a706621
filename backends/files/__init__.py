"""Files of stores: private to their owner, and replaced as a whole."""
