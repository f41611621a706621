"""Dashboard: contents and age of the roster, requests of applications, and problems to solve."""
