"""HTTPS client for servers that the operator configures, and the parser of their URLs.

`client.send_request` is the entry point. The parser alone is imported by the settings, so nothing is exported here: the
libraries of the client take time to import.
"""
