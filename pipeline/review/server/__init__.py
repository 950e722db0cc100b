"""The reading room as a web server: the only room that knows fastapi and uvicorn."""
