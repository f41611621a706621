"""Commands of `chalk-flask`, one module per command; `chalk_flask.cli` adds them to the command line."""
