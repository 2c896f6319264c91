"""What every request passes before its route, from outside in: request id, errors, API key, body limit.

These are ASGI classes, because Starlette's function middleware hides disconnects and breaks context variables.
"""
