"""WSGI entry point: `app` for any WSGI server. `python app.py` is the same as `chalk-flask serve`."""

from chalk_flask import create_app

if __name__ == "__main__":
    from chalk_flask.cli import main

    main(["serve"])
app = create_app()
