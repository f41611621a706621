"""Demo district: the folder of this module is a OneRoster 1.1 CSV bulk package with data for every read endpoint.

All people, addresses and numbers are invented: hosts end in `.example`, telephone numbers are 555-0100 to 555-0199.
"""
