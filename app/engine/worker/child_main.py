"""What vLLM's processes import first, in place of the program that started the server: of that they need nothing.

Python's way to start a process begins with an import of the main module of its parent.
"""

from app.engine.worker.failures import report_failures

report_failures()  # from now on: vLLM warns of things while it is imported
