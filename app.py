"""WSGI entry point: `app` for any WSGI server. `python app.py` is the same as `chalk-flask serve`."""

from chalk_flask import create_app
from chalk_flask.cli import main
from chalk_flask.monitoring.worker_watch import WorkerWatch

if __name__ == "__main__":
    main(["serve"])
app = create_app()
WorkerWatch(app.extensions["chalk"]).start()
