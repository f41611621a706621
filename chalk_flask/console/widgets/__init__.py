"""Parts of pages that macros of `macros.html` render: lists with pages, charts, and base classes of forms."""
