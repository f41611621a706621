"""API explorer: every operation of the API with its parameters, and a form that sends the request."""
