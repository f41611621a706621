"""Base classes of forms, and the values that macros of `macros.html` render: pages of lists and charts."""
