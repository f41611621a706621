"""Headers and static files of the pages for browsers: console, API reference and start page."""
