"""The sample district: a OneRoster 1.1 CSV bulk package, as a folder, with an answer for every read endpoint.

All people, addresses and numbers in it are invented: hosts end in `.example`, telephone numbers lie in 555-0100 to
555-0199.
"""
