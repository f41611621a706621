"""Pages of the console, one package for each section: views, and the forms next to them."""
