"""Work in the background: writers that no request waits for, threads that repeat a task, and the lock that elects one
process for such work. `python_program.py` has the command line of further processes. `allocator.py` limits and trims
the memory arenas of all threads.
"""
